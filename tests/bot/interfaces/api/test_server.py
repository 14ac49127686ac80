"""The gateway on a real unix socket, as a script or the shell's client meets it."""

import asyncio
import io
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import aiohttp
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from bot.api_client import LINES
from bot.auth.owner import owner_identity
from bot.auth.permission import OPERATOR, VIEWER
from bot.auth.permissions import Operators
from bot.commands.argument_types import AgentName, Duration, Rest
from bot.commands.context import Context
from bot.commands.executor import Executor
from bot.commands.registry import CommandTable, Reply
from bot.commands.services import CommandServices
from bot.commands.syntax import command_line
from bot.interfaces.api import server as gateway_module
from bot.interfaces.api.openapi import document
from bot.interfaces.api.server import Gateway
from bot.messaging.event_hub import EventHub
from bot.reports.services import ReportServices
from database.engine.store import Store
from database.queries.operations import audit_log


@dataclass
class Line:
    text: str

    def to_json(self) -> dict[str, str]:
        return {"type": "line", "text": self.text}


class Session:
    """A client of a terminal that says back what it hears."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[Line] = asyncio.Queue()

    async def receive(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            return {"type": "refused", "reason": "not an object"}
        self._lines.put_nowait(Line(given["text"]))
        return {"type": "accepted", "id": "1"}

    def __aiter__(self) -> "Session":
        return self

    async def __anext__(self) -> Line:
        return await self._lines.get()


class Terminal:
    def __init__(self) -> None:
        self.attached_after: list[int | None] = []

    @asynccontextmanager
    async def attached(self, after: int | None = None) -> AsyncIterator[Session]:
        self.attached_after.append(after)
        yield Session()


@dataclass
class Served:
    gateway: Gateway
    client: aiohttp.ClientSession
    services: ReportServices
    ran: list[str] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def post(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        async with self.client.post(f"http://muster{path}", data=data and io.BytesIO(data), headers=named) as answer:
            return answer.status, await answer.json()

    @asynccontextmanager
    async def in_lines(self, name: str, body: Any = None, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give a command and be told how far it is."""
        named = {"Accept": LINES} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(f"http://muster/v1/commands/{name}", json=body or {}, headers=named) as answer:
            yield answer

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.client.get(f"http://muster{path}") as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async def complete(source: str) -> list[str]:
        return {"agents": ["coder0"]}.get(source, [])

    async with await_store(tmp_path) as store:
        services = ReportServices(
            clock=lambda: 1_000_000.0,
            store=store,
            table=CommandTable(),
            operators=Operators(store, {}),
            events=EventHub(),
            complete=complete,
            terminal=cast("Any", Terminal()),
        )
        executor = Executor(services)
        gateway = Gateway(services, executor, tmp_path / "gateway.sock")
        connector = aiohttp.UnixConnector(str(gateway.path))
        async with aiohttp.ClientSession(connector=connector) as client:
            served = Served(gateway, client, services)
            _declare(served)
            await gateway.start()
            try:
                yield served
            finally:
                await gateway.stop()
                await executor.stop()


@asynccontextmanager
async def await_store(folder: Path) -> AsyncIterator[Store]:
    store = await Store.open(f"sqlite:///{folder}/register.db")
    try:
        yield store
    finally:
        await store.close()


def _declare(served: Served) -> None:
    table = served.services.table

    @table.command("send", permission=OPERATOR, help_section="talking")
    async def send(ctx: Context[CommandServices], name: AgentName, text: Rest, *, by: Literal["a", "b"] = "a") -> Reply:
        """Say something.

        Args:
            text: what to say.
        """
        served.ran.append(f"{ctx.door} {ctx.identity} {text}")
        await ctx.progress("half")
        return Reply(f"told {name}", {"id": ctx.run_id})

    @table.command("grant revoke", permission=OPERATOR, help_section="approvals", confirm=True)
    async def grant_revoke(
        ctx: Context[CommandServices], id: str, *, for_: Duration | None = None, now: bool = False
    ) -> Reply:
        """Take back."""
        return Reply(f"revoked {id} {for_}")

    @table.command("wait", permission=VIEWER, help_section="x")
    async def wait(ctx: Context[CommandServices]) -> Reply:
        """Wait."""
        served.ran.append("wait")
        served.reached.set()
        await served.go.wait()
        return Reply("waited")

    @table.command("walk", permission=VIEWER, help_section="x")
    async def walk(ctx: Context[CommandServices], *, fall: bool = False) -> Reply:
        """Go on step by step."""
        served.ran.append("walk")
        await ctx.progress("half, see " + command_line("wait"))
        await served.go.wait()
        return Reply("there", ok=not fall)

    @table.command("fail", permission=VIEWER, help_section="x")
    async def fail(ctx: Context[CommandServices]) -> Reply:
        """Fail."""
        return Reply("no", ok=False)


