"""Documents and their stream on a real unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from bot.gateway_feed.feed import FeedLink, GatewayFeed
from bot.read_models.fleet import FleetModel
from tests.bot.orchestrator import House, house


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made, made.open():
        yield made


@pytest.fixture
async def client(home: House) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(str(home.paths.gateway_socket))
    async with aiohttp.ClientSession("http://muster", connector=connector) as session:
        yield session


async def event(answer: aiohttp.ClientResponse) -> dict[str, str]:
    """The next event: its fields by name."""
    found: dict[str, str] = {}
    async with asyncio.timeout(30):
        async for line in answer.content:
            text = line.decode().rstrip("\n")
            if not text and found:
                return found
            if text and not text.startswith(":"):
                name, _, value = text.partition(": ")
                found[name] = value
    raise AssertionError("the stream ended")


async def test_a_document_is_answered_with_its_revision_once(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/documents/tasks") as answer:
        body = await answer.json()
    assert (answer.status, body["name"], body["value"]["open"]) == (200, "tasks", [])
    async with client.get("/v1/stream?documents=tasks") as stream:
        await event(stream)
        async with client.get("/v1/documents/tasks") as answer:
            tag = answer.headers["ETag"]
        async with client.get("/v1/documents/tasks", headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304


async def test_a_stream_goes_on_where_it_was_cut(home: House, client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/stream?documents=tasks,fleet") as other:
        await event(other)
        async with client.get("/v1/stream?documents=tasks,fleet") as stream:
            assert stream.content_type == "text/event-stream"
            first, second = await event(stream), await event(stream)
        names = {json.loads(each["data"])["name"] for each in (first, second)}
        assert (first["event"], names) == ("document", {"tasks", "fleet"})
        await home.ask("!task add 'Write a test.' --role coder")
        async with client.get("/v1/stream?documents=tasks,fleet", headers={"Last-Event-ID": second["id"]}) as stream:
            found = json.loads((await event(stream))["data"])
        assert found["name"] == "tasks"
        assert [task["text"] for task in found["value"]["open"]] == ["Write a test."]


async def test_who_takes_patches_gets_only_the_rows_that_changed_and_the_same_fleet(
    home: House, client: aiohttp.ClientSession
) -> None:
    for name in ("coder0", "coder1", "coder2"):
        await home.launch(name)
    links: list[FeedLink] = []
    feed = GatewayFeed(path=home.paths.gateway_socket, tell=links.append)
    async with (
        client.get("/v1/stream?documents=fleet&patches=1") as stream,
        client.get("/v1/stream?documents=fleet") as whole,
        feed.follow(["fleet"]) as documents,
        asyncio.timeout(30),
    ):
        shown = await event(stream)
        assert shown["event"] == "document"
        shut, given = False, json.loads(shown["data"])
        # Several agents may happen to change at once, and then all of it comes.
        while "rows" not in given:
            shut = not shut
            await home.ask(f"!{'cutoff' if shut else 'restore'} coder1")
            gate: dict[str, Any] = {}
            while bool(gate.get("closures")) != shut:
                given = json.loads((await event(stream))["data"])
                rows = given["rows"]["changed"] if "rows" in given else given["value"]["agents"]
                gate = next((each["gate"] or {} for each in rows if each["name"] == "coder1"), gate)
        while True:
            value = (await anext(documents)).value
            assert isinstance(value, FleetModel)
            if any(bool(each.gate and each.gate.closures) == shut for each in value.agents if each.name == "coder1"):
                break
        assert [each.name for each in value.agents] == ["coder0", "coder1", "coder2"]
        assert (await event(whole))["event"] == "document", "who does not ask for patches gets none"
    assert links == [FeedLink(live=True)], "no patch was about a revision that the reader lacked"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/documents/nothing", 404, "document.unknown"),
        ("/v1/documents/agents/..%2Fx", 404, "document.unknown"),
        ("/v1/documents/audit?before=x", 400, "document.place"),
        ("/v1/documents/fleet?before=1", 400, "document.place"),
        ("/v1/stream", 404, "document.unknown"),
        ("/v1/stream?documents=fleet,nothing", 404, "document.unknown"),
        ("/v1/stream?documents=" + ",".join(["fleet"] * 51), 404, "document.unknown"),
    ],
)
async def test_what_is_no_document_is_refused(client: aiohttp.ClientSession, path: str, status: int, code: str) -> None:
    async with client.get(path) as answer:
        body = await answer.json()
    assert (answer.status, body["code"]) == (status, code)
    assert body["error"].endswith(".")


async def test_an_agent_that_is_not_there_is_null(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/documents/agents/nobody") as answer:
        assert (await answer.json())["value"] is None


async def test_the_openapi_document_describes_what_is_answered(home: House, client: aiohttp.ClientSession) -> None:
    await home.launch("coder0")
    async with client.get("/v1/openapi.json") as answer:
        described: dict[str, Any] = await answer.json()
    schemas = {"components": described["components"]}
    for name in ("fleet", "waiting", "tasks", "limits", "audit", "health", "agents/coder0"):
        async with client.get(f"/v1/documents/{name}") as answer:
            body = await answer.json()
        kind = {"agents/coder0": "AgentModel"}.get(name, f"{name.capitalize()}Model")
        for schema, value in (("Document", body), (kind, body["value"])):
            Draft202012Validator({**schemas, "$ref": f"#/components/schemas/{schema}"}).validate(value)


async def test_streams_end_with_the_orchestrator(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        connector = aiohttp.UnixConnector(str(home.paths.gateway_socket))
        async with aiohttp.ClientSession("http://muster", connector=connector) as session:
            async with home.open():
                stream = await session.get("/v1/stream?documents=fleet")
                await event(stream)
            async with asyncio.timeout(10), stream:
                with contextlib.suppress(aiohttp.ClientError):
                    await stream.read()
