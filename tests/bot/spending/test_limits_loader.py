"""All surfaces show the same limits: which govern, which are set but do not, what is used, and what was enforced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from bot.api_client import Client
from bot.read_models.codec import to_wire
from bot.read_models.limits import LimitsModel
from bot.spending import limits_loader
from bot.spending.limits_loader import ALL
from core.crash_points import declare
from database.queries.spending import usage_ledger
from database.schema import audit, command_runs
from tests.bot.orchestrator import ADMIN, House, house
from tests.database.queries.rows import row as ledger_row

STEP = declare("tests.limits_loader")
_SETTINGS = "budgets:\n  host: [{tokens: 20M, window: day}, {usd: 300}]\n  agents: {coder1: {tokens: 900k}}\n"
_ROSTER = "preset: minimal\nagents:\n" + "".join(
    f"  - {{name: coder{number}, runtime: sim, sandbox: none}}\n" for number in range(3)
)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, settings=_SETTINGS, roster=_ROSTER) as made:
        yield made


async def data(home: House, name: str, **arguments: Any) -> Any:
    body = await asyncio.to_thread(lambda: Client(home.paths.gateway_socket).run(name, arguments).body)
    return body["data"]


async def loaded(home: House) -> LimitsModel:
    return await limits_loader.load(home.orchestrator.services, *ALL)


async def logged(home: House, kind: str) -> LimitsModel:
    """The limits, once the egress's record of something was copied."""
    async with asyncio.timeout(30):
        while True:
            model = await loaded(home)
            if kind in {each.kind for each in model.enforcements}:
                return model
            await asyncio.sleep(0.02)


