"""The control socket against clients that are broken, slow or hostile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from fleet.control.agent_host_client import AgentLink
from fleet.errors import AgentUnreachable
from fleet.journal.events import JournalEntry, PermissionAsked, RuntimeStarted, TextChunk, TurnEnded
from tests.fleet.host.scripted_agent import LIMIT_S, START, Agent, gone, until


class Raw:
    """A client that may say anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, agent: Agent, *, hello: bool = True) -> Raw:
        raw = cls(*await asyncio.open_unix_connection(agent.spec.socket, limit=2**26))
        if hello:
            await raw.ask({"id": 0, "method": "hello", "params": {"protocol": 1}})
        return raw

    async def say(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    async def hear(self) -> Any:
        async with asyncio.timeout(LIMIT_S):
            line = await self.reader.readline()
        return json.loads(line) if line else None

    async def ask(self, message: Any) -> Any:
        await self.say(json.dumps(message).encode() + b"\n")
        return await self.hear()

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@pytest.mark.root
async def test_only_the_owner_can_reach_the_socket(agent: Agent) -> None:
    async with agent.running():
        assert oct(os.stat(agent.spec.socket).st_mode)[-3:] == "600"
        if os.geteuid() != 0:
            pytest.skip("needs root, to connect as another user")
        os.chmod(agent.spec.socket, 0o666)
        folder = agent.home
        while folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o011)
            folder = folder.parent
        script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(10))"
        command = [sys.executable, "-c", script, agent.spec.socket]
        stranger = await asyncio.create_subprocess_exec(
            "setpriv", "--reuid=65534", "--clear-groups", *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, error = await stranger.communicate()
        assert out == b"b''\n" or b"reset" in error.lower() or b"Permission" in error


GARBAGE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\0\xff\n",
    b"[]\n",
    b'{"id": {}, "method": "status"}\n',
    b'{"id": 1}\n',
    b"[" * 100_000 + b"\n",
    b"x" * (17 * 2**20) + b"\n",
]


async def test_garbage_gets_an_error_and_the_connection_closed(agent: Agent) -> None:
    async with agent.running() as link:
        for garbage, hello in itertools.product(GARBAGE, (False, True)):
            raw = await Raw.connect(agent, hello=hello)
            # Of a line that is too long not all is taken; then the answer may be lost with the connection.
            with contextlib.suppress(ConnectionError):
                await raw.say(garbage)
                answer = await raw.hear()
                assert answer is None or answer["error"]["code"] == "invalid"
                assert await raw.hear() is None
            raw.writer.transport.abort()
        assert (await link.status()).state in {"starting", "idle"}


async def test_nothing_is_answered_before_hello(agent: Agent) -> None:
    async with agent.running():
        raw = await Raw.connect(agent, hello=False)
        assert (await raw.ask({"id": 1, "method": "status"}))["error"]["code"] == "protocol"
        hello = await raw.ask({"id": 2, "method": "hello", "params": {"protocol": 99}})
        assert hello["result"]["protocol"] == 1
        assert hello["result"]["agent"] == "coder0"
        assert (await raw.ask({"id": "three", "method": "status"}))["id"] == "three"
        await raw.close()


BAD_REQUESTS: list[tuple[str, dict[str, Any], str]] = [
    ("nonsense", {}, "unknown_method"),
    ("send", {"text": "x"}, "invalid"),
    ("send", {"id": "", "text": "x"}, "invalid"),
    ("send", {"id": "m", "text": 5}, "invalid"),
    ("send", {"id": "m", "text": "x", "mode": "shout"}, "invalid"),
    ("send", {"id": "m", "text": "x", "images": "x"}, "invalid"),
    ("send", {"id": "m", "text": "x" * 1_000_001}, "too_long"),
    ("tail", {"entries": "all"}, "invalid"),
    ("follow", {"incarnation": -1, "seq": 0}, "invalid"),
    ("answer", {"incarnation": 1, "session": "s", "request": "1", "digest": "d", "option": "y"}, "too_late"),
]


async def test_bad_requests_are_refused_with_a_sentence(agent: Agent) -> None:
    async with agent.running():
        raw = await Raw.connect(agent)
        for method, params, code in BAD_REQUESTS:
            answer = await raw.ask({"id": 1, "method": method, "params": params})
            assert answer["error"]["code"] == code
            assert answer["error"]["message"].endswith(".")
        assert "result" in await raw.ask({"id": 2, "method": "status"})
        await raw.close()


