"""What an operator notices of questions on the side, on a real agent host with a scripted runtime."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fleet.approval_rules.rules import ApprovalRule
from fleet.control.agent_host_client import AgentLink
from fleet.errors import AgentRefused
from fleet.host.aside.side_questions import ANSWER_CHARACTERS, QUESTION_CHARACTERS
from fleet.journal.events import (
    AsideAsked,
    AsideEnded,
    PermissionAnswered,
    PermissionAsked,
    TextChunk,
    TurnAccepted,
    TurnEnded,
)
from tests import waiting
from tests.fleet.host.scripted_agent import Agent, gone, status_when, until


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent.make(tmp_path, "forks", aside=True)


@contextlib.asynccontextmanager
async def ready(agent: Agent, scenario: str | None = None, **changes: Any) -> AsyncIterator[AgentLink]:
    """A running agent host whose runtime takes prompts."""
    async with agent.running(scenario, **changes) as link:
        await status_when(link, lambda status: status.state == "idle")
        yield link


async def ended(link: AgentLink, id_: str = "q1") -> AsideEnded:
    return await until(link, AsideEnded, lambda event: event.id == id_)


async def test_a_fork_answers_while_the_turn_goes_on_undisturbed(agent: Agent) -> None:
    async with ready(agent) as link:
        await link.send("m0", "say=before")
        await until(link, TurnEnded)
        await link.send("m1", "say=working wait")
        await until(link, TurnAccepted, lambda event: event.message == "m1")
        assert await link.ask_aside("q1", "think=hm say=because say=so", sender="ana") == "asked"
        answer = await ended(link)
        assert (answer.outcome, answer.text, answer.forked, answer.detail) == ("answered", "becauseso", True, None)
        assert (await link.status()).state == "working"
        await link.send("m2", "say=after", mode="steer")
        await until(link, TurnEnded, lambda event: event.message == "m2")
    assert "".join(event.text for event in agent.events(TextChunk)) == "beforeworkingafter"
    fork = next(item["fork"] for item in agent.record() if "fork" in item)
    assert (fork["sessionId"], fork["mcpServers"]) == ("s1", [])
    asked = next(item for item in agent.record() if item.get("session") == "s2")
    assert asked["prompt"][-1] == "think=hm say=because say=so"
    assert [item["close"] for item in agent.record() if "close" in item] == ["s2"]
    assert [event.sender for event in agent.events(AsideAsked)] == ["ana"]


@pytest.mark.parametrize("scenario", ["good", "fork-garbage", "fork-same", "fork-refused"])
async def test_a_runtime_that_does_not_fork_is_given_a_summary(agent: Agent, scenario: str) -> None:
    async with ready(agent, scenario) as link:
        await link.send("m0", "say=before")
        await until(link, TurnEnded)
        await link.ask_aside("q1", "say=so", summary="It said before.")
        answer = await ended(link)
        assert (answer.outcome, answer.text, answer.forked) == ("answered", "so", False)
    told = next(item for item in agent.record() if item.get("session") == "s2")["prompt"]
    assert "You are not that agent" in told[0]
    assert "It said before." in told[1]
    assert [item["new"] for item in agent.record() if "new" in item] == ["s1", "s2"]


@pytest.mark.parametrize("question", ["say=partly wait", "say=partly hang"])
async def test_an_answer_that_does_not_come_is_given_up_and_another_can_be_asked(agent: Agent, question: str) -> None:
    async with ready(agent, aside_s=0.5) as link:
        await link.ask_aside("q1", question)
        answer = await ended(link)
        assert answer.outcome == "failed"
        assert answer.detail == "No answer came within 0.5 s."
        await waiting.until(lambda: {"cancel": "s2"} in agent.record())
    async with ready(agent, aside_s=60) as link:
        await link.ask_aside("q2", "say=so")
        assert (await ended(link, "q2")).text == "so"


async def test_a_fork_that_never_comes_is_given_up(agent: Agent) -> None:
    async with ready(agent, "fork-mute", aside_s=0.5) as link:
        await link.send("m0", "say=before wait")
        await until(link, TurnAccepted)
        await link.ask_aside("q1", "say=so")
        assert (await ended(link)).outcome == "failed"
        assert (await link.cancel()).cancelled, "the turn went on"


@pytest.mark.parametrize("question", ["nonsense", "fail=broken"])
async def test_a_runtime_that_answers_with_garbage_or_an_error_is_told(agent: Agent, question: str) -> None:
    async with ready(agent) as link:
        await link.ask_aside("q1", question)
        answer = await ended(link)
        assert answer.outcome == "failed"
        assert answer.detail
        await link.send("m0", "say=well")
        assert (await until(link, TurnEnded)).stop_reason == "end_turn"


async def test_garbage_between_the_lines_of_an_answer_is_left_out(agent: Agent) -> None:
    async with ready(agent) as link:
        await link.ask_aside("q1", "garbage say=so")
        assert (await ended(link)).text == "so"


async def test_what_it_wants_to_do_is_refused_and_named_whatever_rules_say(agent: Agent) -> None:
    rules = (ApprovalRule(id="r1", effect="allow", kind="execute", command="make").to_json(),)
    async with ready(agent, approval_rules=rules, runtime="claude") as link:
        await link.ask_aside("q1", "ask=make ask=rm say=done")
        answer = await ended(link)
        assert (answer.outcome, answer.text) == ("answered", "[no][no]done")
        assert answer.refused == ("run make", "run rm")
        assert (await link.status()).state == "idle"
    assert not agent.events(PermissionAsked), "nobody is asked"
    assert not agent.events(PermissionAnswered)


async def test_it_reads_in_the_workspace_alone_and_not_what_a_rule_denies(agent: Agent) -> None:
    rules = (ApprovalRule(id="r1", effect="deny", kind="read", paths=("secret",)).to_json(),)
    async with ready(agent, approval_rules=rules, runtime="claude") as link:
        await link.ask_aside("q1", "read=a.txt read=/etc/passwd read=../a read=secret say=done")
        answer = await ended(link)
        assert answer.text == "[yes][no][no][no]done"
        assert answer.refused == ("Read /etc/passwd", "Read ../a", "Read secret")


async def test_a_change_that_was_made_without_asking_stops_it_and_is_told(agent: Agent) -> None:
    async with ready(agent) as link:
        await link.ask_aside("q1", "write=a.txt wait")
        answer = await ended(link)
        assert (answer.outcome, answer.changed) == ("failed", ("Write a.txt",))
        assert answer.detail == "It was stopped, because it changed files without asking."
        await waiting.until(lambda: {"cancel": "s2"} in agent.record())


async def test_a_flood_is_cut(agent: Agent) -> None:
    async with ready(agent) as link:
        await link.ask_aside("q1", "flood=1000 wait")
        answer = await ended(link)
        assert answer.outcome == "answered"
        assert len(answer.text) == ANSWER_CHARACTERS + 1
        assert answer.detail is not None


async def test_one_at_a_time_and_the_same_question_once(agent: Agent) -> None:
    async with ready(agent) as link:
        await link.ask_aside("q1", "say=so wait")
        assert await link.ask_aside("q1", "say=so wait") == "asked"
        with pytest.raises(AgentRefused, match="one at a time") as refused:
            await link.ask_aside("q2", "say=so")
        assert refused.value.refusal == "aside_open"
        await waiting.until(lambda: "say=so wait" in agent.prompts())
        assert len([item for item in agent.record() if "fork" in item]) == 1
    assert [event.id for event in agent.events(AsideAsked)] == ["q1"]


@pytest.mark.parametrize(
    ("aside", "text", "refusal"),
    [
        (False, "say=so", "no_aside"),
        (True, " ", "invalid"),
        (True, "x" * (QUESTION_CHARACTERS + 1), "too_long"),
    ],
)
async def test_what_cannot_be_asked_is_refused(agent: Agent, aside: bool, text: str, refusal: str) -> None:
    async with ready(agent, aside=aside) as link:
        with pytest.raises(AgentRefused) as refused:
            await link.ask_aside("q1", text)
        assert refused.value.refusal == refusal
    assert not agent.events(AsideAsked)


async def test_a_host_that_is_killed_loses_the_question_and_says_so_once(agent: Agent) -> None:
    async with ready(agent) as link:
        await link.ask_aside("q1", "say=partly wait")
        os.kill(link.hello.pid, signal.SIGKILL)
        await gone(agent)
    for _ in range(2):
        async with ready(agent) as link:
            answer = await ended(link)
            assert (answer.outcome, answer.detail) == ("lost", "The agent host ended in the middle of it.")
            assert await link.ask_aside("q1", "say=again") == "lost"
            await link.shutdown()
            await gone(agent)
    assert [event.outcome for event in agent.events(AsideEnded)] == ["lost"]


async def test_an_agent_that_is_stopped_or_whose_runtime_dies_loses_the_question(agent: Agent) -> None:
    async with ready(agent) as link:
        await link.ask_aside("q1", "say=partly wait")
        await link.shutdown(reason="asked to stop")
        await gone(agent)
    async with ready(agent) as link:
        await link.ask_aside("q2", "die")
        await gone(agent)
    assert [(event.id, event.outcome) for event in agent.events(AsideEnded)] == [("q1", "lost"), ("q2", "lost")]
    assert agent.left_over() == []


@pytest.mark.parametrize(("names", "counted"), [(("sleep",), 0), ((), 1)])
async def test_another_process_of_the_runtime_is_not_taken_for_a_command_left_in_the_background(
    agent: Agent, names: tuple[str, ...], counted: int
) -> None:
    async with ready(agent, child_names=names) as link:
        assert (await link.background()).count == 0
        before = len(agent.left_over())
        await link.ask_aside("q1", "shell wait")
        await waiting.until(lambda: len(agent.left_over()) > before)
        assert (await link.background()).count == counted
