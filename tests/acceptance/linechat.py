"""A chat server that speaks lines of JSON, and a seat at it; the connector to it is a package that a test installs."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bot.config.paths import Paths
from tests.acceptance.seat import LOOK_AGAIN, Seat, Seen

PLUGIN = Path(__file__).parent / "plugin" / "muster_linechat.py"
_ENTRY_POINTS = "[muster.connectors]\nlinechat = muster_linechat:LineChat\n"


class LineChatSeat(Seat):
    """The server itself, in which `ana` writes. Everything is text, in one room, and nothing is ever changed."""

    kind = "linechat"
    who = "ana"
    room = "fleet"
    shows_replies = False
    takes_back = False
    attaches = False

    def __init__(self, site: Path) -> None:
        self._site = site
        self._said: list[dict[str, Any]] = []
        self._clients: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()
        self._port = 0

    @classmethod
    @asynccontextmanager
    async def opened(cls, paths: Paths) -> AsyncIterator[LineChatSeat]:
        seat = cls(installed(paths.state / "site"))
        server = await asyncio.start_server(seat._serve, "127.0.0.1", 0, limit=1 << 20)
        seat._port = server.sockets[0].getsockname()[1]
        sys.path.insert(0, str(seat._site))
        importlib.invalidate_caches()
        try:
            yield seat
        finally:
            sys.path.remove(str(seat._site))
            sys.modules.pop("muster_linechat", None)
            server.close()
            for client in seat._clients:
                client.close()

    def block(self) -> Mapping[str, Any]:
        return {"port": self._port, "fleet_room": self.room}

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(self._site)}

    async def say(self, text: str, place: str) -> str:
        return str(self._post(self.who, place, text, None))

    async def look(self) -> list[Seen]:
        return [Seen(id=str(each["n"]), place=each["room"], text=each["text"]) for each in self._said if each["tag"]]

    async def news(self) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(LOOK_AGAIN):
                await self._changed.wait()
        except TimeoutError:
            pass

    # --- serving -------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async for raw in reader:
                match json.loads(raw):
                    case {"since": since}:
                        _write(writer, {"begins": len(self._said)})
                        for line in self._said[len(self._said) if since is None else since :]:
                            _write(writer, line)
                        self._clients.add(writer)
                    case {"say": text, "room": room, "tag": tag}:
                        self._post("muster", room, text, tag)
                    case {"find": tag}:
                        found = next((each["n"] for each in self._said if each["tag"] == tag), None)
                        _write(writer, {"found": tag, "n": found})
        except ConnectionError:
            pass
        finally:
            self._clients.discard(writer)
            writer.close()

    def _post(self, who: str, room: str, text: str, tag: str | None) -> int:
        line = {"n": len(self._said) + 1, "at": time.time(), "who": who, "room": room, "text": text, "tag": tag}
        self._said.append(line)
        for client in self._clients:
            _write(client, line)
        self._changed.set()
        return len(self._said)


def installed(site: Path) -> Path:
    """Install the connector's package into a folder, as an installer would: its module and what says where it is."""
    metadata = site / "muster_linechat-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: muster-linechat\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(_ENTRY_POINTS)
    shutil.copy(PLUGIN, site)
    return site


def _write(writer: asyncio.StreamWriter, line: Mapping[str, Any]) -> None:
    writer.write(json.dumps(line).encode() + b"\n")
