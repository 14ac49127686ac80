"""Telemetry goes at most once a day, whenever whoever sends it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bot.config.telemetry import Telemetry
from bot.telemetry import sender
from database.engine.store import Store
from tests.crash.deaths import die_at

NOON = 1_796_040_000.0
DAY = 86_400.0


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """Whoever it is sent to, beside the processes that die: the address, and what came."""
    came: list[bytes] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/counts", came
        server.shutdown()
        thread.join()


def test_killed_at_this_place_what_goes_goes_once_a_day(tmp_path: Path) -> None:
    with listening() as (url, came):

        async def act(now: float) -> None:
            address = f"sqlite:///{tmp_path}/register.db"
            store = await Store.open(address)
            settings = SimpleNamespace(
                telemetry=Telemetry(enabled=True, url=url),
                operators={},
                register_url=address,
                connectors=[],
                accounts={},
            )
            services: Any = SimpleNamespace(store=store, settings=settings, clock=lambda: now, version="0.1.0")
            await sender.send(services)
            await store.close()

        # Before the day is taken, nothing has gone: it goes when Muster is back, and then not again.
        die_at("telemetry.taken.before", lambda: asyncio.run(act(NOON)))
        assert came == []
        for _ in range(2):
            asyncio.run(act(NOON))
            assert len(came) == 1
        # After it is taken, nobody knows how much of it went: that day's is lost, and the next day's goes.
        die_at("telemetry.taken.after", lambda: asyncio.run(act(NOON + DAY)))
        asyncio.run(act(NOON + DAY))
        assert len(came) == 1
        asyncio.run(act(NOON + 2 * DAY))
        assert len(came) == 2
