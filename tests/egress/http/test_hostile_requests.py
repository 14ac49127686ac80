"""Agents that want to be read one way here and another way by the provider, or to take the egress from the others."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from egress.http import bounded_http_server, header_filter
from egress.request import body_buffer
from egress.settings import AccountSettings
from tests.egress.whole_egress import KEY, Plane, anthropic, leaving, plane

BODY = json.dumps(anthropic("[[say: yes]]")).encode()


@asynccontextmanager
async def upstream(
    folder: Path, answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
) -> AsyncIterator[tuple[Plane, list[web.Request]]]:
    """An egress before a provider that keeps what it was sent, and refuses it."""
    came: list[web.Request] = []
    (folder / "key").write_text(KEY)

    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        came.append(request)
        if answer is not None:
            return await answer(request)
        return web.json_response({"error": {"type": "invalid_request_error", "message": "no"}}, status=400)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    server = TestServer(app)
    await server.start_server()
    try:
        account = AccountSettings(
            name="main",
            provider="anthropic",
            upstream=str(server.make_url("")).rstrip("/"),
            credential=f"file:{folder / 'key'}",
        )
        async with plane(folder, accounts=[account]) as made:
            yield made, came
    finally:
        await server.close()


def test_headers_by_which_servers_are_told_of_another_path_stay_here() -> None:
    came = [(name, "/v1/files") for name in ("X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Host")]
    assert list(header_filter.outgoing(came, provider="openai", credential=None)) == ["Accept-Encoding"]


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "application/json; charset=utf-7", "multipart/form-data; boundary=b"]
)
async def test_what_was_read_as_json_is_sent_as_json(tmp_path: Path, kind: str) -> None:
    async with upstream(tmp_path) as (made, came):
        agent = await made.agent()
        async with agent.post("anthropic/v1/messages", data=BODY, headers={"Content-Type": kind}) as answer:
            assert answer.status == 400
        assert [request.headers.getall("Content-Type") for request in came] == [["application/json"]]


@pytest.mark.parametrize("path", ["v1/messages", "v1/messages/count_tokens", "v1/models"])
async def test_a_credential_that_a_provider_repeats_does_not_reach_the_agent(tmp_path: Path, path: str) -> None:
    async def repeat(request: web.Request) -> web.StreamResponse:
        key = request.headers["x-api-key"]
        return web.json_response(
            {"error": {"type": "authentication_error", "message": f"{key} is not known"}},
            status=401,
            headers={"X-Key": key, "WWW-Authenticate": f"Key {key}"},
        )

    async with upstream(tmp_path, repeat) as (made, _):
        agent = await made.agent()
        method, body = ("GET", None) if path == "v1/models" else ("POST", BODY)
        async with agent.request(method, f"anthropic/{path}", data=body) as answer:
            assert answer.status == 401
            said = f"{answer.headers} {await answer.text()}"
        assert "is not known" in said
        assert answer.headers["X-Key"] == "*" * len(KEY)
        assert KEY not in said


async def test_a_body_where_none_belongs_does_not_become_the_next_request(tmp_path: Path) -> None:
    async with upstream(tmp_path) as (made, came):
        agent = await made.agent()
        hidden = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        async with agent.get("anthropic/v1/models", data=hidden) as answer:
            assert answer.status == 400
            assert "no body" in await answer.text()
        async with agent.get("anthropic/v1/models") as answer:
            assert answer.status == 400
        assert [(request.method, request.path, request.content_length) for request in came] == [
            ("GET", "/v1/models", None)
        ]


async def _said(made: Plane, content: bytes, *, first: bytes = b"") -> bytes:
    """Say something on an agent's line, and hear until the egress closes it."""
    reader, writer = await asyncio.open_unix_connection(str(made.paths.listener("coder0")))
    try:
        if first:
            writer.write(first)
            await made.provider.ledger.find(lambda entry: True, at_least=1, timeout=10)
        heard = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                for at in range(0, len(content), 2**16):
                    writer.write(content[at : at + 2**16])
                    await writer.drain()
                heard = await reader.read()
        return heard
    finally:
        writer.close()


async def _told(made: Plane, words: str) -> None:
    async with asyncio.timeout(10):
        while not any(words in action.cause for action in await made.egress.ledger.actions_after(0, 100)):
            await made.egress.ledger.newer(made.egress.ledger.head, 1)