async def test_a_command_runs_as_the_owner(served: Served) -> None:
    status, answer = await served.post(
        "/v1/commands/send", {"name": "coder0", "text": "a\nb"}, Idempotency_Key="k1", Muster_Door="cli"
    )
    assert (status, answer) == (
        200,
        {"id": "k1", "state": "done", "text": "told coder0", "data": {"id": "k1"}, "reason": None, "code": None},
    )
    assert served.ran == [f"cli {owner_identity()} a\nb"]


@pytest.mark.parametrize(
    ("label", "door"), [("cli", "cli"), ("tui", "tui"), ("gateway", "gateway"), ("web", "gateway"), ("chat", "gateway")]
)
async def test_a_program_says_what_it_is_and_passes_for_nothing_beyond_the_socket(
    served: Served, label: str, door: str
) -> None:
    await served.post("/v1/commands/send", {"name": "coder0", "text": "a"}, Muster_Door=label)
    assert served.ran == [f"{door} {owner_identity()} a"]
    async with served.services.store.read() as tx:
        assert [row.door for row in await audit_log.since(tx, 0.0, limit=9)] == [door]


async def test_no_key_passes_for_the_message_that_carries_a_task(served: Served) -> None:
    status, refused = await served.post(
        "/v1/commands/send", {"name": "coder0", "text": "a"}, Idempotency_Key="task-0a1b2c3d-1"
    )
    assert status == 400
    assert "carries a task" in str(refused)
    assert not served.ran


async def test_the_same_key_runs_once(served: Served) -> None:
    body = {"name": "coder0", "text": "a"}
    first = await served.post("/v1/commands/send", body, Idempotency_Key="k1")
    assert await served.post("/v1/commands/send", body, Idempotency_Key="k1") == first
    assert len(served.ran) == 1
    status, conflict = await served.post("/v1/commands/fail", Idempotency_Key="k1")
    assert (status, conflict["code"]) == (409, "conflict")
    await served.post("/v1/commands/send", body)
    assert len(served.ran) == 2


async def test_a_client_that_goes_away_and_comes_back_gets_the_answer(served: Served) -> None:
    async with asyncio.timeout(10):
        gone = asyncio.create_task(served.post("/v1/commands/wait", Idempotency_Key="k1"))
        await served.reached.wait()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        back = asyncio.create_task(served.post("/v1/commands/wait", Idempotency_Key="k1"))
        served.go.set()
        assert (await back)[1]["text"] == "waited"
    assert served.ran == ["wait"]


@pytest.mark.parametrize(("fall", "status"), [(False, 200), (True, 500)])
async def test_a_client_that_wants_lines_is_told_how_far_a_command_is(served: Served, fall: bool, status: int) -> None:
    async with served.in_lines("walk", {"fall": fall}) as answer:
        assert json.loads(await answer.content.readline()) == {"progress": "half, see `wait`"}
        served.go.set()
        (last,) = [json.loads(line) async for line in answer.content]
    assert last["status"] == status
    assert last["body"]["text"] == "there"


@pytest.mark.parametrize(("name", "status"), [("fail", 500), ("nothing", 404)])
async def test_a_command_that_says_nothing_on_its_way_answers_in_one_piece(
    served: Served, name: str, status: int
) -> None:
    async with served.in_lines(name) as answer:
        assert (answer.status, answer.content_type) == (status, "application/json")
        assert await answer.json()


