"""The gateway of the fake Discord: hello, identify, heartbeats, dispatches, resume, and what ends a connection."""

from __future__ import annotations

import asyncio
import json
import secrets
import zlib
from typing import Any, TypeAlias

from aiohttp import WSMsgType, web

from tests.connectors.discord.fake_server_state import CONTENT, Session, World

Json: TypeAlias = dict[str, Any]

HEARTBEAT = 41_250
"""Milliseconds."""
_KNOWN_INTENTS = (1 << 26) - 1


class Gateway:
    """Connections to the sessions of a `World`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.address = ""
        self._open: set[web.WebSocketResponse] = set()

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._open.add(socket)
        line = _Line(socket, compress=request.query.get("compress"))
        session: Session | None = None
        sending: asyncio.Task[None] | None = None
        try:
            await line.say({"op": 10, "d": {"heartbeat_interval": HEARTBEAT}})
            async for heard in socket:
                if heard.type is not WSMsgType.TEXT:
                    break
                payload = json.loads(heard.data)
                match payload["op"]:
                    case 1:
                        await line.say({"op": 11})
                    case 2 | 6 if session is None:
                        session = await self._enter(line, payload)
                        if session is not None:
                            sending = asyncio.create_task(self._tell(line, session))
        finally:
            if sending is not None:
                sending.cancel()
            if session is not None and session.outgoing is line.outgoing:
                session.outgoing = None
            self._open.discard(socket)
            self.world.notify()
        return socket

    async def _enter(self, line: _Line, payload: Json) -> Session | None:
        """Identify or resume."""
        said, world = payload["d"], self.world
        if said["token"] != world.token:
            await line.socket.close(code=4004, message=b"Authentication failed.")
            return None
        if payload["op"] == 6:
            session = world.sessions.get(said["session_id"])
            if session is None:
                await line.say({"op": 9, "d": False})
                return None
            for missed in session.events:
                if missed["s"] > said["seq"]:
                    line.outgoing.put_nowait(missed)
            session.outgoing = line.outgoing
            world.resumes += 1
            session.sequence += 1
            line.outgoing.put_nowait({"op": 0, "t": "RESUMED", "s": session.sequence, "d": {}})
            world.notify()
            return session
        intents = said["intents"]
        if intents & ~_KNOWN_INTENTS:
            await line.socket.close(code=4013, message=b"Invalid intent(s).")
            return None
        if intents & CONTENT and not world.granted:
            await line.socket.close(code=4014, message=b"Disallowed intent(s).")
            return None
        world.identifies += 1
        session = Session(id=secrets.token_hex(8), intents=intents, outgoing=line.outgoing)
        ready = {
            "v": 10,
            "user": world.bot.json(),
            "session_id": session.id,
            "resume_gateway_url": world.resume_at or f"ws{self.address[4:]}/gateway",
            "guilds": [{"id": str(world.guild), "unavailable": True}] if world.inside else [],
            "private_channels": [],
            "application": {"id": str(world.bot.id), "flags": 0},
        }
        world.sessions[session.id] = session
        first: list[tuple[str, Json]] = [("READY", ready)]
        if world.inside:
            gone = {"id": str(world.guild), "unavailable": True}
            first.append(("GUILD_CREATE", gone if world.outage else world.guild_json()))
        for event, told in first:
            session.sequence += 1
            session.events.append({"op": 0, "t": event, "s": session.sequence, "d": told})
            line.outgoing.put_nowait(session.events[-1])
        if world.fickle:
            del world.sessions[session.id]
            line.outgoing.put_nowait({"op": 9, "d": False})
        world.notify()
        return session

    async def _tell(self, line: _Line, session: Session) -> None:
        while (payload := await line.outgoing.get()) is not None:
            if "freeze" in payload:
                line.frozen = True
                return
            if "close" in payload:
                session.outgoing = None
                await line.socket.close(code=payload["close"])
                return
            await line.say(payload)

    async def hang_up(self, app: web.Application) -> None:
        """End every connection."""
        for socket in list(self._open):
            await socket.close(code=1001)


class _Line:
    """One connection, compressed as a whole where that was asked for (documentation, "Transport Compression")."""

    def __init__(self, socket: web.WebSocketResponse, *, compress: str | None) -> None:
        assert compress in (None, "zlib-stream"), compress
        self.socket = socket
        self.outgoing: asyncio.Queue[Json | None] = asyncio.Queue()
        self.frozen = False
        self._squeeze = zlib.compressobj() if compress else None

    async def say(self, payload: Json) -> None:
        if self.frozen:
            return
        raw = json.dumps(payload)
        if self._squeeze is None:
            await self.socket.send_str(raw)
        else:
            squeezed = self._squeeze.compress(raw.encode()) + self._squeeze.flush(zlib.Z_SYNC_FLUSH)
            await self.socket.send_bytes(squeezed)
