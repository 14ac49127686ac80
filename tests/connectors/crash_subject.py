"""A small bot for kill tests: it runs as a process, is killed at a declared place, and runs again.

Its chat system is a `MemoryServer` in the test's process, behind a unix socket. It ends when everything was dealt with.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from connectors.contract import message_codec
from connectors.contract.connector_protocol import MessageRefused, Sink, TryLater
from connectors.contract.messages import Attachment, Batch, Capabilities, File, Health, Inbound, Outbound, Sent
from connectors.delivery import retention
from connectors.memory import ALL_CAPABILITIES, MemoryServer
from database.engine.store import Store
from tests.connectors import crash_runs

#: Keys are recognised by the server, or never: then the bot has to look.
MODES = ("keys", "looks")


def capabilities(mode: str) -> Capabilities:
    from dataclasses import replace

    return replace(ALL_CAPABILITIES, remembers_keys=None if mode == "looks" else 86400.0)


# --- the bot -----------------------------------------------------------------------------------------------------


async def main(register_url: str, socket: str, mode: str) -> None:
    """Live until everything is dealt with."""
    store = await Store.open(register_url)
    connector = SocketConnector(socket, mode)
    await crash_runs.lead(store, connector, (await connector.ask(op="end"))["end"])
    await retention.sweep(store, time.time(), retention.Horizon(bodies=-3600.0))
    await store.close()


# --- its chat system ---------------------------------------------------------------------------------------------


class SocketConnector:
    """Speaks to a `MemoryServer` in another process, one request per connection."""

    kind = "memory"

    def __init__(self, socket: str, mode: str) -> None:
        self.name = "memory"
        self.capabilities = capabilities(mode)
        self._socket = socket
        self._sink: Sink | None = None

    def subscribe(self, sink: Sink) -> None:
        self._sink = sink

    async def start(self, cursor: str | None) -> None:
        assert self._sink is not None
        place = int(cursor or 0)
        while events := (await self.ask(op="since", place=place))["events"]:
            place += len(events)
            await self._sink(Batch(events=tuple(_inbound(event) for event in events), cursor=str(place)))
        await asyncio.Event().wait()

    async def connected(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def send(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent:
        return _sent(await self._about("send", outbound, conversation, target))

    async def find(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent | None:
        answer = await self._about("find", outbound, conversation, target)
        return _sent(answer) if answer["event_id"] else None

    def scope(self) -> str:
        return "device-1"

    async def download(self, attachment: Attachment, *, limit: int) -> bytes:
        raise MessageRefused("there are no files here")

    async def typing(self, conversation: str, *, active: bool) -> None:
        pass

    async def health(self) -> Health:
        return Health(kind=self.kind, reachable=True, authenticated=True, last_seen=None, detail="")

    async def ask(self, **request: Any) -> dict[str, Any]:
        """One request, one answer."""
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            answer: dict[str, Any] = json.loads(await reader.readline())
        finally:
            writer.close()
            await writer.wait_closed()
        if "later" in answer:
            raise TryLater(answer["later"])
        return answer

    async def _about(self, op: str, outbound: Outbound, conversation: str, target: str | None) -> dict[str, Any]:
        return await self.ask(
            op=op,
            key=outbound.key,
            content=message_codec.encode(outbound.content),
            conversation=conversation,
            target=target,
        )


def _inbound(event: dict[str, Any]) -> Inbound:
    return Inbound(
        connector="memory",
        event_id=event["event_id"],
        conversation=event["conversation"],
        sender="@ana",
        sent_at=1.0,
        body=message_codec.decode_inbound(event["body"]),
    )


def _sent(answer: dict[str, Any]) -> Sent:
    return Sent(event_id=answer["event_id"], conversation=answer["made"])


class Counter:
    """The other end of the socket: a `MemoryServer` that answers the connector above."""

    def __init__(self, server: MemoryServer, mode: str) -> None:
        self.server = server
        self.mode = mode
        self.idle = asyncio.Event()
        self.idle.set()
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        self.idle.clear()
        try:
            if line := await reader.readline():
                answer = await self.answer(json.loads(line))
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass  # it was killed
        finally:
            writer.close()
            self._open -= 1
            if not self._open:
                self.idle.set()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["op"]:
            case "end":
                return {"end": self.server.end}
            case "since":
                events = self.server.since(request["place"])[:5]
                return {
                    "events": [
                        {"event_id": e.event_id, "conversation": e.conversation, "body": message_codec.encode(e.body)}
                        for e in events
                    ]
                }
            case "find":
                found = self.server.look(request["key"], request["conversation"])
                return {"event_id": found and found.event_id, "made": found and found.conversation}
        content = message_codec.decode_outbound(request["content"])
        assert not isinstance(content, File)
        outbound = Outbound(
            key=request["key"], connector="memory", conversation=request["conversation"], content=content
        )
        try:
            sent = await self.server.take(
                outbound, conversation=request["conversation"], target=request["target"], scope="device-1"
            )
        except TryLater as error:
            return {"later": str(error)}
        finally:
            if self.mode == "looks":
                self.server.forget_keys()
        return {"event_id": sent.event_id, "made": sent.conversation}