async def test_a_client_that_wants_no_lines_gets_none(served: Served) -> None:
    served.go.set()
    assert (await served.post("/v1/commands/walk"))[0] == 200


async def test_a_client_of_lines_that_goes_away_and_comes_back_gets_the_answer(served: Served) -> None:
    async with served.in_lines("walk", Idempotency_Key="k") as gone:
        await gone.content.readline()
    served.go.set()
    async with served.in_lines("walk", Idempotency_Key="k") as answer:
        assert "there" in await answer.text()
    assert served.ran == ["walk"]


async def test_stopping_ends_the_lines_with_what_to_do(served: Served) -> None:
    async with served.in_lines("walk") as answer:
        await answer.content.readline()
        await served.gateway.executor.stop()
        (last,) = [json.loads(line) async for line in answer.content]
    assert (last["status"], last["body"]["code"]) == (503, "stopping")


async def test_names_of_two_words_and_confirmation(served: Served) -> None:
    assert (await served.post("/v1/commands/grant/revoke", {"id": "g"}))[0] == 428
    for path in ("/v1/commands/grant/revoke", "/v1/commands/grant%20revoke"):
        status, answer = await served.post(path, {"id": "g", "for": 90}, Muster_Confirm="yes")
        assert (status, answer["text"]) == (200, "revoked g 90.0")


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "sentence"),
    [
        ("send", {"name": "coder0"}, {}, 400, "TEXT is missing."),
        ("send", {"name": "coder0", "text": "a", "x": 1}, {}, 400, 'send has no argument "x"'),
        ("send", {"name": "../x", "text": "a"}, {}, 400, "NAME: expected an agent's name"),
        ("send", [], {}, 400, "The body is not a JSON object."),
        ("send", b"{", {}, 400, "The body is not JSON."),
        ("send", b"[" * 100_000, {}, 400, "The body is not"),
        ("send", b"\xff\xfe\xfa", {}, 400, "The body is not JSON."),
        ("send", {"name": "coder0", "text": "a"}, {"Idempotency_Key": "a b"}, 400, "An Idempotency-Key has"),
        ("send", b'"' + b"x" * 1_100_000 + b'"', {}, 413, "The body is too large"),
        ("lanuch", {}, {}, 404, 'There is no command "lanuch"'),
        ("..%2F..%2Fetc%2Fpasswd", {}, {}, 404, "There is no command"),
        ("a/b/c/d", {}, {}, 404, "There is nothing here."),
        ("fail", {}, {}, 500, "no"),
    ],
)
async def test_what_is_wrong_is_said_in_json(
    served: Served, path: str, body: Any, headers: dict[str, str], status: int, sentence: str
) -> None:
    found, answer = await served.post(f"/v1/commands/{path}", body, **headers)
    assert found == status
    assert (answer.get("text") or answer.get("error")).startswith(sentence)
    assert served.ran == []


async def test_other_addresses(served: Served) -> None:
    assert (await served.get("/v1/commands"))[1][0]["name"] == "send"
    assert await served.get("/v1/complete?source=agents") == (200, {"words": ["coder0"]})
    assert await served.get("/v1/complete?source=nothing") == (200, {"words": []})
    assert (await served.get("/v1/health"))[1]["status"] == "degraded"
    assert (await served.get("/v1/commands/send"))[0] == 405
    assert (await served.get("/"))[0] == 404