async def test_a_follower_that_does_not_read_holds_nobody_up(agent: Agent) -> None:
    async with agent.running() as link:
        slow = await Raw.connect(agent)
        await slow.ask({"id": 1, "method": "follow", "params": {"incarnation": 0, "seq": 0}})
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await link.send("m1", "flood=3000 say=end")
        await until(link, TurnEnded)
        slow.writer.transport.abort()


async def test_following_has_no_gap_and_no_repeat_wherever_it_begins(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "say=a flood=500")
        await link.send("m2", "say=b")
        await until(link, TurnEnded, lambda event: event.message == "m2")
        everything = agent.entries()
        for start in everything[::7]:
            rest = [entry for entry in everything if entry.position > start.position]
            read: list[JournalEntry] = []
            async with asyncio.timeout(LIMIT_S):
                stream = link.follow(start.position)
                async for item in stream:
                    if isinstance(item, JournalEntry):
                        read.append(item)
                    if len(read) == len(rest):
                        break
                await stream.aclose()  # type: ignore[attr-defined]
            assert read == rest


async def test_who_follows_hears_of_a_change_of_state_before_the_next_heartbeat(agent: Agent) -> None:
    async with agent.running(heartbeat_s=600) as link:
        await link.send("m1", "ask=x")
        asked: PermissionAsked | None = None
        state = waiting = ""
        async with asyncio.timeout(LIMIT_S):
            stream = link.follow(START)
            async for item in stream:
                if not isinstance(item, JournalEntry):
                    state = item.state
                elif isinstance(item.event, PermissionAsked):
                    asked = item.event
                if asked is not None and state == "waiting" and not waiting:
                    waiting = state
                    await allow(link, asked)
                if waiting and state == "idle":
                    break
            await stream.aclose()  # type: ignore[attr-defined]


async def allow(link: AgentLink, asked: PermissionAsked) -> None:
    await link.answer(
        incarnation=link.hello.incarnation,
        session=asked.session,
        request=asked.request,
        digest=asked.digest,
        option="yes",
        by="ana",
    )


async def test_following_ends_with_the_agent_host_after_the_last_entry(agent: Agent) -> None:
    async with agent.running() as link:
        await until(link, RuntimeStarted)

        async def follow() -> list[str]:
            return [item.event.KIND async for item in link.follow(START) if isinstance(item, JournalEntry)]

        followers = [asyncio.create_task(follow()) for _ in range(3)]
        await link.send("m1", "say=x")
        await until(link, TurnEnded)
        await link.shutdown(reason="done")
        async with asyncio.timeout(LIMIT_S):
            for kinds in await asyncio.gather(*followers):
                assert kinds[0] == "opened"
                assert kinds[-1] == "closing"
        await gone(agent)
        with pytest.raises(AgentUnreachable):
            await link.status()


async def test_many_requests_at_once_get_each_its_own_answer(agent: Agent) -> None:
    async with agent.running() as link:
        ids = [f"m{number}" for number in range(100)]
        sent = await asyncio.gather(*[link.send(id_, "say=x") for id_ in ids], *[link.status() for _ in range(50)])
        assert len(sent) == 150
        await until(link, TurnEnded, lambda event: event.message == "m99")
        tail = await link.tail(3)
        assert [entry.position for entry in tail] == [entry.position for entry in agent.entries()[-3:]]
    assert len(agent.events(TextChunk)) == 100


async def test_a_socket_that_a_dead_host_left_is_replaced(agent: Agent) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(agent.spec.socket)
    with pytest.raises(AgentUnreachable):
        await AgentLink.connect(agent.spec.socket)
    async with agent.running() as link:
        assert link.hello.agent == "coder0"


async def test_too_many_connections_are_turned_away(agent: Agent) -> None:
    async with agent.running() as link:
        crowd = [await Raw.connect(agent, hello=False) for _ in range(31)]
        extra = await Raw.connect(agent, hello=False)
        with pytest.raises((ConnectionError, AssertionError)):
            assert await extra.ask({"id": 1, "method": "hello"}) is not None
        for raw in crowd:
            await raw.close()
        assert (await link.status()).state in {"starting", "idle"}
        extra.writer.transport.abort()
