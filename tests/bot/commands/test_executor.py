"""A command runs once and answers once, whoever asks again and whatever dies in between."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.auth.permission import ADMIN, OPERATOR, VIEWER
from bot.auth.permissions import Operators
from bot.commands.argument_types import AgentName
from bot.commands.context import Context, Origin
from bot.commands.executor import Executor
from bot.commands.registry import CommandTable, Reply
from bot.commands.runs import CONFIRM_WITHIN, NothingToConfirm, RunConflict, RunOutcome, RunRequest
from bot.commands.services import CommandServices
from bot.messaging.event_hub import EventHub
from bot.reports.services import ReportServices
from bot.text.errors import NotPermitted, UsageError, UserError
from core.crash_points import declare
from core.redaction import SecretMasker
from database.engine.store import Store
from database.queries.chat.operator_permissions import OperatorRow
from database.queries.operations import audit_log, command_runs
from fleet.errors import AgentUnreachable

ANA = "matrix:@ana:example.org"
BEN = "matrix:@ben:example.org"
ROOM = Origin(connector="matrix", conversation="!room", parent=None, event_id="$1")


@dataclass
class World:
    """Muster's commands over a real register, with some commands that count what they do."""

    store: Store
    now: float = 1_000_000.0
    done: list[str] = field(default_factory=list)
    sent: list[RunOutcome] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.table = CommandTable()
        self.services = ReportServices(
            clock=lambda: self.now,
            store=self.store,
            table=self.table,
            operators=Operators(self.store, {ANA: OPERATOR, BEN: ADMIN}),
            events=EventHub(),
            redact=SecretMasker(known=frozenset({"hunter22"})),
        )
        self.executor = Executor(self.services)

    def restarted(self) -> None:
        """As after a kill: the same register, nothing else."""
        self.executor = Executor(self.services)

    async def finish(self, tx: AsyncConnection, outcome: RunOutcome) -> None:
        self.sent.append(outcome)

    async def run(self, request: RunRequest) -> RunOutcome:
        return await self.executor.run(request, finish=self.finish)

    async def audited(self) -> list[tuple[str, str, str]]:
        async with self.store.read() as tx:
            return [(row.identity, row.action, row.outcome) for row in await audit_log.since(tx, 0, limit=100)]

    async def state(self, run_id: str) -> str:
        async with self.store.read() as tx:
            run = await command_runs.get(tx, run_id)
        assert run is not None
        return run.state


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    world = World(store)
    _declare(world)
    yield world
    await world.executor.stop()
    await store.close()


def _declare(world: World) -> None:
    @world.table.command("launch", permission=OPERATOR, help_section="fleet")
    async def launch(ctx: Context[CommandServices], name: AgentName, *, task: str | None = None) -> Reply:
        """Start an agent."""

        async def spawn() -> list[str]:
            world.done.append(f"spawn {name}")
            return ["spawned", name]

        async def record(tx: AsyncConnection) -> int:
            world.done.append(f"record {name}")
            return 7

        spawned = await ctx.once("spawn", spawn)
        recorded = await ctx.commit("record", record)
        world.reached.set()
        if task == "wait":
            await world.go.wait()
        return Reply(f"launched {name}", {"id": name, "spawned": spawned, "recorded": recorded})

    @world.table.command("ps", permission=VIEWER, help_section="fleet", effects=False)
    async def ps(ctx: Context[CommandServices]) -> Reply:
        """Look."""
        world.done.append("ps")
        return Reply(f"look {len(world.done)}", [])

    @world.table.command("kill", permission=OPERATOR, help_section="fleet", confirm=True)
    async def kill(ctx: Context[CommandServices], name: AgentName) -> Reply:
        """Kill."""
        world.done.append(f"kill {name}")
        return Reply(f"killed {name}")

    @world.table.command("break", permission=VIEWER, help_section="fleet")
    async def break_(ctx: Context[CommandServices], how: str) -> Reply:
        """Fail."""
        match how:
            case "user":
                raise UserError("There is no such agent.", code="agent.unknown")
            case "usage":
                raise UsageError("HOW is wrong.")
            case "fleet":
                raise AgentUnreachable("coder0 does not answer.")
            case "reply":
                return Reply("Half of it failed.", ok=False)
            case "data":
                return Reply("x", data=object())
            case "cancelled":
                raise asyncio.CancelledError
            case _:
                raise RuntimeError("secret internals")