async def test_the_openapi_document_describes_every_command(served: Served) -> None:
    _, found = await served.get("/v1/openapi.json")
    assert found == document(served.services.table, "0")
    assert found["openapi"] == "3.1.0"
    assert {f"/v1/commands/{path}" for path in ("send", "grant/revoke", "wait", "fail")} < found["paths"].keys()
    operations = [operation for item in found["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["responses"].keys() >= {"200"}
        for response in operation["responses"].values():
            for content in response["content"].values():
                _resolved(found, content["schema"])
    revoke = found["paths"]["/v1/commands/grant/revoke"]["post"]
    assert [header["name"] for header in revoke["parameters"]] == ["Idempotency-Key", "Muster-Confirm"]
    schema = found["paths"]["/v1/commands/send"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    arguments = Draft202012Validator(schema)
    assert arguments.is_valid({"name": "coder0", "text": "a", "by": "b"})
    assert not arguments.is_valid({"name": "coder0"})
    assert not arguments.is_valid({"name": "coder0", "text": "a", "other": 1})
    assert not arguments.is_valid({"name": "coder0", "text": "a", "by": "c"})


def _resolved(found: dict[str, Any], schema: dict[str, Any]) -> None:
    reference = schema.get("$ref")
    if reference is not None:
        schema = found["components"]["schemas"][reference.rsplit("/", 1)[1]]
    Draft202012Validator.check_schema(schema)


async def test_answers_have_the_shape_that_the_document_says(served: Served) -> None:
    schemas = document(served.services.table, "0")["components"]["schemas"]
    outcomes = [await served.post("/v1/commands/fail"), await served.post("/v1/commands/send", {})]
    for _, outcome in outcomes:
        Draft202012Validator(schemas["Outcome"]).validate(outcome)
    Draft202012Validator(schemas["Error"]).validate((await served.post("/v1/commands/send", b"["))[1])


async def test_events_are_told_as_they_happen(served: Served) -> None:
    async with asyncio.timeout(10), served.client.ws_connect("http://muster/v1/events") as events:
        await events.ping()
        await served.post("/v1/commands/send", {"name": "coder0", "text": "a"}, Idempotency_Key="k1")
        assert await events.receive_json() == {"type": "progress", "run": "k1", "text": "half"}


async def test_a_watcher_that_falls_behind_is_let_go(served: Served) -> None:
    async with asyncio.timeout(10), served.client.ws_connect("http://muster/v1/events") as events:
        for number in range(2000):
            served.services.events.publish({"n": number})
        told = 0
        async for message in events:
            assert json.loads(message.data) == {"n": told}
            told += 1
        assert events.close_code == aiohttp.WSCloseCode.TRY_AGAIN_LATER
    assert told == 1000


async def test_the_terminal_goes_both_ways(served: Served) -> None:
    async with asyncio.timeout(10), served.client.ws_connect("http://muster/v1/terminal?after=7") as terminal:
        await terminal.send_str("{")
        assert await terminal.receive_json() == {"type": "refused", "reason": "not an object"}
        await terminal.send_json({"type": "say", "text": "hello"})
        got = [await terminal.receive_json(), await terminal.receive_json()]
        assert sorted(got, key=str) == [{"type": "accepted", "id": "1"}, {"type": "line", "text": "hello"}]
    attached: Any = served.services.terminal
    assert attached.attached_after == [7]


async def test_without_a_terminal_it_says_so(served: Served) -> None:
    served.services.terminal = None
    status, answer = await served.get("/v1/terminal")
    assert (status, answer["code"]) == (409, "no_terminal")


async def test_only_the_owner_may_connect(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = served.gateway.path.stat()
    assert stat.S_IMODE(mode.st_mode) == 0o600
    assert mode.st_uid == os.getuid()
    monkeypatch.setattr(gateway_module, "uid_of", lambda peer: os.getuid() + 1)
    status, answer = await served.post("/v1/commands/send", {"name": "coder0", "text": "a"})
    assert (status, answer["code"]) == (403, "permission")
    assert served.ran == []


async def test_a_left_socket_is_replaced_and_ours_goes_at_the_end(served: Served) -> None:
    path = served.gateway.path
    second = Gateway(served.services, served.gateway.executor, path)
    await second.start()
    assert (await served.get("/v1/commands"))[0] == 200
    await served.gateway.stop()
    assert path.exists(), "it is the second one's"
    await second.stop()
    await second.stop()
    assert not path.exists()


async def test_stopping_lets_watchers_go_and_tells_who_waits_to_ask_again(served: Served) -> None:
    async with asyncio.timeout(20), served.client.ws_connect("http://muster/v1/events") as events:
        waiting = asyncio.create_task(served.post("/v1/commands/wait", Idempotency_Key="k1"))
        await served.reached.wait()
        await served.gateway.executor.stop()
        assert (await waiting)[0] == 503
        watching = asyncio.create_task(events.receive())
        await served.gateway.stop()
        assert (await watching).type is aiohttp.WSMsgType.CLOSE