async def test_budget_pace_report_and_the_model_say_the_same(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        await home.ask("!budget set agent:coder0 400k --window day")
        await home.marks(home.say("[[cache: 0 30000]][[say: used]]", thread), "✅")
        await home.spent(1)
        model = await loaded(home)
        rows, windows = await data(home, "budget"), (await data(home, "pace"))["windows"]
        reported = {each["window"]: each for each in (await data(home, "report", kind="budget"))["windows"]}
    assert len(rows) == len(model.lines) > 3
    for row, line in zip(rows, model.lines, strict=True):
        assert (row["scope"], row["unit"], row["window"]) == (line.scope, line.unit, line.window)
        assert (row["used"], row["remaining"], row["state"]) == (line.used, line.remaining, line.state)
        paced = model.pace_of(line)
        assert (paced is None) == (row["pace"] is None)
        if paced is not None:
            assert (paced.used, paced.limit, paced.remaining) == (line.used, line.limit, line.remaining)
    assert [each["window"] for each in windows] == [each.key for each in model.windows]
    for shown, window in zip(windows, model.windows, strict=True):
        assert shown["used"] == window.used == reported[window.key]["used"]
        assert shown["limit"] == window.limit == reported[window.key]["limit"]
    own = model.window("agent:coder0/tokens/day")
    assert own is not None
    assert own.used is not None
    assert own.used >= 30_000
    assert model.counted.source == "egress"
    assert to_wire(model, str), "dashboards get it as JSON"


async def test_a_view_says_which_scope_governs_and_which_others_are_set_but_do_not(home: House) -> None:
    async with home.open():
        await home.ask("!budget set agent:coder0 20k --window day")
        await home.ask("!budget set agent 1k --window day")
        await home.ask("!budget set host 5M --window day")
        await home.launch("coder0", "--budget", "500k")
        model = await loaded(home)
        said, rows = await home.ask("!budget"), await data(home, "budget")
    overruled = {(each.scope, each.by.scope): each.by for each in model.overruled}
    assert overruled["agent:coder0", "launch"].agents == ("coder0",)
    assert overruled["agent:coder0", "launch"].everybody
    assert overruled["agent", "launch"].agents == ("coder0",)
    assert not overruled["agent", "launch"].everybody, "it governs the other agents of the roster"
    assert overruled["agent", "agent:coder1"].agents == ("coder1",)
    # What files set for a scope does not hold beside a command's limit.
    assert [(each.unit, each.limit) for each in model.overruled if each.scope == each.by.scope == "host"] == [
        ("tokens", 20_000_000), ("usd", 300),
    ]  # fmt: skip
    assert "`host` (20M tokens a day) of the files does not hold: a limit that was set by command replaces" in said
    (line,) = [each for each in model.lines if each.scope == "agent:coder0"]
    assert (line.state, line.governing_scope) == ("overruled", "launch")
    (row,) = [each for each in rows if each["scope"] == "agent:coder0"]
    assert (row["governed_by"], row["overruled_for"]) == (
        "launch", [{"agents": ["coder0"], "governed_by": "launch"}],
    )  # fmt: skip
    (each,) = [each for each in rows if each["scope"] == "agent"]
    assert (each["governed_by"], {"agents": ["coder0"], "governed_by": "launch"} in each["overruled_for"]) == (
        None, True,
    )  # fmt: skip
    (launch,) = [each for each in model.lines if each.scope.startswith("launch:")]
    assert (launch.state, launch.agent, launch.limit) == ("open", "coder0", 500_000)


async def test_the_log_says_what_was_enforced_when_and_by_whom(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        await home.ask("!budget set agent:coder0 1k --window day")
        home.say("[[cache: 900000 0]] [[say: that was much]]", thread)
        await home.heard(thread, "🔴")
        await home.ask("!cutoff coder0")
        await home.ask("!restore coder0")
        await home.ask("!budget clear agent:coder0")
        await home.ask("!confirm")
        await home.ask("!estop")
        model = await logged(home, "restored")
        await home.ask("!estop --clear")
        await home.ask("!confirm")
        await logged(home, "estop_over")
        said, rows = await home.ask("!budget log --agent coder0"), await data(home, "budget log", agent="coder0")
        every = await data(home, "budget log", since="1h")
        assert "Nothing was enforced or changed" in await home.ask("!budget log --agent lead")
    found = {each.kind: each for each in reversed(model.enforcements)}
    admin = found["budget_set"].by
    assert admin == f"memory:{ADMIN}"
    assert (found["budget_set"].scope, found["budget_set"].agent) == ("agent:coder0", "coder0")
    assert (found["used_up"].by, found["used_up"].scope) == ("egress", "agent:coder0")
    assert found["used_up"].agent == "coder0"
    for kind in ("cut_off", "restored"):
        assert (found[kind].by, found[kind].agent) == (admin, "coder0"), kind
    assert found["estop"].by == admin
    assert model.estop is not None
    assert {each["agent"] for each in rows} == {"coder0"}
    assert {"budget_set", "used_up", "cut_off", "restored", "budget_cleared"} <= {each["what"] for each in rows}
    assert {"estop", "estop_over"} <= {each["what"] for each in every}
    (row,) = [line for line in said.splitlines() if "🔴 used up" in line]
    assert "| agent:coder0 | egress |" in row
    times = [each.at if each.last_at is None else each.last_at for each in model.enforcements]
    assert times == sorted(times, reverse=True)


async def test_use_stands_per_agent_sandbox_provider_account_and_model(home: House) -> None:
    async with home.open() as orchestrator:
        now = home.clock()
        rows = [
            ledger_row(1, ended_at=now, agent="a", profile="none", account="main", model="opus", usd=1.0),
            ledger_row(2, ended_at=now, agent="b", profile="none", account="spare", model="haiku", usd=None),
            ledger_row(3, ended_at=now, agent="b", profile="docs", account="spare", model="haiku", usd=0.5),
            ledger_row(4, ended_at=now - 3 * 86_400, agent="old"),
        ]
        async with orchestrator.store.write(STEP) as tx:
            await usage_ledger.add(tx, rows)
        usage = (await loaded(home)).usage
    assert usage is not None
    found = {(each.by, each.name): (each.requests, each.usd) for each in usage}
    assert found == {
        ("agent", "b"): (2, None), ("agent", "a"): (1, 1.0),
        ("sandbox", "none"): (2, None), ("sandbox", "docs"): (1, 0.5),
        ("provider", "anthropic"): (3, None),
        ("account", "spare"): (2, None), ("account", "main"): (1, 1.0),
        ("model", "haiku"): (2, None), ("model", "opus"): (1, 1.0),
    }  # fmt: skip
    assert [each.name for each in usage if each.by == "agent"] == ["b", "a"], "the largest first"


async def test_loading_runs_no_command_and_writes_nothing(home: House) -> None:
    async def rows() -> list[int]:
        async with home.orchestrator.store.read() as tx:
            return [await tx.scalar(select(func.count()).select_from(each)) or 0 for each in (command_runs, audit)]

    async with home.open():
        before = await rows()
        await loaded(home)
        assert await rows() == before


async def test_without_an_egress_the_limits_are_shown_and_their_use_is_unknown(home: House) -> None:
    async with home.open() as orchestrator:
        await home.ask("!budget set agent:coder0 400k")
        orchestrator.services.egress_client = None
        model = await loaded(home)
        said = await home.ask("!budget")
    assert model.counted.source == "none"
    (line,) = [each for each in model.lines if each.scope == "agent:coder0"]
    assert (line.used, line.state, line.known.source) == (None, None, "none")
    assert "The egress does not answer, so the current use is unknown." in said