def request(command: str, run_id: str = "r1", /, **arguments: Any) -> RunRequest:
    return RunRequest(
        id=run_id, name=command, arguments=arguments, identity=ANA, permission=OPERATOR, door="chat", origin=ROOM
    )


async def test_a_command_runs_and_says_so_in_the_transaction_that_ends_it(world: World) -> None:
    outcome = await world.run(request("launch", name="coder0"))
    assert (outcome.state, outcome.text) == ("done", "launched coder0")
    assert outcome.data is None, "chat shows the text alone"
    assert outcome.origin == ROOM
    assert world.sent == [outcome]
    assert await world.audited() == [(ANA, "launch", "done")]


async def test_the_same_wish_again_gets_the_same_answer_and_does_nothing(world: World) -> None:
    first = await world.run(request("launch", name="coder0"))
    world.restarted()
    assert await world.run(request("launch", name="coder0")) == first
    assert world.done == ["spawn coder0", "record coder0"]
    assert len(await world.audited()) == 1


async def test_an_id_cannot_be_used_for_a_second_wish(world: World) -> None:
    await world.run(request("launch", name="coder0"))
    with pytest.raises(RunConflict):
        await world.run(request("ps"))
    with pytest.raises(RunConflict):
        await world.run(replace(request("launch", name="coder0"), identity=BEN))
    with pytest.raises(RunConflict):
        await world.run(replace(request("launch", name="coder1"), door="gateway"))
    assert "spawn coder1" not in world.done


async def test_a_refused_wish_again_is_refused_again_though_little_of_it_is_kept(world: World) -> None:
    wish = replace(request("launch", name="x" * 10_000), door="gateway")
    first = await world.run(wish)
    assert first.state == "refused"
    assert await world.run(wish) == first
    with pytest.raises(RunConflict):
        await world.run(replace(request("launch", name="y"), door="gateway"))


async def test_the_same_wish_while_it_runs_joins_the_run(world: World) -> None:
    wish = request("launch", name="coder0", task="wait")
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        both = [tasks.create_task(world.run(wish)) for _ in range(2)]
        await world.reached.wait()
        world.go.set()
    assert both[0].result() == both[1].result()
    assert world.done == ["spawn coder0", "record coder0"]


async def test_a_door_that_goes_away_does_not_stop_the_command(world: World) -> None:
    asking = asyncio.create_task(world.run(request("launch", name="coder0", task="wait")))
    async with asyncio.timeout(10):
        await world.reached.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        world.go.set()
        assert (await world.run(request("launch", name="coder0", task="wait"))).state == "done"
    assert world.done == ["spawn coder0", "record coder0"]


async def test_a_command_that_was_cut_off_is_taken_up_and_does_each_step_once(world: World) -> None:
    wish = request("launch", name="coder0", task="wait")
    asking = asyncio.create_task(world.run(wish))
    async with asyncio.timeout(10):
        await world.reached.wait()
        await world.executor.stop()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await world.state("r1") == "running"
        assert world.sent == []
        world.restarted()
        assert [run.id for run in await world.executor.unfinished()] == ["r1"]
        assert [run.id for run in await world.executor.resume()] == ["r1"], "chat's runs are left to the inbox"
        world.go.set()
        outcome = await world.run(wish)
    assert outcome.state == "done"
    assert world.done == ["spawn coder0", "record coder0"]
    assert await world.audited() == [(ANA, "launch", "done")]


async def test_runs_from_other_doors_are_taken_up_at_the_start(world: World) -> None:
    wish = replace(request("launch", name="coder0", task="wait"), door="cli", origin=None)
    asking = asyncio.create_task(world.run(wish))
    async with asyncio.timeout(10):
        await world.reached.wait()
        await world.executor.stop()
        with pytest.raises(asyncio.CancelledError):
            await asking
        world.restarted()
        world.go.set()
        assert await world.executor.resume() == []
        outcome = await world.run(wish)
    assert outcome.data == {"id": "coder0", "spawned": ["spawned", "coder0"], "recorded": 7}
    assert await world.audited() == [(ANA, "launch", "done")]