async def test_a_head_that_never_ends_is_not_kept(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        line = b"X-Much: " + b"x" * 30_000 + b"\r\n"
        assert await _said(made, b"POST /anthropic/v1/messages HTTP/1.1\r\nHost: x\r\n" + 8 * line) == b""
        await _told(made, "a head of more than")


@pytest.mark.parametrize("begun", [b"POST /anthropic/v1/messages HTTP/1.1\r\nHost: x", b"\r\n" * 10])
async def test_a_head_that_comes_too_slowly_ends_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(bounded_http_server, "IDLE_S", 0.2)
    async with plane(tmp_path) as made:
        await made.agent()
        assert await _said(made, begun) == b""


@pytest.mark.parametrize("much", [b"X-Much: " + b"x" * 30_000 + b"\r\n", b""])
async def test_requests_that_are_sent_ahead_are_not_kept_without_bound(tmp_path: Path, much: bytes) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        held = json.dumps(anthropic("[[hang]]")).encode()
        post = b"POST /anthropic/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: "
        further = b"GET /anthropic/v1/models HTTP/1.1\r\nHost: x\r\n" + much + b"\r\n"
        assert (
            await _said(made, (20 if much else 2_000) * further, first=post + b"%d\r\n\r\n" % len(held) + held) == b""
        )
        await _told(made, "sent ahead")


async def test_bodies_of_any_length_and_short_heads_sent_ahead_pass(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        body = json.dumps(anthropic("[[say: yes]]" + " " * 300_000)).encode()
        post = b"POST /anthropic/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: "
        one = post + b"%d\r\n\r\n" % len(body) + body
        last = b"GET /anthropic/v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        heard = await _said(made, 3 * one + last)
        assert heard.count(b"HTTP/1.1 200 OK") == 4


@pytest.mark.parametrize("lines", [b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"Content-Length : 2"])
async def test_what_is_no_request_is_refused_in_a_word_and_told(tmp_path: Path, lines: bytes) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        heard = await _said(made, b"POST /anthropic/v1/messages HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n\r\n{}")
        assert heard.startswith(b"HTTP/1.1 400 ")
        assert heard.endswith(b"muster: the request is malformed.\n")
        await _told(made, "malformed")


@pytest.mark.parametrize("size", [900_000, 2_000_000])
async def test_an_agent_that_never_ends_its_requests_keeps_no_other_from_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(body_buffer, "MOST_IN_MEMORY", 8 * 2**20)
    monkeypatch.setattr(body_buffer, "MOST_ON_DISK", 16 * 2**20)
    async with plane(tmp_path) as made, contextlib.AsyncExitStack() as lines:
        await made.agent()
        other = await made.agent("other0")
        post = b"POST /anthropic/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (size + 1)
        answers = []
        for _ in range(12):
            reader, writer = await asyncio.open_unix_connection(str(made.paths.listener("coder0")))
            lines.callback(writer.close)
            writer.write(post + b" " * size)
            answers.append(asyncio.create_task(reader.readline()))
            lines.callback(answers[-1].cancel)
        # Once one is turned away, it has all that it can have.
        done, _ = await asyncio.wait(answers, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        assert [b" 503 " in answer.result() for answer in done] == [True] * len(done) != []
        long = io.BytesIO(json.dumps(anthropic("[[say: yes]]" + "x" * (size + 1_500_000))).encode())
        assert (await other.post("/anthropic/v1/messages", data=long)).status == 200


async def test_an_agent_that_leaves_before_the_end_of_a_document_has_not_read_it_for_nothing(tmp_path: Path) -> None:
    left = asyncio.Event()

    async def all_but_the_end(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"type":"message","content":[{"type":"text","text":"')
        # The part that came last is kept back, however much of it came at once: so there is always one more.
        with contextlib.suppress(ConnectionError):
            while not left.is_set():
                await response.write(b"word " * 1_000)
                await asyncio.sleep(0)
            await response.write(b'"}],"usage":{"input_tokens":7,"output_tokens":40000}}')
        return response

    async with upstream(tmp_path, all_but_the_end) as (made, _):
        with leaving() as noticed:
            agent = await made.agent()
            answer = await agent.post("anthropic/v1/messages", data=BODY)
            read = 0
            while read < 150_000:
                read += len(await answer.content.readany())
            answer.close()
            async with asyncio.timeout(20):
                await noticed.wait()
        left.set()
        entry = (await made.entries(1))[0]
    assert (entry.ended, entry.reported, entry.tokens.output) == ("completed", True, 40_000)


async def test_an_absurd_bill_neither_breaks_the_ledger_nor_anybody_elses_row(tmp_path: Path) -> None:
    """As many searches as a number of tokens may be would cost more than an integer of SQLite holds."""
    most = 10**12
    tokens = {"input_tokens": most, "cache_read_input_tokens": most, "cache_creation_input_tokens": most}

    async def answer(request: web.Request) -> web.StreamResponse:
        usage = {**tokens, "output_tokens": most, "server_tool_use": {"web_search_requests": most}}
        head = {"id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6", "content": []}
        return web.json_response({**head, "usage": usage})

    async with upstream(tmp_path, answer) as (made, _):
        agents = [await made.agent(f"coder{number}") for number in range(4)]
        answers = await asyncio.gather(*(agent.post("/anthropic/v1/messages", json=anthropic()) for agent in agents))
        assert [answer.status for answer in answers] == [200] * 4
        rows = await made.entries(4)
        assert [row.ended for row in rows] == ["completed"] * 4
        assert {row.usd for row in rows} == {10_000.0}
        assert made.egress.ledger.unwritable is None
        assert made.egress.gate.standing()["agents"]["coder0"]["requests_today"] == 1
