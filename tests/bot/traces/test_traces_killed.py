"""No span is lost, and none has two contents, whenever the orchestrator is killed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy import insert

from bot.traces import beginning
from bot.traces.collector import Collector
from bot.traces.gathering import SpanGatherer
from bot.traces.service import TraceExporter
from core.crash_points import declare
from database.engine.store import Store
from database.schema import inbox
from tests.crash.deaths import both, die_at

STEP = declare("tests.traces")
NOON = 1_796_040_000.0


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """A collector beside the processes that die: the address, and what came."""
    came: list[bytes] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", came
        server.shutdown()
        thread.join()


async def send(folder: Path, url: str, *events: str) -> None:
    """Note chat messages, and send what there is to send."""
    store = await Store.open(f"sqlite:///{folder}/register.db")
    await beginning.begin(store, NOON)
    gatherer = SpanGatherer(
        store=store, folder=lambda name: folder / name, commands={}, audited=lambda _: True, clock=lambda: NOON,
        sample=1.0,
    )  # fmt: skip
    exporter = TraceExporter(
        store=store, gatherer=gatherer, collector=Collector(url, {}), resource={"service.name": "muster"}, version="1",
        redact=str, clock=lambda: NOON,
    )  # fmt: skip
    for event in events:
        async with store.write(STEP) as tx:
            row = {
                "connector": "memory", "event_id": event, "conversation": "room", "sender": "@ana", "sent_at": NOON,
                "body": {"type": "text"}, "received_at": NOON, "state": "done", "handled_at": NOON + 1,
            }  # fmt: skip
            await tx.execute(insert(inbox).values(row))
    while await exporter.send_next():
        pass
    await store.close()


@pytest.mark.parametrize("place", both("traces.begin", "traces.sent"))
def test_killed_at_this_place_no_span_is_lost_or_another(tmp_path: Path, place: str) -> None:
    with listening() as (url, came):
        if not place.startswith("traces.begin"):
            asyncio.run(send(tmp_path, url))
        die_at(place, lambda: asyncio.run(send(tmp_path, url, "$1", "$2")))
        asyncio.run(send(tmp_path, url, "$3"))
        asyncio.run(send(tmp_path, url, "$4"))
    spans: dict[bytes, bytes] = {}
    events = []
    for body in came:
        for span in ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans:
            content = span.SerializeToString(deterministic=True)
            assert spans.setdefault(span.span_id, content) == content, "a span that is sent again is the same one"
            events.append(next(each.value.string_value for each in span.attributes if each.key == "muster.event.id"))
    # Killed as traces begin, the messages were not written down.
    before = [] if place.startswith("traces.begin") else ["$1", "$2"]
    # The collector had answered, and nothing said so: only then are spans sent twice.
    again = before if place == "traces.sent.before" else []
    assert sorted(events) == sorted([*before, *again, "$3", "$4"])
