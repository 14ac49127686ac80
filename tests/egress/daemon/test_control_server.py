"""What the orchestrator tells an egress, and hears from it, over the control socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from egress.daemon import sync_control_client
from egress.daemon.control_client import EgressControlClient
from egress.daemon.startup import running
from egress.errors import EgressAbsent, EgressRefused, EgressSilent, EgressUnreachable
from egress.paths import EgressPaths
from egress.settings import AccountSettings, AgentRegistration, EgressSettings, LimitSettings
from tests.egress.whole_egress import Plane, anthropic, plane


@asynccontextmanager
async def _controlled(folder: Path) -> AsyncIterator[tuple[Plane, EgressControlClient]]:
    async with plane(folder, control=True) as made, EgressControlClient(made.paths.control) as client:
        yield made, client


def _coder(**more: object) -> AgentRegistration:
    given = {"agent": "coder0", "launch_id": "l1", "accounts": {"anthropic": "main"}, **more}
    return AgentRegistration.model_validate(given)


async def test_an_agent_is_registered_used_and_forgotten(tmp_path: Path) -> None:
    async with _controlled(tmp_path) as (made, client):
        address = await client.register(_coder())
        assert await client.register(_coder(launch_id="l2")) == address
        assert (await client.status())["agents"] == ["coder0"]
        assert address.socket is not None
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(address.socket)) as agent:
            response = await agent.post("http://egress/anthropic/v1/messages", json=anthropic())
            assert response.status == 200
        found = await client.entries(wait_s=10)
        assert found["ledger"] == (await client.status())["ledger"]
        (entry,) = found["entries"]
        assert (entry["seq"], entry["agent"], entry["launch_id"], entry["ended"]) == (1, "coder0", "l2", "completed")
        assert entry["tokens"]["input"] > 0
        assert {"seq", "account", "window"} <= set(found["observations"][0])
        await client.forget("coder0")
        assert (await client.status())["agents"] == []
        assert not made.paths.listener("coder0").exists()


async def test_settings_that_cannot_be_kept_do_not_hold(tmp_path: Path) -> None:
    async with _controlled(tmp_path) as (made, client):
        await client.register(_coder())
        before = await client.standing()
        place = made.paths.settings
        (place.with_name(f"{place.name}.new") / "in the way").mkdir(parents=True)
        lower = LimitSettings(kind="pool", scope="host", amount=1)
        with pytest.raises(EgressRefused, match="cannot be written"):
            await client.settings(EgressSettings(host="here", limits=(lower,), revision="2"))
        assert (await client.standing())["limits"] == before["limits"]
        assert (await client.status())["revision"] == "1"


async def test_news_of_the_ledger_is_waited_for(tmp_path: Path) -> None:
    async with _controlled(tmp_path) as (made, client):
        agent = await made.agent()
        waiting = asyncio.ensure_future(client.entries(wait_s=30))
        assert (await agent.post("/anthropic/v1/messages", json=anthropic())).status == 200
        found = await waiting
        assert [entry["seq"] for entry in found["entries"]] == [1]
        seen = found["observations"][-1]["seq"] if found["observations"] else 0
        later = await client.entries(after=1, observations_after=seen)
        assert later["entries"] == []


async def test_a_cut_off_is_acknowledged_counted_and_taken_back(tmp_path: Path) -> None:
    async with _controlled(tmp_path) as (made, client):
        agent = await made.agent()
        response = await agent.post("/anthropic/v1/messages", json=anthropic("[[say: a]][[hang]]", stream=True))
        await response.content.readuntil(b"text_delta")
        assert await client.deny("coder0", cause="enough", by="ops", id="c1") == 1
        assert b"enough" in await response.content.read()
        assert (await agent.post("/anthropic/v1/messages", json=anthropic())).status == 403
        actions = (await client.entries())["actions"]
        assert ("coder0", "cutoff", "enough", "ops") in {
            (each["agent"], each["action"], each["cause"], each["by"]) for each in actions
        }
        standing = await client.standing()
        assert standing["agents"]["coder0"]["denied"]
        await client.allow("coder0", cause="go on", by="ops", id="c2")
        assert (await agent.post("/anthropic/v1/messages", json=anthropic())).status == 200


async def test_the_emergency_stop_closes_everything_and_is_a_file(tmp_path: Path) -> None:
    async with _controlled(tmp_path) as (made, client):
        agent = await made.agent()
        response = await agent.post("/anthropic/v1/messages", json=anthropic("[[say: a]][[hang]]", stream=True))
        await response.content.readuntil(b"text_delta")
        assert await client.estop(cause="fire", by="ops") == 1
        assert b"emergency stop" in await response.content.read()
        assert made.paths.estop.exists()
        assert (await client.status())["estop"]
        assert (await agent.post("/anthropic/v1/messages", json=anthropic())).status == 403
        await client.clear_estop(cause="it is out", by="ops")
        assert not made.paths.estop.exists()
        assert (await agent.post("/anthropic/v1/messages", json=anthropic())).status == 200
        # By hand, without anybody who could be asked.
        response = await agent.post("/anthropic/v1/messages", json=anthropic("[[say: b]][[hang]]", stream=True))
        await response.content.readuntil(b"text_delta")
        made.paths.estop.touch()
        async with asyncio.timeout(10):
            assert b"emergency stop" in await response.content.read()


async def test_limits_are_told_and_stand(tmp_path: Path) -> None:
    async with _controlled(tmp_path) as (made, client):
        account = AccountSettings(name="main", provider="anthropic", upstream=made.provider.url, credential="env:K")
        limit = LimitSettings(kind="pool", scope="host", amount=3)
        settings = EgressSettings(host="here", accounts=(account,), limits=(limit,), revision="r2")
        await client.settings(settings, {"env:K": "pushed"})
        assert (await client.status())["revision"] == "r2"
        agent = await made.agent(accounts={"anthropic": "main"})
        response = await agent.post("/anthropic/v1/messages", json=anthropic())
        assert response.status in {403, 429}
        (standing,) = (await client.standing())["limits"]
        assert (standing["scope"], standing["limit"]) == ("host", 3)


async def test_what_cannot_be_done_is_told_in_a_sentence(tmp_path: Path) -> None:
    async with _controlled(tmp_path) as (made, client):
        bad = EgressSettings(
            host="here", accounts=(AccountSettings(name="a", provider="openai", upstream="http://u:secret@host"),)
        )
        with pytest.raises(EgressRefused, match="Account a") as raised:
            await client.settings(bad)
        assert "secret" not in str(raised.value)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(made.paths.control))) as raw:
            for method, path, content, status in [
                ("PUT", "/settings", b'{"settings": {}, "secrets": {"env:A": 5}}', 400),
                ("PUT", "/agents/coder0", b"not json: hunter2", 400),
                ("PUT", "/agents/coder0", _coder(agent="coder1").model_dump_json().encode(), 400),
                ("POST", "/deny", b'{"agent": "coder0", "action": "tickle", "cause": "", "by": "", "id": ""}', 400),
                ("GET", "/entries?after=x", b"", 400),
                ("GET", "/nowhere", b"", 404),
                ("DELETE", "/status", b"", 405),
            ]:
                response = await raw.request(method, f"http://egress{path}", data=content)
                told = json.loads(await response.read())
                assert (response.status, list(told)) == (status, ["error"]), path
                assert "hunter2" not in told["error"]


async def test_an_egress_that_is_not_there_is_told_apart(tmp_path: Path) -> None:
    async with EgressControlClient(tmp_path / "nowhere.sock") as client:
        with pytest.raises(EgressUnreachable, match=r"nowhere\.sock"):
            await client.status()


async def test_the_socket_is_its_owners_alone(tmp_path: Path) -> None:
    async with _controlled(tmp_path) as (made, _):
        assert made.paths.control.stat().st_mode & 0o777 == 0o600
        assert made.paths.sockets.stat().st_mode & 0o777 == 0o700
        for path in made.paths.folder.rglob("*"):
            # What is to be trusted is no secret, and shown to sandboxes.
            assert path.is_relative_to(made.paths.trust) or path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(("later", "lift"), [(60.0, 50), (-366 * 86_400.0, 0)])
async def test_an_egress_that_comes_back_with_a_clock_that_was_set_back_lifts_nothing(
    short_home: Path, later: float, lift: int
) -> None:
    paths, now = EgressPaths(state=short_home, sockets=short_home / "run"), 1_796_040_000.0
    lifted = LimitSettings(kind="pool", scope="host", amount=100, lift=50, lift_until=now + 3600)
    account = AccountSettings(name="main", provider="anthropic", upstream="https://127.0.0.1:9")
    async with running(paths, clock=lambda: now) as egress:
        await egress.configure(EgressSettings(host="here", accounts=(account,), limits=(lifted,), revision="1"))
        await egress.register(_coder())
    async with running(paths, clock=lambda: now + later) as egress:
        (limit,) = egress.gate.standing()["limits"]
        assert (limit["limit"], limit["lift"]) == (100 + lift, lift)


async def test_all_of_200_streams_are_closed_before_a_cut_off_is_acknowledged(tmp_path: Path) -> None:
    """By way of the client that `muster egress cutoff` uses."""
    body = json.dumps(anthropic("[[say: a]][[hang]]", stream=True)).encode()
    asking = (
        b"POST /anthropic/v1/messages HTTP/1.1\r\nHost: egress\r\nx-api-key: placeholder\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    async with _controlled(tmp_path) as (made, client):
        address = await client.register(_coder())
        assert address.socket is not None
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(200)]
            for stream in streams:
                stream.setblocking(False)
                await loop.sock_connect(stream, address.socket)
                await loop.sock_sendall(stream, asking)
            for stream in streams:
                content = b""
                while b"text_delta" not in content:
                    piece = await loop.sock_recv(stream, 2**16)
                    assert piece, content
                    content += piece

            def cut() -> tuple[int, int]:
                """How many the egress says it ended, and how many have an end to read by then."""
                wanted = {"agent": "coder0", "action": "cutoff", "cause": "", "by": "ops", "id": "c1"}
                said = sync_control_client.request(made.paths.control, "POST", "/deny", wanted)["streams"]
                return said, sum(_has_ended(stream) for stream in streams)

            assert await asyncio.to_thread(cut) == (200, 200)


def _has_ended(stream: socket.socket) -> bool:
    """Whether all that remains to be read is here, and is the end. Waits for nothing."""
    try:
        while stream.recv(2**16, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


async def test_the_direct_client_says_what_went_wrong(tmp_path: Path) -> None:
    async def ask(path: str = "/status", **more: Any) -> dict[str, Any]:
        return await asyncio.to_thread(sync_control_client.request, control, "GET", path, **more)

    async with _controlled(tmp_path) as (made, _):
        control = made.paths.control
        assert (await ask())["agents"] == []
        with pytest.raises(EgressRefused, match="Not Found") as refused:
            await ask("/nothing")
        assert refused.value.status == 404
    with pytest.raises(EgressAbsent):
        await ask()
    answers = iter([b"", b"HTTP/1.1 200 OK\r\n\r\n[1]", b"what?\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n\r\n{not json"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(answers))
        writer.close()

    async with await asyncio.start_unix_server(answer, control):
        for _ in range(4):
            with pytest.raises(EgressUnreachable, match="no egress"):
                await ask()
    control.unlink()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(control))
        deaf.listen()
        with pytest.raises(EgressSilent):
            await ask(timeout_s=0.05)