async def test_when_the_end_cannot_be_written_nothing_of_it_stands(world: World) -> None:
    async def fail(tx: AsyncConnection, outcome: RunOutcome) -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await world.executor.run(request("launch", name="coder0"), finish=fail)
    assert await world.state("r1") == "running"
    assert await world.audited() == []
    assert (await world.run(request("launch", name="coder0"))).state == "done"
    assert world.done == ["spawn coder0", "record coder0"]
    assert len(await world.audited()) == 1


@pytest.mark.parametrize(
    ("how", "state", "text", "reason", "code"),
    [
        ("user", "refused", "There is no such agent.", None, "agent.unknown"),
        ("usage", "refused", "HOW is wrong.\n\nUsage: `!break HOW`", "usage", "command.usage"),
        ("fleet", "failed", "coder0 does not answer.", None, "agent.unreachable"),
        ("reply", "failed", "Half of it failed.", None, "failed"),
    ],
)
async def test_errors_are_answered_with_their_sentence(
    world: World, how: str, state: str, text: str, reason: str | None, code: str
) -> None:
    outcome = await world.run(request("break", how=how))
    assert (outcome.state, outcome.text, outcome.reason, outcome.code) == (state, text, reason, code)
    assert await world.audited() == [(ANA, "break", state)]


@pytest.mark.parametrize("how", ["bug", "data", "cancelled"])
async def test_a_fault_of_ours_is_an_apology_with_the_run_and_no_traceback(world: World, how: str) -> None:
    outcome = await world.run(replace(request("break", how=how), door="gateway"))
    assert outcome.state == "failed"
    assert "`r1`" in outcome.text
    assert "internals" not in outcome.text
    assert len(world.sent) == 1


async def test_what_may_not_be_run_is_refused_before_it_begins(world: World) -> None:
    low = await world.run(replace(request("launch", name="coder0"), permission=VIEWER))
    wrong = await world.run(request("launch", "r2", name="../x"))
    unknown = await world.run(request("lanuch", "r3"))
    assert (low.state, low.reason, low.code) == ("refused", "permission", "permission.denied")
    assert "permission operator; you have viewer" in low.text
    assert (wrong.state, wrong.reason, wrong.code) == ("refused", "usage", "command.usage")
    assert "Usage: `!launch NAME [--task TEXT]`" in wrong.text
    assert (unknown.state, unknown.reason, unknown.code) == ("refused", "unknown", "command.unknown")
    assert world.done == []
    assert world.sent == [low, wrong, unknown]
    assert [outcome for _, _, outcome in await world.audited()] == ["refused"] * 3


async def test_a_line_that_is_no_command_is_audited_and_answered_once(world: World) -> None:
    wish = request("launch", line="coder0 --taks x")
    first = await world.executor.refuse(wish, "no such option", finish=world.finish)
    again = await world.executor.refuse(wish, "no such option", finish=world.finish)
    assert (first.state, first.text) == ("refused", "no such option")
    assert again == first
    assert len(await world.audited()) == 1


async def test_a_line_that_another_version_ran_and_this_one_cannot_read_ends_there(world: World) -> None:
    wish = request("launch", name="coder0", task="wait")
    running = asyncio.create_task(world.run(wish))
    await world.reached.wait()
    await world.executor.stop()
    await asyncio.gather(running, return_exceptions=True)
    world.restarted()
    outcome = await world.executor.refuse(wish, "no such option", finish=world.finish)
    assert (outcome.state, outcome.text) == ("failed", "no such option")
    assert await world.state("r1") == "failed"
    assert [outcome for _, _, outcome in await world.audited()] == ["failed"]


