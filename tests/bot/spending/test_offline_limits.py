"""With the orchestrator down, a shell still shows the limits that the egress holds, and what is not known of them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bot.auth.permission import ADMIN
from bot.commands import sections
from bot.commands.executor import RunRequest
from bot.config.paths import Paths
from bot.egress_client import emergency_stop
from bot.egress_client.process import places
from bot.interfaces.cli.main import run
from bot.interfaces.cli.output import NOT_RUNNING
from bot.spending import offline_limits, pace_view
from egress.ledger.model import Observation
from tests.bot.orchestrator import House, house

_SETTINGS = "budgets:\n  host: [{tokens: 20M, window: day}, {usd: 300}]\n  roles: {research: {tokens: 3M}}\n"
_ROSTER = "preset: minimal\nagents:\n  - {name: coder0, runtime: sim, sandbox: none}\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path))


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, settings=_SETTINGS, roster=_ROSTER) as made:
        yield made


async def used(home: House) -> list[dict[str, Any]]:
    """Have an agent use something; what `budget --json` says then."""
    thread = await home.launch("coder0")
    await home.ask("!budget set agent:coder0 400k --window day")
    await home.marks(home.say("[[cache: 0 30000]][[say: used]]", thread), "✅")
    await home.spent(1)
    await home.ask("!cutoff coder0")
    services = home.orchestrator.services
    from bot.spending import budget_view, limits_loader

    return budget_view.budget_json(await limits_loader.load(services))


def muster(*words: str) -> int:
    return run(sections.load(), list(words))


def known(rows: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """By limit what is used and what happens, of limits that the egress counts."""
    return {
        (each["scope"], each["agent"], each["unit"], each["window"]): (
            each["kind"], each["limit"], each["used"], each["policy"], each["state"], each["reset_at"],
        )
        for each in rows if each["evidence"] in ("egress", "ledger")
    }  # fmt: skip


async def test_the_egress_says_the_same_as_before_muster_went(home: House, capsys: pytest.CaptureFixture[str]) -> None:
    async with home.open():
        before = await used(home)
    capsys.readouterr()
    assert await asyncio.to_thread(muster, "budget", "--json") == NOT_RUNNING
    said = capsys.readouterr()
    rows = json.loads(said.out)
    assert [each.keys() for each in rows] == [before[0].keys()] * len(rows), "programs get the same keys"
    assert known(rows).items() >= known(before).items()
    assert {each["evidence"] for each in rows} == {"egress", "none"}
    assert {each["pace"] for each in rows} == {None}, "only the orchestrator knows it"
    (idle,) = [each for each in rows if each["scope"] == "role:research"]
    assert (idle["limit"], idle["used"], idle["state"]) == (3_000_000, None, None)
    assert "Muster is not running" in said.err
    assert await asyncio.to_thread(muster, "budget") == NOT_RUNNING
    said = capsys.readouterr()
    assert "This is what the egress counts and enforces now, while Muster does not run." in said.out
    assert "The pace is unknown without Muster." in said.out
    (row,) = [line for line in said.out.splitlines() if line.startswith("agent:coder0")]
    assert "400k tokens a day" in row
    assert "?" in row, "the pace is marked as unknown"


async def test_pace_shows_each_window_and_that_its_line_is_unknown(
    home: House, capsys: pytest.CaptureFixture[str]
) -> None:
    async with home.open():
        await used(home)
        before = await home.orchestrator.executor.run(
            RunRequest(id="pace", name="pace", arguments={}, identity="cli:ana", permission=ADMIN, door="cli")
        )
    capsys.readouterr()
    assert await asyncio.to_thread(muster, "pace", "--json") == NOT_RUNNING
    said = capsys.readouterr()
    found, running = json.loads(said.out), before.reply.data
    assert found.keys() == running.keys(), "programs get the same keys"
    assert found["evidence"] == "egress"
    assert (found["waiting"], found["spread"]) == (None, None), "only Muster knows it"
    windows = {each["window"]: each for each in found["windows"]}
    paced = {each["window"]: each for each in running["windows"]}
    assert windows.keys() == paced.keys(), "the keys of windows are the same"
    one, other = windows["agent:coder0/tokens/day"], paced["agent:coder0/tokens/day"]
    assert one.keys() == other.keys()
    assert {name: one[name] for name in ("scope", "unit", "limit", "used", "reset_at", "reset_confidence")} == {
        name: other[name] for name in ("scope", "unit", "limit", "used", "reset_at", "reset_confidence")
    }
    assert {name: one[name] for name in ("line", "ahead", "may_use_now", "holds")} == dict.fromkeys(
        ("line", "ahead", "may_use_now", "holds")
    )
    assert one["seen_at"] is not None
    assert "Muster is not running" in said.err
    assert await asyncio.to_thread(muster, "pace") == NOT_RUNNING
    said = capsys.readouterr()
    assert "of 400k tokens used. Its line is unknown." in said.out
    assert "The pace is unknown without Muster." in said.out


async def test_without_the_egress_its_ledger_says_what_was_used_and_how_long_ago(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with house(tmp_path, settings=_SETTINGS, roster=_ROSTER) as home:
        async with home.open():
            before = await used(home)
        paths = home.paths
    emergency_stop.pull(paths.state, by="terminal:ana", at="2026-11-25T09:00:00Z")
    model = offline_limits.load(paths, time.time() + 7_200)
    assert model is not None
    assert model.counted.source == "ledger"
    assert model.counted.at is not None
    (line,) = [each for each in model.lines if each.scope == "agent:coder0"]
    assert line.used is not None
    assert (line.reserved, line.remaining) == (None, None), "what was under way is unknown"
    assert line.seen_at == model.counted.at
    assert model.estop is not None
    assert [each.kind for each in model.enforcements if each.agent == "coder0"] == ["cut_off"]
    capsys.readouterr()
    assert await asyncio.to_thread(muster, "budget", "--json") == NOT_RUNNING
    rows = json.loads(capsys.readouterr().out)
    assert known(rows).items() >= known(before).items()
    assert {each["remaining"] for each in rows} == {None}
    assert await asyncio.to_thread(muster, "budget") == NOT_RUNNING
    said = capsys.readouterr().out
    assert "The egress does not answer either, so this is what its ledger has, last " in said
    assert "The emergency stop holds: nothing leaves." in said
    model = offline_limits.load(paths, time.time() + 7_200)
    assert model is not None
    assert "used, as known 2 h ago. Its line is unknown." in pace_view.pace_text(model)


async def test_where_nothing_can_be_read_it_says_so_and_shows_nothing(
    home: House, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = home.paths
    assert offline_limits.load(paths) is None
    capsys.readouterr()
    assert muster("budget", "--json") == NOT_RUNNING
    assert json.loads(capsys.readouterr().out)["code"] == "muster.not_running"
    places(paths).folder.mkdir(exist_ok=True)
    places(paths).settings.write_text("no settings")
    assert offline_limits.load(paths) is None


def test_a_damaged_ledger_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    paths.prepare()
    places(paths).folder.mkdir()
    places(paths).settings.write_text('{"host": "attic"}')
    places(paths).ledger.write_bytes(b"no database at all, but text" * 100)
    assert muster("budget") == NOT_RUNNING
    said = capsys.readouterr()
    assert "ledger.db" in said.err
    assert not said.out


def test_what_a_provider_reported_is_the_least_that_is_used_until_its_reset() -> None:
    def seen(**said: Any) -> Observation:
        plain: dict[str, Any] = {
            "account": "main",
            "provider": "anthropic",
            "window": "7d",
            "seen_at": 50.0,
            "window_s": 604_800.0,
        }
        return Observation(**plain | said)

    found = offline_limits.quotas_of(
        [
            seen(used=0.41, reset_at=900.0),
            seen(used=1.0, reset_at=900.0),
            seen(used=0.9, reset_at=99.0),
            seen(used=0.9, reset_at=900.0, window_s=None),
            seen(used=None, reset_at=900.0),
        ],
        100.0,
    )
    assert [(each.used, each.at_least, each.state, each.resets_at) for each in found] == [
        (None, 0.41, None, 900.0), (None, 1.0, "used up", 900.0), (None, None, None, None),
    ]  # fmt: skip
    assert {(each.known.source, each.seen_at) for each in found} == {("provider", 50.0)}


async def test_it_loads_no_register(home: House) -> None:
    async with home.open():
        await used(home)
    program = (
        "import atexit, sys; from bot.interfaces.cli import main as cli\n"
        "atexit.register(lambda: print(sorted({'sqlalchemy', 'database', 'aiohttp'} & sys.modules.keys())))\n"
        "cli.main(['budget', '--json'])"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == NOT_RUNNING
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
