"""An agent's requests through the whole of it: forwarded, metered, in the ledger before they end."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import socket
import sqlite3
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from egress.http import metered_exchange as passage
from egress.http import proxy
from egress.http.metered_exchange import MeteredExchange
from egress.settings import AccountSettings, LimitSettings
from fleet.sim.provider.billing_ledger import BilledRequest
from tests import waiting
from tests.egress.whole_egress import KEY, Plane, anthropic, chat, events, leaving, plane, responses

CALLS = [
    ("/anthropic/v1/messages", anthropic, "anthropic"),
    ("/openai/v1/responses", responses, "responses"),
    ("/openai/v1/chat/completions", chat, "chat"),
]


@pytest.mark.parametrize(("path", "ask", "api"), CALLS)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_provider_bills_is_in_the_ledger(
    tmp_path: Path, path: str, ask: Callable[..., dict[str, Any]], api: str, stream: bool
) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        async with agent.post(path, json=ask("[[say: yes]]", stream=stream)) as response:
            content = await response.read()
        assert response.status == 200, content
        assert b"yes" in content
        billed = await _billed(made, "completed")
        (entry,) = await made.entries(1)
        assert (entry.agent, entry.api, entry.ended, entry.reported) == ("coder0", api, "completed", True)
        assert entry.tokens.total == billed.usage.whole_input + billed.usage.output
        assert entry.status == 200


async def _billed(made: Plane, state: str) -> BilledRequest:
    """What the provider knows of the one request, once it has come to this state."""
    (found,) = await made.provider.ledger.find(lambda entry: entry.state == state, at_least=1, timeout=10)
    return found


async def _until_broken(response: aiohttp.ClientResponse) -> bytes:
    """What comes of a response that does not end in good order."""
    content = b""
    try:
        while piece := await response.content.readany():
            content += piece
    except aiohttp.ClientError:
        return content
    raise AssertionError("the response looks whole")


async def test_the_account_pays_and_the_placeholder_stays_here(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        for path, ask, _ in CALLS:
            assert (await agent.post(path, json=ask())).status == 200
        found = await made.provider.ledger.find(lambda entry: entry.state == "completed", at_least=3, timeout=10)
        assert {entry.account for entry in found} == {hashlib.sha256(KEY.encode()).hexdigest()[:12]}


async def test_an_agents_own_login_passes_where_that_is_set(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        await made.egress.configure(
            made.settings(
                AccountSettings(name="own", provider="anthropic", upstream=made.provider.url, passthrough=True)
            )
        )
        agent = await made.agent(accounts={"anthropic": "own"})
        assert (await agent.post("/anthropic/v1/messages", json=anthropic())).status == 200
        billed = await _billed(made, "completed")
        assert billed.account == hashlib.sha256(b"placeholder").hexdigest()[:12]


async def test_a_credential_that_is_not_there_is_told_and_one_that_changes_is_taken(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        (tmp_path / "key").unlink()
        refused = await agent.post("/anthropic/v1/messages", json=anthropic())
        assert refused.status == 503
        message = (await refused.json())["error"]["message"]
        assert str(tmp_path / "key") in message
        (tmp_path / "key").write_text("another")
        assert (await agent.post("/anthropic/v1/messages", json=anthropic())).status == 200
        assert (await _billed(made, "completed")).account == hashlib.sha256(b"another").hexdigest()[:12]


async def test_a_secret_is_taken_from_what_was_pushed_and_shown_nowhere(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        account = AccountSettings(
            name="main", provider="anthropic", upstream=made.provider.url, credential="env:NOT_IN_THIS_ENVIRONMENT"
        )
        await made.egress.configure(made.settings(account), {"env:NOT_IN_THIS_ENVIRONMENT": "pushed-secret"})
        agent = await made.agent(accounts={"anthropic": "main"})
        assert (await agent.post("/anthropic/v1/messages", json=anthropic())).status == 200
        assert "pushed-secret" not in json.dumps(made.egress.status())
        assert "pushed-secret" not in repr(made.egress.proxy.credentials)
        for path in made.paths.state.rglob("*"):
            if path.is_file():
                assert b"pushed-secret" not in path.read_bytes(), path


async def test_who_is_at_it_comes_from_the_turn_file(tmp_path: Path) -> None:
    turn = tmp_path / "turn.json"
    async with plane(tmp_path) as made:
        agent = await made.agent(turn_file=str(turn))
        for content in (None, '{"session": "s1", "turn": "t1", "task": "x"}', "garbage", '{"session": 3}', "[" * 5_000):
            if content is not None:
                turn.with_suffix(".new").write_text(content)
                os.replace(turn.with_suffix(".new"), turn)
            assert (await agent.post("/anthropic/v1/messages", json=anthropic())).status == 200
        found = await made.entries(5)
        assert [(entry.session, entry.turn, entry.task) for entry in found] == [
            (None, None, None),
            ("s1", "t1", "x"),
            (None, None, None),
            (None, None, None),
            (None, None, None),
        ]


async def test_the_end_of_a_response_does_not_leave_before_it_is_in_the_ledger(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        async with agent.post(
            "/anthropic/v1/messages", json=anthropic("[[say: first]][[wait: locked]][[say: last]]", stream=True)
        ) as response:
            begun = await response.content.readuntil(b"text_delta")
            other = sqlite3.connect(made.paths.ledger, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            made.provider.release("locked")
            begun += await _until_broken(response)
            other.execute("ROLLBACK")
            other.close()
        assert b"last" in begun
        assert b"message_stop" not in begun
        # The row follows once the disk takes it, and says what was billed.
        (entry,) = await made.entries(1)
        billed = await _billed(made, "completed")
        assert entry.tokens.total == billed.usage.whole_input + billed.usage.output


@pytest.mark.parametrize("text", ["[[say: first]][[wait: never]]", "[[wait: never]]"])
async def test_a_client_that_leaves_a_stream_ends_the_request_upstream(tmp_path: Path, text: str) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        asking = asyncio.ensure_future(agent.post("/anthropic/v1/messages", json=anthropic(text, stream=True)))
        await made.provider.ledger.find(lambda _: True, at_least=1, timeout=10)
        if "say" in text:
            response = await asking
            await response.content.readuntil(b"text_delta")
            response.close()
        else:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await _billed(made, "client_gone")
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.reported) == ("client_gone", False)
        assert entry.tokens.input > 0


async def test_a_stream_that_its_client_leaves_takes_no_memory_any_more(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        gc.collect()
        gc.disable()
        try:
            response = await agent.post(
                "/anthropic/v1/messages", json=anthropic("[[say: first]][[wait: never]]", stream=True)
            )
            await response.content.readuntil(b"text_delta")
            (left,) = (weakref.ref(each) for each in gc.get_objects() if isinstance(each, MeteredExchange))
            response.close()
            await _billed(made, "client_gone")
            await made.entries(1)
            await waiting.until(lambda: left() is None, limit=10)
        finally:
            gc.enable()


async def _left(made: Plane, path: str, body: dict[str, Any]) -> None:
    """Ask for a document, and leave when the provider has the request; return when the egress has noticed."""
    with leaving() as left:
        asking = asyncio.ensure_future(made.agents["coder0"].post(path, json=body))
        served = len(made.provider.ledger.entries)
        await made.provider.ledger.find(lambda _: True, at_least=served + 1, timeout=10)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(10):
            await left.wait()
    (line,) = made.egress.listeners.lines
    assert line.running == 1, "it still counts as one of the agent's requests"


@pytest.mark.parametrize(("path", "ask", "api"), CALLS)
async def test_a_document_that_its_client_leaves_is_read_to_its_end_and_charged_with_what_it_says(
    tmp_path: Path, path: str, ask: Callable[..., dict[str, Any]], api: str
) -> None:
    async with plane(tmp_path, limits=[LimitSettings(kind="pool", scope="host", amount=100_000)]) as made:
        await made.agent()
        await _left(made, path, ask("[[wait: opened]][[say: one two three four five]]"))
        (limit,) = made.egress.gate.standing()["limits"]
        assert limit["reserved"] > 0
        made.provider.release("opened")
        billed = await _billed(made, "completed")
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.reported, entry.tokens) == ("completed", True, billed.tokens)
        (limit,) = made.egress.gate.standing()["limits"]
        assert limit["reserved"] == 0
        (line,) = made.egress.listeners.lines
        async with asyncio.timeout(10):
            while line.running or made.egress.proxy.streams:
                await asyncio.sleep(0)


async def test_a_document_that_its_client_leaves_is_charged_with_its_bound_where_the_provider_is_lost(
    tmp_path: Path,
) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        await _left(made, "/anthropic/v1/messages", anthropic("[[wait: opened]][[disconnect]]", max_tokens=700))
        made.provider.release("opened")
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.reported) == ("upstream_gone", False)
        assert entry.tokens.output == 700


async def test_a_document_that_its_client_left_is_not_awaited_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passage, "LEFT_S", 0.05)
    async with plane(tmp_path) as made:
        await made.agent()
        await _left(made, "/anthropic/v1/messages", anthropic("[[wait: never]]", max_tokens=700))
        await _billed(made, "client_gone")
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.reported, entry.tokens.output) == ("client_gone", False, 700)


async def test_a_cut_off_ends_a_document_that_its_client_left_at_once(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        await _left(made, "/anthropic/v1/messages", anthropic("[[wait: never]]"))
        assert await made.egress.gate.deny("coder0", "cutoff", cause="x", by="ops", id="1") == 1
        await _billed(made, "client_gone")
        assert (await made.entries(1))[0].ended == "cut"


async def test_the_end_of_the_egress_does_not_lose_a_document_that_its_client_left(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        await _left(made, "/anthropic/v1/messages", anthropic("[[wait: never]]", max_tokens=700))
        await made.egress.proxy.close()
        assert made.egress.ledger.head.entries == 0
    async with plane(tmp_path) as made:
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.reported, entry.tokens.output) == ("upstream_gone", False, 700)


async def test_an_agent_is_forgotten_without_waiting_for_its_documents(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        asking = asyncio.ensure_future(agent.post("/anthropic/v1/messages", json=anthropic("[[wait: never]]")))
        await made.provider.ledger.find(lambda _: True, at_least=1, timeout=10)
        async with asyncio.timeout(10):
            await made.egress.forget("coder0")
        await asyncio.gather(asking, return_exceptions=True)
        await _billed(made, "client_gone")
        assert (await made.entries(1))[0].ended == "cut"


async def test_what_had_not_left_when_its_client_did_costs_nothing(tmp_path: Path) -> None:
    """The provider takes no connection: a socket that listens and whose queue is full."""
    blocked = socket.socket()
    blocked.bind(("127.0.0.1", 0))
    blocked.listen(0)
    filler = [socket.socket() for _ in range(4)]
    for each in filler:
        each.setblocking(False)
        each.connect_ex(blocked.getsockname())
    url = f"http://127.0.0.1:{blocked.getsockname()[1]}"
    async with plane(tmp_path) as made:
        nowhere = AccountSettings(name="main", provider="anthropic", upstream=url, credential=None)
        await made.egress.configure(made.settings(nowhere))
        agent = await made.agent(accounts={"anthropic": "main"})
        asking = asyncio.ensure_future(agent.post("/anthropic/v1/messages", json=anthropic()))
        async with asyncio.timeout(10):
            while not made.egress.proxy.streams:
                await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.tokens.total) == ("client_gone", 0)
    for each in (*filler, blocked):
        each.close()


@pytest.mark.parametrize("text", ["[[say: some words here]][[disconnect]]", "[[disconnect]]"])
@pytest.mark.parametrize(("path", "ask", "api"), CALLS)
async def test_a_response_that_breaks_off_looks_broken(
    tmp_path: Path, text: str, path: str, ask: Callable[..., dict[str, Any]], api: str
) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        async with agent.post(path, json=ask(text, stream=True)) as response:
            with pytest.raises(aiohttp.ClientError):
                await response.read()
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.reported, entry.status) == ("upstream_gone", False, 200)


async def test_an_unreachable_provider_costs_nothing_and_is_told(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        nowhere = AccountSettings(name="main", provider="anthropic", upstream="http://127.0.0.1:9", credential=None)
        await made.egress.configure(made.settings(nowhere))
        agent = await made.agent(accounts={"anthropic": "main"})
        response = await agent.post("/anthropic/v1/messages", json=anthropic())
        assert response.status == 502
        assert "cannot be reached" in (await response.json())["error"]["message"]
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.tokens.total, entry.status) == ("upstream_gone", 0, None)


async def test_a_providers_refusal_passes_as_it_is_and_costs_nothing(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        response = await agent.post("/anthropic/v1/messages", json=anthropic("[[error: 529 retry-after=7 busy]]"))
        assert response.status == 529
        assert response.headers["Retry-After"] == "7"
        assert "busy" in await response.text()
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.tokens.total, entry.status) == ("error", 0, 529)


@pytest.mark.parametrize(("path", "ask", "api"), CALLS)
async def test_a_stream_that_is_cut_ends_with_an_error_of_its_providers_shape(
    tmp_path: Path, path: str, ask: Callable[..., dict[str, Any]], api: str
) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        async with agent.post(path, json=ask("[[say: first]][[hang]]", stream=True)) as response:
            begun = await response.content.readuntil(b"irst" if api == "anthropic" else b"delta")
            count = await made.egress.gate.deny("coder0", "cutoff", cause="too much", by="ops", id="1")
            content = begun + await response.content.read()
        assert count == 1
        last = events(content)[-1]
        assert "too much" in json.dumps(last)
        assert last.get("type") in {"error", "response.failed", None}
        await _billed(made, "client_gone")
        (entry,) = await made.entries(1)
        assert entry.ended == "cut"
        refused = await agent.post(path, json=ask())
        # What Codex does not send again.
        assert refused.status == (400 if api == "responses" else 403)
        assert "too much" in await refused.text()
        assert (await agent.get("/anthropic/v1/models")).status == 403


@pytest.mark.parametrize("text", ["[[hang]]", "[[say: first]][[hang]]"])
@pytest.mark.parametrize(("path", "ask", "api"), CALLS)
async def test_a_request_that_is_cut_before_its_answer_is_refused(
    tmp_path: Path, path: str, ask: Callable[..., dict[str, Any]], api: str, text: str
) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        asking = asyncio.ensure_future(agent.post(path, json=ask(text)))
        await made.provider.ledger.find(lambda _: True, at_least=1, timeout=10)
        await made.egress.gate.deny("coder0", "cutoff", cause="too much", by="ops", id="1")
        response = await asking
        assert response.status == (400 if api == "responses" else 403)
        kind = "permission_error" if api == "anthropic" else "invalid_request_error"
        assert (await response.json())["error"]["type"] == kind
        await _billed(made, "client_gone")
        assert (await made.entries(1))[0].ended == "cut"


async def test_harmless_calls_pass_and_no_other(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        models = await agent.get("/anthropic/v1/models", headers={"anthropic-version": "2023-06-01"})
        assert models.status == 200
        assert "claude" in await models.text()
        counted = await agent.post("/anthropic/v1/messages/count_tokens", json=anthropic())
        assert (await counted.json())["input_tokens"] > 0
        assert (await agent.head("/anthropic/")).status in {200, 405}
        for method, path, status in [
            ("GET", "/anthropic/v1/organizations", 403),
            ("DELETE", "/openai/v1/models/gpt-5", 400),
            ("POST", "/openai/v1/embeddings", 400),
            ("GET", "/elsewhere", 404),
        ]:
            response = await agent.request(method, path)
            assert response.status == status, path
            assert (await response.json())["error"]["message"]
        assert await made.egress.ledger.entries_after(0, 10) == []


async def test_a_websocket_is_declined_so_that_codex_takes_http(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            await agent.ws_connect("/openai/v1/responses")
        assert raised.value.status == 426


async def test_what_cannot_be_metered_is_refused_before_it_leaves(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        response = await agent.post("/openai/v1/responses", json=responses(background=True))
        assert response.status == 400
        assert "background" in await response.text()
        tools = [{"type": "code_execution_20250825", "name": "code_execution"}]
        response = await agent.post("/anthropic/v1/messages", json=anthropic(tools=tools))
        assert response.status == 403
        assert "server_tools" in await response.text()
        response = await agent.post("/anthropic/v1/messages", data=b"{")
        assert response.status == 400
        assert made.provider.ledger.next_number() == 1


async def test_tools_that_the_provider_runs_can_be_allowed_for_an_account(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        allowing = AccountSettings(
            name="main",
            provider="anthropic",
            upstream=made.provider.url,
            credential=f"file:{tmp_path / 'key'}",
            server_tools=True,
            premium=True,
        )
        await made.egress.configure(made.settings(allowing))
        agent = await made.agent(accounts={"anthropic": "main"})
        tools = [{"type": "code_execution_20250825", "name": "code_execution"}]
        asked = anthropic(tools=tools, service_tier="priority")
        assert (await agent.post("/anthropic/v1/messages", json=asked)).status == 200


async def test_an_agent_without_an_account_is_told_so(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent(accounts={})
        response = await agent.post("/anthropic/v1/messages", json=anthropic())
        assert response.status == 403
        assert "coder0 has no account" in await response.text()


async def test_too_many_requests_of_one_agent_wait_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MOST_REQUESTS", 2)
    async with plane(tmp_path) as made:
        agent, other = await made.agent(), await made.agent("coder1")
        open_ = [
            asyncio.ensure_future(agent.post("/anthropic/v1/messages", json=anthropic(f"[[wait: x]] {number}")))
            for number in range(2)
        ]
        await made.provider.ledger.find(lambda _: True, at_least=2, timeout=10)
        refused = await agent.post("/anthropic/v1/messages", json=anthropic())
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        assert (await other.post("/anthropic/v1/messages", json=anthropic())).status == 200
        made.provider.release("x")
        assert [(await each).status for each in open_] == [200, 200]
        assert (await agent.post("/anthropic/v1/messages", json=anthropic())).status == 200


async def test_a_port_is_an_agents_with_its_token_alone(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent(listener="port")
        assert (await agent.post("anthropic/v1/messages", json=anthropic())).status == 200
        (registration,) = made.egress.gate.agents.values()
        port = await made.egress.register(registration)
        base = URL(str(port.url))
        async with aiohttp.ClientSession() as stranger:
            for path in ("/anthropic/v1/messages", "/wrong/anthropic/v1/messages", "/"):
                response = await stranger.post(base.origin().join(URL(path)), json=anthropic())
                assert (response.status, await response.read()) == (404, b"")
        await made.agent(listener="port")
        assert await made.egress.register(registration) == port


async def test_the_egress_ends_what_is_under_way_and_keeps_account_of_it(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        response = await agent.post("/anthropic/v1/messages", json=anthropic("[[say: a]][[hang]]", stream=True))
        await response.content.readuntil(b"text_delta")
        await made.egress.proxy.close()
    async with plane(tmp_path) as made:
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.reported) == ("cut", False)
        # It serves whom it knew, at the same place.
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(made.paths.listener("coder0")))) as again:
            asked = await again.post("http://egress/anthropic/v1/messages", json=anthropic())
            assert asked.status == 200