async def test_secrets_stay_out_of_answers_audit_and_what_is_kept(world: World) -> None:
    outcome = await world.run(request("break", how="user", password="hunter22", deep=["hunter22"]))
    await world.run(request("launch", "r2", name="coder0", task="use hunter22"))
    async with world.store.read() as tx:
        rows = await audit_log.since(tx, 0, limit=10)
        runs = [await command_runs.get(tx, "r1"), await command_runs.get(tx, "r2")]
    assert "hunter22" not in repr((outcome, rows, runs))
    assert rows[1].arguments == {"name": "coder0", "task": "use [redacted]"}


async def test_long_arguments_are_kept_short(world: World) -> None:
    await world.run(request("launch", name="coder0", task="x" * 100_000))
    async with world.store.read() as tx:
        (row,) = await audit_log.since(tx, 0, limit=10)
    assert len(row.arguments["task"]) == 2000


async def test_what_only_looks_may_look_again_but_answers_once(world: World) -> None:
    first = await world.run(request("ps"))
    assert first.text == "look 1"
    assert await world.run(request("ps")) == first
    with pytest.raises(RunConflict):
        await world.run(replace(request("ps"), identity=BEN))
    assert await world.run(request("ps")) == first


class TestConfirmation:
    async def test_the_command_waits_for_the_same_person(self, world: World) -> None:
        asked = await world.run(request("kill", name="coder0"))
        assert (asked.state, asked.confirm_until) == ("confirming", world.now + CONFIRM_WITHIN)
        assert "`!kill coder0` cannot be undone" in asked.text
        assert world.done == []
        assert await world.executor.waiting(ANA, "!other") == []
        with pytest.raises(NotPermitted, match="ana"):
            await world.executor.confirm("r1", BEN)
        with pytest.raises(NotPermitted, match="ana"):
            await world.executor.decline("r1", BEN)
        assert [run.id for run in await world.executor.waiting(ANA, "!room")] == ["r1"]
        assert await world.executor.waiting(BEN) == []

        done = await world.executor.confirm("r1", ANA, finish=world.finish)
        assert (done.state, done.text) == ("done", "killed coder0")
        assert await world.executor.confirm("r1", ANA, finish=world.finish) == done
        assert world.done == ["kill coder0"]
        assert await world.audited() == [(ANA, "kill", "done")]

    async def test_two_confirmations_at_once_run_it_once(self, world: World) -> None:
        await world.run(request("kill", name="coder0"))
        outcomes = await asyncio.gather(*(world.executor.confirm("r1", ANA) for _ in range(3)))
        assert {outcome.state for outcome in outcomes} == {"done"}
        assert world.done == ["kill coder0"]

    async def test_the_wish_again_still_waits(self, world: World) -> None:
        asked = await world.run(request("kill", name="coder0"))
        assert await world.run(request("kill", name="coder0")) == asked

    async def test_too_late_is_said_and_nothing_is_done(self, world: World) -> None:
        await world.run(request("kill", name="coder0"))
        world.now += CONFIRM_WITHIN
        outcome = await world.executor.confirm("r1", ANA, finish=world.finish)
        assert (outcome.state, world.done) == ("lapsed", [])
        assert await world.audited() == [(ANA, "kill", "lapsed")]

    async def test_what_nobody_confirms_lapses(self, world: World) -> None:
        await world.run(request("kill", name="coder0"))
        assert await world.executor.lapse() == []
        world.now += CONFIRM_WITHIN
        (outcome,) = await world.executor.lapse(finish=world.finish)
        assert (outcome.state, outcome.origin) == ("lapsed", ROOM)
        assert await world.executor.lapse() == []
        assert await world.audited() == [(ANA, "kill", "lapsed")]

    async def test_it_can_be_taken_back(self, world: World) -> None:
        await world.run(request("kill", name="coder0"))
        outcome = await world.executor.decline("r1", ANA, finish=world.finish)
        assert outcome.state == "refused"
        assert (await world.executor.confirm("r1", ANA)) == outcome
        assert world.done == []

    async def test_what_runs_already_cannot_be_taken_back_and_does_not_lapse(self, world: World) -> None:
        @world.table.command("erase", permission=OPERATOR, help_section="x", confirm=True)
        async def erase(ctx: Context[CommandServices]) -> Reply:
            """Erase."""
            world.reached.set()
            await world.go.wait()
            return Reply("erased")

        await world.run(request("erase"))
        async with asyncio.timeout(10):
            confirming = asyncio.create_task(world.executor.confirm("r1", ANA))
            await world.reached.wait()
            with pytest.raises(UserError, match="cannot be taken back"):
                await world.executor.decline("r1", ANA)
            world.now += CONFIRM_WITHIN
            assert await world.executor.lapse() == []
            world.go.set()
            assert (await confirming).text == "erased"

    async def test_a_confirmed_command_that_was_cut_off_is_taken_up(self, world: World) -> None:
        @world.table.command("erase", permission=OPERATOR, help_section="x", confirm=True)
        async def erase(ctx: Context[CommandServices]) -> Reply:
            """Erase."""
            world.reached.set()
            await world.go.wait()
            return Reply(f"taken up: {ctx.taken_up}")

        await world.run(request("erase"))
        async with asyncio.timeout(10):
            confirming = asyncio.create_task(world.executor.confirm("r1", ANA))
            await world.reached.wait()
            await world.executor.stop()
            await asyncio.gather(confirming, return_exceptions=True)
            world.restarted()
            world.go.set()
            world.now += CONFIRM_WITHIN
            outcome = await world.executor.confirm("r1", ANA, finish=world.finish)
        assert (outcome.state, outcome.text) == ("done", "taken up: True")
        assert await world.audited() == [(ANA, "erase", "done")]

    async def test_a_permission_lost_meanwhile_counts(self, world: World) -> None:
        await world.run(request("kill", name="coder0"))
        async with world.store.write(declare("test.set")) as tx:
            row = OperatorRow(identity=ANA, permission="viewer", set_by=BEN, set_at=world.now)
            await world.services.operators.put(tx, row)
        world.services.operators.refresh()
        outcome = await world.executor.confirm("r1", ANA, finish=world.finish)
        assert (outcome.state, outcome.reason, world.done) == ("refused", "permission", [])

    async def test_a_group_counts_as_it_is_when_a_command_is_confirmed(self, world: World) -> None:
        world.services.operators = Operators(world.store, {"matrix:crew": OPERATOR})
        for run_id, groups, state in (("r1", (), "refused"), ("r2", ("crew",), "done")):
            await world.run(replace(request("kill", name="coder0"), id=run_id))
            outcome = await world.executor.confirm(run_id, ANA, groups=groups, finish=world.finish)
            assert outcome.state == state
        async with world.store.read() as tx:
            assert [row.through for row in await audit_log.since(tx, 0.0, limit=9)] == [None, "matrix:crew"]

    async def test_nothing_to_confirm(self, world: World) -> None:
        with pytest.raises(NothingToConfirm):
            await world.executor.confirm("r9", ANA)

    async def test_other_doors_say_yes_in_the_request(self, world: World) -> None:
        wish = replace(request("kill", name="coder0"), door="cli", origin=None)
        refused = await world.run(wish)
        assert (refused.state, refused.reason) == ("refused", "confirm")
        done = await world.run(replace(wish, id="r2", confirmed=True))
        assert done.state == "done"


async def test_progress_reaches_whoever_asked_and_never_hurts(world: World) -> None:
    told: list[str] = []

    @world.table.command("work", permission=VIEWER, help_section="x")
    async def work(ctx: Context[CommandServices]) -> Reply:
        """Work."""
        await ctx.progress("half of hunter22")
        return Reply("all")

    async def tell(text: str) -> None:
        told.append(text)
        raise OSError("gone")

    assert (await world.executor.run(request("work"), progress=tell)).state == "done"
    assert told == ["half of [redacted]"]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_a_number_that_json_does_not_have_is_audited_as_text(world: World, number: float) -> None:
    # PostgreSQL would refuse the line, so that nothing of the attempt was kept.
    assert (await world.run(request("launch", name="../x", task=number))).state == "refused"
    async with world.store.read() as tx:
        (row,) = await audit_log.since(tx, 0, limit=10)
    assert row.arguments == {"name": "../x", "task": str(number)}
