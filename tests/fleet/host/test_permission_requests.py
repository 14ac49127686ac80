"""Requests that approval rules answer: what the runtime is told, and what the journal has of it before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet.approval_rules.requests import RequestFacts, RuleVerdict
from fleet.approval_rules.rules import ApprovalRule, Effect
from fleet.control.host_spec import AgentSpec
from fleet.errors import AgentRefused
from fleet.host.acp.update_parser import ParsedPermissionRequest
from fleet.host.journal_fanout import JournalFanout
from fleet.host.permission_requests import PendingPermissions
from fleet.host.state import AgentState
from fleet.hosting.host_command_line import SPEC
from fleet.journal.events import PermissionAnswered, PermissionAsked, TextChunk, TurnEnded
from fleet.supervision import host_lifecycle
from tests import waiting
from tests.fleet.host.scripted_agent import LIMIT_S, Agent, status_when, until

COMMAND = RequestFacts(kind="execute", command="rm")
ONCE, ALWAYS, NO, NEVER = (
    {"id": kind, "name": kind, "kind": kind} for kind in ("allow_once", "allow_always", "reject_once", "reject_always")
)


def rule(effect: Effect, command: str, **changes: Any) -> ApprovalRule:
    return ApprovalRule(id=f"r-{effect}-{command}", effect=effect, kind="execute", command=command, **changes)


def told(*rules: ApprovalRule) -> tuple[Mapping[str, Any], ...]:
    return tuple(each.to_json() for each in rules)


def said(agent: Agent) -> str:
    return "".join(event.text for event in agent.events(TextChunk))


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent.make(tmp_path, runtime="sim")


async def test_rules_of_its_start_answer_and_the_rest_is_asked(agent: Agent) -> None:
    async with agent.running(approval_rules=told(rule("allow", "ls"), rule("deny", "rm"))) as link:
        await link.send("m1", "ask=ls ask=rm ask=make")
        await status_when(link, lambda status: status.state == "waiting")
        asked = await until(link, PermissionAsked)
        assert asked.detail == "make"
        assert (asked.facts["kind"], asked.facts["command"]) == ("execute", "make")
        assert asked.why
        await link.cancel()
        await until(link, TurnEnded)
    # The runtime offers "always" first, and a rule never takes that.
    assert said(agent) == "[yes][no][cancelled]"
    answers = agent.events(PermissionAnswered)[:2]
    assert [(each.outcome, each.rule, each.detail, each.by) for each in answers] == [
        ("selected", "r-allow-ls", "ls", None),
        ("denied", "r-deny-rm", "rm", None),
    ]
    assert all(each.why for each in answers)


async def test_rules_change_while_the_agent_works(agent: Agent) -> None:
    async with agent.running() as link:
        await link.set_rules(told(rule("allow", "ls")))
        await link.send("m1", "ask=ls")
        await until(link, TurnEnded, lambda event: event.message == "m1")
        await link.set_rules(told(rule("deny", "ls")))
        await link.send("m2", "ask=ls")
        await until(link, TurnEnded, lambda event: event.message == "m2")
        with pytest.raises(AgentRefused) as refused:
            await link.set_rules([{**rule("allow", "rm").to_json(), "kind": "everything"}])
        assert refused.value.refusal == "invalid"
        # What the agent host cannot read changes nothing.
        await link.send("m3", "ask=ls")
        await until(link, TurnEnded, lambda event: event.message == "m3")
    assert said(agent) == "[yes][no][no]"
    # After a boot, its unit starts it from this file without the orchestrator.
    kept = AgentSpec.read(agent.folder / SPEC).approval_rules
    assert [(each["effect"], each["command"]) for each in kept] == [("deny", "ls")]


async def test_a_rule_that_has_ended_asks(agent: Agent) -> None:
    past, later = time.time() - 1, time.time() + 3600
    rules = told(rule("allow", "ls", until=later), rule("allow", "rm", until=past))
    async with agent.running(approval_rules=rules) as link:
        await link.send("m1", "ask=ls ask=rm")
        asked = await until(link, PermissionAsked)
        assert asked.detail == "rm"
    assert said(agent).startswith("[yes]")


async def test_an_answer_by_rule_is_in_the_journal_before_the_runtime_has_it(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The runtime's answer goes out at this place, where the agent host is killed.
    monkeypatch.setenv(host_lifecycle.CRASH_VARIABLE, "runtime.answer.before:1")
    rules = told(rule("allow", "ls"))
    async with agent.running(approval_rules=rules) as link:
        await link.send("m1", "ask=ls")
        await waiting.until(lambda: not host_lifecycle.is_running(agent.folder), limit=LIMIT_S)
    assert [each.rule for each in agent.events(PermissionAnswered)] == ["r-allow-ls"]
    assert said(agent) == ""


# --- what is decided, without a process ---------------------------------------------------------------------------


class Desk:
    """A desk with a real journal, whose rules say `effect` of everything."""

    def __init__(self, home: Path, effect: Effect, grants: Mapping[str, str]) -> None:
        self.home, self.effect, self.grants = home, effect, grants

    async def __aenter__(self) -> PendingPermissions:
        agent = Agent.make(self.home)
        self.chronicle = await JournalFanout.open(agent.spec, AgentState(), clock=time.time)
        verdict = RuleVerdict(effect=self.effect, rule=rule(self.effect, "rm"), reason="So says a rule.")
        return PendingPermissions(
            self.chronicle.journal,
            timeout_s=0.05,
            clock=time.time,
            grants=lambda: self.grants,
            judge=lambda _: verdict,
        )

    async def __aexit__(self, *_: object) -> None:
        await self.chronicle.journal.close()


def request(*options: Mapping[str, str]) -> ParsedPermissionRequest:
    return ParsedPermissionRequest(title="rm", detail="rm", digest="d", options=options)


@pytest.mark.parametrize(
    ("effect", "options", "granted", "answer"),
    [
        ("allow", (ALWAYS, ONCE, NO), False, "allow_once"),
        # Without "once" the runtime would remember it, and the rule could not be taken back: a person is asked.
        ("allow", (ALWAYS, NO), False, "reject_once"),
        ("deny", (ONCE, NEVER, NO), False, "reject_once"),
        ("deny", (ONCE, NEVER), False, None),
        # A rule that denies wins over an "always", and an "always" over a rule that asks.
        ("deny", (ONCE, NO), True, "reject_once"),
        ("ask", (ONCE, NO), True, "allow_once"),
        ("ask", (ONCE, NO), False, "reject_once"),
    ],
)
async def test_what_the_runtime_is_answered(
    tmp_path: Path, effect: Effect, options: tuple[Mapping[str, str], ...], granted: bool, answer: str | None
) -> None:
    async with Desk(tmp_path, effect, {"d": "rm"} if granted else {}) as desk:
        assert await desk.ask("s", "t1", request(*options), COMMAND) == answer


async def test_a_turn_that_is_cancelled_gets_nothing_by_rule(tmp_path: Path) -> None:
    async with Desk(tmp_path, "allow", {}) as desk:
        desk.cancel_all("t1")
        assert await desk.ask("s", "t1", request(ONCE, NO), COMMAND) is None
        answers = await asyncio.gather(*[desk.ask("s", "t2", request(ONCE, NO), COMMAND) for _ in range(50)])
        assert set(answers) == {"allow_once"}, "requests that a rule answers do not count as waiting"
