"""What an agent uses goes through the egress, and what the egress wrote down is what operators read."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from bot.agents import fleet_loader
from bot.commands.executor import ACCEPT
from bot.maintenance.backup.restore import restore
from bot.maintenance.backup.service import backup
from database.queries.operations import command_runs
from database.queries.operations.command_runs import CommandRun
from database.queries.spending import hourly_rollup, pacing_windows, usage_ledger, usage_queries
from database.queries.spending.usage_ledger import GroupUsage
from fleet.sandbox.selection import available
from fleet.sim.provider.quota_headers import SimQuota
from fleet.supervision import host_lifecycle
from tests import waiting
from tests.bot.orchestrator import ADMIN, OPERATOR, VIEWER, House, egress_client, house


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    # What the egress lets through is looked at here, and not when.
    async with house(tmp_path, settings="pacing: {spread: off}\n") as made:
        yield made


async def spent(home: House, requests: int) -> GroupUsage:
    """What was used, once so many requests are in the register."""
    (used,) = await home.spent(requests)
    return used


async def test_a_turn_is_metered_and_shown(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0", "--role", "research")
        home.say("hello", thread)
        await home.heard(thread, "hello")
        used = await spent(home, 1)
        assert used.tokens > 0
        told = await home.ask("!spend")
        assert "coder0" in told
        assert "research" in await home.ask("!spend --by role")


async def test_an_agent_that_is_cut_off_reaches_no_model_until_it_is_restored(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        told = await home.ask("!cutoff coder0", sender=OPERATOR)
        assert "`!restore coder0` opens it again" in told
        assert "without a sandbox" in told
        assert "Cut off: coder0. `!restore NAME`" in await home.ask("!ps")
        home.say("are you there?", thread)
        said = await home.heard(thread, "The agent coder0 was cut off by memory:@otto. `")
        assert "✖ The turn failed" in said
        assert "`!restore coder0` opens it again" in said, "as it is typed here"
        assert (await home.ask("!restore coder0")) == "coder0 may go out again."
        assert "Cut off" not in await home.ask("!ps")
        home.say("and now?", thread)
        await home.heard(thread, "and now?")
        assert "was not cut off" in await home.ask("!restore coder0")
        told_of = [text for text in home.chat.texts(thread) if "was cut off by memory:@otto" in text]
        assert len(told_of) == 1, "read once"
        rows = await home.ask("!audit")
        assert "cutoff" in rows
        assert "restore" in rows
        assert "is your permission" in (said := await home.ask("!cutoff coder0", sender=VIEWER)) or "viewer" in said


async def test_a_refusal_of_which_no_turn_says_anything_is_told_with_what_opens_it(home: House) -> None:
    async with home.open() as orchestrator:
        thread = await home.launch("coder0")
        await home.ask("!cutoff coder0", sender=OPERATOR)
        client = egress_client(orchestrator)
        client.every_s = 0.2
        served = await home.egress.start()
        (registered,) = home.egress.egress.ledger.agents.values()  # type: ignore[attr-defined]
        address = await served.register(registered)
        async with aiohttp.ClientSession() as session:
            asked = {"model": "sim-1", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
            async with session.post(f"{address.url}/anthropic/v1/messages", json=asked) as response:
                assert response.status == 403
        told = await home.heard(thread, "🔴 A request was refused")
        assert "was cut off by memory:@otto. `!restore coder0` opens it again." in told
        assert "!budget" not in told


async def test_a_limit_that_is_used_up_is_told_once_and_opened_by_a_higher_one(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        told = await home.ask("!budget set agent:coder0 40k --window day")
        assert told == "`agent:coder0`: 40k tokens a day, then cutoff."
        event = home.say("[[cache: 900000 0]] [[say: that was much]]", thread)
        crossing = await home.heard(thread, "🔴")
        assert "coder0" in crossing
        for text in ("two", "three"):
            home.say(text, thread)
            await home.heard(thread, "budget set agent:coder0")
        shown = await home.ask("!budget")
        assert "| agent:coder0 | 40k tokens a day |" in shown
        assert "🔴 cutoff" in shown
        await home.ask("!add coder7")
        await home.ask("!budget set agent:coder7 3M --policy kill")
        assert "| agent:coder7 | 3M tokens | - | - | - | ⚪ kill |" in await home.ask("!budget")
        assert "used up: `agent:coder0`. `!budget set` raises it." in await home.ask("!restore coder0")
        assert "A budget is used up: coder0." in await home.ask("!ps")
        gate = (await fleet_loader.load_agent(home.orchestrator.services, "coder0")).gate
        assert gate is not None
        assert [(each.kind, each.limits) for each in gate.closures] == [("used_up", ("agent:coder0",))]
        await home.ask("!budget set host $2.50 --window month --policy freeze")
        assert "| host | $2.50 a month |" in await home.ask("!budget")
        await home.ask("!budget clear host")
        assert "taken back" in await home.ask("!confirm")
        assert "| host |" not in await home.ask("!budget")
        await home.ask("!budget set agent:coder0 5M --window day")
        event = home.say("five, at last", thread)
        await home.marks(event, "✅")
        assert sum(text.startswith("🔴") for text in home.chat.texts(thread)) == 1, "the crossing, once"
        assert "🟢 cutoff" in await home.ask("!budget")


async def test_a_limit_that_is_passed_as_it_is_set_is_told_so(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        home.say("hello", thread)
        await home.heard(thread, "hello")
        await spent(home, 1)
        assert "passed already" not in await home.ask("!budget set host 5M --window day")
        said = await home.ask("!budget set host 1 --window day")
        assert re.search(r"It is passed already: [\d.,]+k? tokens are used\.", said), said


async def test_what_is_held_for_a_request_under_way_is_not_used_up(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        await home.ask("!budget set agent:coder0 1.2k --window day")
        home.say("[[hang]]", thread)
        shown = await waiting.until(
            lambda: home.ask("!budget"),
            lambda shown: re.search("\\| 0 tokens \\| 1[.\\d]*k tokens \\| 0 tokens \\|", shown),
        )
        assert "🟢 cutoff" in shown
        await home.ask("!cancel coder0")


async def test_what_was_used_is_summed_up_and_stands_beside_what_the_provider_says(tmp_path: Path) -> None:
    small = SimQuota(tokens_per_five_hours=40_000, tokens_per_week=1_000_000)
    plan = "sk-ant-oat01-not-a-real-one"
    async with house(tmp_path, limits=small, key=plan) as home, home.open() as orchestrator:
        thread = await home.launch("coder0")
        for number in range(1, 4):
            home.say(f"hello {number}", thread)
            await home.heard(thread, f"hello {number}")
            used = await spent(home, number)
        async with asyncio.timeout(30):
            while True:
                async with orchestrator.store.read() as tx:
                    seen = await pacing_windows.observations(tx, "sim", "5h")
                    windows = set(await pacing_windows.observed(tx))
                if len(seen) >= 3:
                    break
                await asyncio.sleep(0.02)
        async with orchestrator.store.read() as tx:
            assert await hourly_rollup.verify(tx) == []
            assert (await usage_queries.used(tx, "account:sim", 0.0)).tokens == used.tokens
    # Its limits by the minute are no windows of it.
    assert {("sim", "5h"), ("sim", "7d")} <= windows
    assert not [name for _, name in windows if "token" in name or "request" in name]
    assert [each.tokens for each in seen] == sorted(each.tokens for each in seen)
    assert seen[-1].tokens > seen[0].tokens == 0.0


async def test_spending_survives_a_restart_and_is_counted_once(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        home.say("hello", thread)
        await home.heard(thread, "hello")
        before = await spent(home, 1)
    async with home.open() as orchestrator:
        home.say("again", thread)
        await home.heard(thread, "again")
        after = await spent(home, before.requests + 1)
        async with orchestrator.store.read() as tx:
            assert (await usage_ledger.spent(tx, by="agent", since=0))[0].key == "coder0"
        assert after.requests == before.requests + 1


async def test_the_emergency_stop_closes_all_and_takes_an_admin_to_end(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        assert "Everything is stopped" in await home.ask("!estop", sender=OPERATOR)
        home.say("hello?", thread)
        await home.heard(thread, "emergency stop is set")
        assert "The emergency stop holds" in await home.ask("!ps")
        health = await home.ask("!health")
        assert "the emergency stop holds" in health
        assert health.startswith("**degraded**")
        await home.ask("!estop --clear", sender=OPERATOR)
        assert "only an admin" in await home.ask("!confirm", sender=OPERATOR)
        await home.ask("!estop --clear")
        assert "is over" in await home.ask("!confirm")
        await home.ask("!estop --clear")
        assert await home.ask("!confirm") == "There was no emergency stop."
        event = home.say("and now?", thread)
        await home.marks(event, "✅")


async def ended(home: House, run_id: str) -> CommandRun:
    """A run that is taken up, once it is over."""
    async with asyncio.timeout(30):
        while True:
            async with home.orchestrator.store.read() as tx:
                found = await command_runs.get(tx, run_id)
            assert found is not None
            if found.state != "running":
                return found
            await asyncio.sleep(0.02)


async def test_what_opens_and_is_taken_up_late_opens_nothing_that_was_closed_since(home: House) -> None:
    """The register went away in the middle of both commands, and what was open was closed anew before it was back."""
    begun = CommandRun(
        id="late-restore",
        name="restore",
        arguments={"name": "coder0"},
        identity=ADMIN,
        permission="admin",
        through=None,
        door="cli",
        connector=None,
        conversation=None,
        parent=None,
        event_id=None,
        state="running",
        confirm_until=None,
        reply=None,
        started_at=time.time(),
        ended_at=None,
    )
    async with home.open() as orchestrator:
        await home.launch("coder0")
        async with orchestrator.store.write(ACCEPT) as tx:
            await command_runs.add(tx, begun)
            await command_runs.add(tx, replace(begun, id="late-clear", name="estop", arguments={"clear": True}))
        await home.ask("!cutoff coder0", sender=OPERATOR)
        assert "Everything is stopped" in await home.ask("!estop", sender=OPERATOR)
    async with home.open():
        for run_id in ("late-restore", "late-clear"):
            run = await ended(home, run_id)
            assert run.state == "refused"
            assert "again in the meantime" in (run.reply or {})["text"]
        shown = await home.ask("!ps")
        assert "Cut off: coder0" in shown
        assert "The emergency stop holds" in shown
        await home.ask("!estop --clear")
        assert "is over" in await home.ask("!confirm")
        assert await home.ask("!restore coder0") == "coder0 may go out again."


async def test_a_killed_agents_way_is_closed_and_opened_for_its_next_launch(home: House) -> None:
    async with home.open():
        await home.launch("coder0")
        client = await home.egress.find()
        assert client is not None
        await home.ask("!kill coder0")
        await home.ask("!confirm")
        (denial,) = (await client.standing())["denials"]
        assert denial["id"].startswith("ending/kill/"), "of which is made what its runtime sees"
        thread = await home.launch("coder0")
        event = home.say("hello", thread)
        await home.marks(event, "✅")


async def test_the_rosters_budget_holds_and_a_launch_lowers_it(home: House) -> None:
    home.paths.roster_yaml.write_text(
        "preset: minimal\nagents:\n  - {name: coder0, runtime: sim, sandbox: none, budget: 40k}\n"
    )
    async with home.open():
        thread = await home.launch("coder0")
        assert "agent:coder0 | 40k tokens |" in await home.ask("!budget")
        told = await home.ask("!restart coder0 --now")
        assert "starts again" in told
        await home.ask("!stop coder0 --now")
        await home.heard(thread, "Stopped")
        more = await home.ask("!launch coder0 --budget 50k", sender=OPERATOR)
        assert "only an admin" in more
        less = await home.ask("!launch coder0 --budget 20k", sender=OPERATOR)
        assert "starts in its thread" in less
        home.say("[[cache: 300000 0]] [[say: that was much]]", thread)
        await home.heard(thread, "of 20,000 tokens per launch used. Opened by `!launch coder0 --budget TOKENS`")
        assert "| coder0 (this launch) | 20k tokens |" in await home.ask("!budget")
        refused = home.say("more", thread)
        await home.marks(refused, "❌")


async def test_what_was_used_after_a_backup_is_known_after_it_is_put_back(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        await home.marks(home.say("one", thread), "✅")
        first = (await spent(home, 1)).requests
        made = await backup(home.paths, {}, now=time.time())
        await home.marks(home.say("two", thread), "✅")
        both = (await spent(home, first + 1)).requests
        await home.ask("!cutoff coder0")
    await host_lifecycle.kill(home.paths.agent_folder("coder0"))
    restored = await restore(home.paths, {}, made.written.file, now=time.time())
    assert not any("egress" in os.listdir(folder) for folder in restored.kept), "what was used was used"
    with closing(sqlite3.connect(home.paths.state / "egress-ledger.db")) as copy:
        assert copy.execute("SELECT count(*) FROM entries").fetchone() == (first,)
    async with home.open():
        assert (await spent(home, both)).requests == both
        assert "cutoff" in await home.ask("!audit")


@pytest.mark.parametrize(
    ("policy", "state"), [("freeze", "frozen"), pytest.param("kill", "stopped", marks=pytest.mark.slow)]
)
async def test_an_agent_that_met_its_limit_is_ended_as_its_policy_says_and_can_come_back(
    home: House, policy: str, state: str
) -> None:
    async with home.open() as orchestrator:
        thread = await home.launch("coder0")
        await home.ask(f"!budget set agent:coder0 40k --window day --policy {policy}")
        home.say("[[cache: 900000 0]] [[say: that was much]]", thread)
        await home.heard(thread, {"freeze": "It is frozen", "kill": "It is killed"}[policy])
        await home.becomes(state)
        assert (await orchestrator.agents.get("coder0")).keep_session is (policy == "freeze")
        assert policy in await home.ask("!audit")
        await home.ask("!budget set agent:coder0 5M --window day")
        await home.ask("!resume coder0" if policy == "freeze" else "!launch coder0")
        await home.marks(home.say("and now?", thread), "✅")


@pytest.mark.skipif(not available().works, reason="bubblewrap does not work here")
async def test_an_agent_in_a_sandbox_is_metered_through_the_one_socket_that_it_has(home: House) -> None:
    async with home.open():
        await home.ask("!launch coder0 --runtime sim --sandbox bubblewrap")
        thread = await home.thread("coder0")
        await home.heard(thread, "Ready")
        await home.marks(home.say("hello", thread), "✅")
        assert (await spent(home, 1)).tokens > 0
        told = await home.ask("!cutoff coder0")
        assert "without a sandbox" not in told
        home.say("are you there?", thread)
        await home.heard(thread, "was cut off by")


async def test_a_credential_that_others_can_read_is_told(tmp_path: Path, reachable: Path) -> None:
    secret = reachable / "key"
    secret.write_text("sk-test-not-a-real-key")
    secret.chmod(0o644)
    async with house(tmp_path) as home:
        written = home.paths.muster_yaml.read_text().replace("env:KEY", f"file:{secret}")
        home.paths.muster_yaml.write_text(written)
        async with home.open():
            thread = await home.launch("coder0")
            await home.marks(home.say("hello", thread), "✅")
            for asked in ("!accounts", "!health"):
                told = await home.ask(asked)
                assert "The credential of the account sim is open" in told
                assert "every user of this machine" in told
                assert "chmod 600" in told
            secret.chmod(0o600)
            assert "is open" not in await home.ask("!accounts")
