"""Agents that want to be read one way here and another way by the provider, or to take the egress from the others."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from egress import headers
from egress.settings import AccountSettings
from tests.egress.plane import Plane, anthropic, plane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BODY = json.dumps(anthropic("[[say: yes]]")).encode()


@asynccontextmanager
async def upstream(folder: Path) -> AsyncIterator[tuple[Plane, list[web.Request]]]:
    """An egress before a provider that keeps what it was sent, and refuses it."""
    came: list[web.Request] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        came.append(request)
        return web.json_response({"error": {"type": "invalid_request_error", "message": "no"}}, status=400)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    server = TestServer(app)
    await server.start_server()
    try:
        account = AccountSettings(name="main", provider="anthropic", upstream=str(server.make_url("")).rstrip("/"))
        async with plane(folder, accounts=[account]) as made:
            yield made, came
    finally:
        await server.close()


def test_headers_by_which_servers_are_told_of_another_path_stay_here() -> None:
    came = [(name, "/v1/files") for name in ("X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Host")]
    assert list(headers.outgoing(came, provider="openai", credential=None)) == ["Accept-Encoding"]


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "application/json; charset=utf-7", "multipart/form-data; boundary=b"]
)
async def test_what_was_read_as_json_is_sent_as_json(tmp_path: Path, kind: str) -> None:
    async with upstream(tmp_path) as (made, came):
        agent = await made.agent()
        async with agent.post("anthropic/v1/messages", data=BODY, headers={"Content-Type": kind}) as answer:
            assert answer.status == 400
        assert [request.headers.getall("Content-Type") for request in came] == [["application/json"]]


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
