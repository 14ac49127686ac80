"""Approval rules from the operator's side: given by command or in muster.yaml, and what agents then ask."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from database.queries.chat import approvals
from database.queries.operations import audit_log
from tests.bot.orchestrator import OPERATOR, House, house


async def entries(home: House) -> str:
    return await home.ask("!tail coder0 30")


async def test_a_rule_holds_at_once_and_is_in_the_audit_log_and_in_tail(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        told = await home.ask('!approvals rule add allow "touch proof.txt"')
        assert "**allow** `touch proof.txt`" in told
        assert "For coder0, and new ones." in told
        rule = told.split("`")[1]
        event = home.say("[[run: touch proof.txt]]", thread)
        await home.marks(event, "✅")
        proof = home.paths.workspace("coder0") / "proof.txt"
        assert proof.exists()
        assert not [text for text in home.chat.texts(thread) if "asks for permission" in text]
        assert f"allowed by rule {rule}" in await entries(home)
        async with home.orchestrator.store.read() as tx:
            rows = await audit_log.since(tx, 0.0, limit=200)
        found = [row for row in rows if row.identity == f"rule:{rule}"]
        assert [(row.action, row.arguments["detail"]) for row in found] == [("permission of coder0", "touch proof.txt")]
        assert (found[0].detail or "").startswith(f"allowed by rule {rule}")

        # Removed, it is asked again.
        assert "is removed" in await home.ask(f"!approvals rule remove {rule}")
        home.say("[[run: touch proof.txt]]", thread)
        await home.heard(thread, "asks for permission")
        assert "is removed" not in await home.ask(f"!approvals rule remove {rule}")


async def test_a_rule_that_denies_wins_over_one_that_allows(tmp_path: Path) -> None:
    settings = "approvals: {rules: {allow: [{command: touch proof.txt}]}, agents: {coder0: {preset: careful}}}\n"
    async with house(tmp_path, settings=settings) as home, home.open():
        thread = await home.launch("coder0")
        assert "by rule `y" in await home.ask('!approvals rule test "touch proof.txt"')
        await home.ask('!approvals rule add deny "touch proof.txt" --scope agent:coder0')
        shown = await home.ask('!approvals rule test "touch proof.txt" --name coder0')
        assert "**coder0**: **deny** by rule" in shown
        event = home.say("[[run: touch proof.txt]]", thread)
        await home.marks(event, "✅")
        assert not (home.paths.workspace("coder0") / "proof.txt").exists()
        assert "denied by rule" in await entries(home)


@pytest.mark.slow
async def test_rules_reach_an_agent_that_was_down_and_one_that_ran_on_alone(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        async with home.open():
            await home.launch("coder0")
        async with home.open():
            # The agent ran on without an orchestrator, which has no link to it yet.
            thread = await home.thread("coder0")
            await home.ask('!approvals rule add allow "touch a.txt"')
            await home.heard_from("coder0")
            event = home.say("[[run: touch a.txt]]", thread)
            await home.marks(event, "✅")
            await home.ask("!stop coder0")
            await home.heard(thread, "Stopped")
            await home.ask('!approvals rule add allow "touch b.txt"')
            await home.ask("!restart coder0")
            event = home.say("[[run: touch b.txt]]", thread)
            await home.marks(event, "✅")
            assert not [text for text in home.chat.texts(thread) if "asks for permission" in text]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("!approvals rule add allow", "What is the rule about?"),
        ("!approvals rule add allow --prefix", "--prefix is for a command"),
        ("!approvals rule add allow ls --scope agent:nobody", "there is no agent 'nobody'"),
        ("!approvals rule add allow ls --scope everyone", "is no scope of an approval rule"),
        ("!approvals rule add allow ls --for 2s", "one minute up to 31 days"),
        ("!approvals rule add perhaps ls", "allow"),
        ('!approvals rule add allow "python" --prefix', "Allow the exact command instead"),
        ("!approvals rule add allow 'make; rm -rf ~'", "is not one simple command"),
        ("!approvals rule add allow --kind execute", "without an end"),
        ("!approvals rule remove r000000", "No rule that was added by command has the id 'r000000'"),
        ("!approvals rule test", "Give a command in quotes"),
    ],
)
async def test_what_is_no_rule_is_refused_with_the_way_out(tmp_path: Path, line: str, reason: str) -> None:
    async with house(tmp_path) as home, home.open():
        assert reason in await home.ask(line)
        assert "There are no rules" in await home.ask("!approvals rule list")


async def test_only_admins_change_rules(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        assert "admin" in await home.ask("!approvals rule add allow ls", sender=OPERATOR)
        assert "There are no rules" in await home.ask("!approvals rule list", sender=OPERATOR)


@pytest.mark.slow
async def test_what_was_asked_most_is_a_candidate_for_a_rule(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        assert "Nothing was asked" in await home.ask("!approvals stats")
        for _ in range(2):
            event = home.say("[[run: git status]]", thread)
            await home.ask(f"!approve {await waiting_request(home)}")
            await home.marks(event, "✅")
        shown = await home.ask("!approvals stats --since 1d")
        assert "- 2 times (2 allowed): `git status`, coder0" in shown
        assert "`!approvals rule add allow 'git status" in shown or '`!approvals rule add allow "git status' in shown


async def waiting_request(home: House) -> str:
    """The id of the request that waits for an answer, once there is one."""
    async with asyncio.timeout(30):
        while True:
            async with home.orchestrator.store.read() as tx:
                found = await approvals.in_states(tx, ["pending"])
            if found:
                return found[0].id
            await home.orchestrator.delivery.idle()
