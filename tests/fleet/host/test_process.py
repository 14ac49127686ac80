"""What an operator notices of an agent host that is a real process with a real, scripted runtime."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from datetime import datetime
from pathlib import Path

import pytest

from fleet.control.agent_host_client import AgentLink, HostStatus, Withdrawn
from fleet.errors import AgentRefused, FleetError
from fleet.host import stderr_log
from fleet.journal.events import (
    Closing,
    GrantAdded,
    MessageQueued,
    MessageWithdrawn,
    Noise,
    Notice,
    PermissionAnswered,
    PermissionAsked,
    PlanUpdated,
    RuntimeDied,
    RuntimeFailed,
    RuntimeStarted,
    TextChunk,
    ThoughtChunk,
    ToolCall,
    TurnAccepted,
    TurnEnded,
    TurnStarted,
    UsageReported,
)
from fleet.supervision import host_lifecycle, process_sweep
from tests import waiting
from tests.fleet.host.scripted_agent import LIMIT_S, Agent, entry_when, gone, status_when, until

PNG = "iVBORw0KGgo="


def said(agent: Agent) -> str:
    return "".join(event.text for event in agent.events(TextChunk))


async def answer(
    link: AgentLink, option: str | None, *, always: bool = False, number: int = 1, **changes: object
) -> str:
    entry, asked = await entry_when(link, PermissionAsked, lambda event: event.request == str(number))
    named = {
        "incarnation": entry.position.incarnation,
        "session": asked.session,
        "request": asked.request,
        "digest": asked.digest,
        **changes,
    }
    return await link.answer(**named, option=option, always=always, by="ana")  # type: ignore[arg-type]


# --- turns --------------------------------------------------------------------------------------------------------


async def test_a_message_becomes_a_turn_with_its_answer(agent: Agent) -> None:
    async with agent.running() as link:
        sent = await link.send("m1", "think=hm plan=first tool=make say=hello say=you", sender="ana")
        assert sent.state in {"journaled", "started"}
        ended = await until(link, TurnEnded)
        assert (ended.stop_reason, ended.message, ended.accepted) == ("end_turn", "m1", True)
        await link.shutdown(reason="asked to stop")
        await gone(agent)
    assert said(agent) == "helloyou"
    assert [event.message for event in agent.events(TurnAccepted)] == ["m1"]
    assert [event.text for event in agent.events(ThoughtChunk)] == ["hm"]
    assert [event.entries[0]["content"] for event in agent.events(PlanUpdated)] == ["first"]
    assert [(event.title, event.status) for event in agent.events(ToolCall)] == [
        ("make", "in_progress"),
        (None, "completed"),
    ]
    assert agent.events(UsageReported)[0].fields["totalTokens"] == 15
    assert [event.reason for event in agent.events(Closing)] == ["asked to stop"]
    assert agent.events(RuntimeStarted)[0].loaded is False
    assert agent.left_over() == []
    assert "asked to stop" in host_lifecycle.last_words(agent.folder)


async def test_the_same_message_twice_is_one_turn(agent: Agent) -> None:
    async with agent.running() as link:
        await asyncio.gather(*[link.send("m1", "say=once") for _ in range(5)])
        await until(link, TurnEnded)
        again = await link.send("m1", "say=once")
        assert again.state == "finished"
        await link.send("m2", "say=twice")
        await until(link, TurnEnded, lambda event: event.message == "m2")
    assert agent.prompts() == ["say=once", "say=twice"]
    assert len(agent.events(MessageQueued)) == 2


async def test_messages_wait_for_the_turn_to_end_and_keep_their_order(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m0", "wait")
        await until(link, TurnStarted)
        for number in range(1, 4):
            await link.send(f"m{number}", f"say={number}")
        assert (await link.status()).queued == 3
        assert agent.prompts() in ([], ["wait"])
        assert (await link.cancel()).cancelled is True
        await until(link, TurnEnded, lambda event: event.message == "m3")
    assert agent.prompts() == ["wait", "say=1", "say=2", "say=3"]
    assert agent.events(TurnEnded)[0].stop_reason == "cancelled"


async def test_steering_interrupts_and_goes_first(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m0", "wait")
        await until(link, TurnStarted)
        await link.send("m1", "say=queued")
        await link.send("m2", "say=steered", mode="steer")
        await until(link, TurnEnded, lambda event: event.message == "m1")
    assert agent.prompts()[-2:] == ["say=steered", "say=queued"]


async def test_what_is_taken_back_to_its_end_has_its_turn_cancelled_before_it_is_accepted(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m0", "wait")
        await until(link, TurnStarted)
        assert await link.withdraw("m7", end=True) == Withdrawn(withdrawn=False, ending=False)
        assert await link.withdraw("m0", end=True) == Withdrawn(withdrawn=False, ending=True)
        ended = await until(link, TurnEnded)
        assert ended.message == "m0"


async def test_a_waiting_message_can_be_withdrawn_and_a_begun_one_not(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m0", "wait")
        await until(link, TurnStarted)
        await link.send("m1", "say=never")
        assert (await link.withdraw("m1")).withdrawn
        assert await link.withdraw("m0") == Withdrawn(withdrawn=False, ending=False)
        assert (await link.send("m1", "say=never")).state == "withdrawn"
        await link.cancel()
        await until(link, TurnEnded)
    assert "say=never" not in agent.prompts()


async def test_a_cancel_for_one_turn_ends_no_other(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "wait")
        started = await until(link, TurnStarted)
        assert (await link.cancel("an earlier one")).cancelled is False
        assert (await link.cancel(started.turn)).cancelled is True
        await until(link, TurnEnded)


async def test_cancel_without_a_turn_says_so(agent: Agent) -> None:
    async with agent.running() as link:
        assert (await link.cancel()).cancelled is False


async def test_a_failed_prompt_says_what_the_runtime_said(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "fail=overloaded")
        ended = await until(link, TurnEnded)
        assert ended.stop_reason == "error"
        assert "overloaded" in (ended.detail or "")
        await link.send("m2", "nonsense")
        ended = await until(link, TurnEnded, lambda event: event.message == "m2")
        assert ended.stop_reason == "error"
        await link.send("m3", "say=still")
        await until(link, TurnEnded, lambda event: event.message == "m3")


async def test_the_instructions_come_before_the_first_prompt_of_a_session_only(agent: Agent) -> None:
    async with agent.running(instructions="You are a coder.") as link:
        await link.send("m1", "say=1")
        await link.send("m2", "say=2")
        await until(link, TurnEnded, lambda event: event.message == "m2")
    prompts = [item["prompt"] for item in agent.record() if "prompt" in item]
    assert prompts == [["You are a coder.", "say=1"], ["say=2"]]


@pytest.mark.slow
async def test_pictures_reach_a_runtime_that_takes_them(agent: Agent) -> None:
    picture = {"name": "a.png", "media_type": "image/png", "data": PNG}
    async with agent.running() as link:
        await link.send("m1", "say=seen", images=[picture])
        await until(link, TurnEnded)
        with pytest.raises(AgentRefused, match="image/png"):
            await link.send("m2", "say=x", images=[{**picture, "media_type": "text/html"}])
    assert [item["pictures"] for item in agent.record() if "prompt" in item] == [["image/png"]]
    async with agent.running("blind") as link:
        with pytest.raises(AgentRefused, match="takes no pictures"):
            await link.send("m3", "say=x", images=[picture])


async def test_the_runtime_inherits_nothing(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    async with agent.running() as link:
        await until(link, RuntimeStarted)
    environment = next(item["environment"] for item in agent.record() if "start" in item)
    assert set(environment) <= {"PATH", "RECORD", "MUSTER_AGENT", "LC_CTYPE", "PWD", "SHLVL", "_"}


@pytest.mark.slow
async def test_the_model_is_chosen_by_the_session_where_the_runtime_wants_it_so(agent: Agent) -> None:
    async with agent.running(models="session", model="big") as link:
        await until(link, RuntimeStarted)
    assert {"sessionId": "s1", "configId": "llm", "value": "big"} in [item.get("config") for item in agent.record()]
    await host_lifecycle.spawn(agent.launch(models="session", model="impossible"))
    await gone(agent)
    assert "no such model" in host_lifecycle.last_words(agent.folder)


# --- what becomes of conversations --------------------------------------------------------------------------------


async def test_a_restart_goes_on_with_the_conversation_and_does_not_repeat_it(agent: Agent) -> None:
    async with agent.running(instructions="You are a coder.") as link:
        await link.send("m1", "say=before")
        await until(link, TurnEnded)
    async with agent.running() as link:
        started = await until(link, RuntimeStarted, lambda event: event.loaded)
        assert started.session == "s1"
        await link.send("m2", "say=after")
        await until(link, TurnEnded, lambda event: event.message == "m2")
        assert (await link.status()).turns == 2
    assert said(agent) == "beforeafter"
    assert [item["prompt"] for item in agent.record() if "prompt" in item][-1] == ["say=after"]


@pytest.mark.parametrize("scenario", ["late", "late-mute"])
async def test_a_runtime_that_writes_its_conversation_down_late_can_do_so_before_it_is_ended(
    agent: Agent, scenario: str
) -> None:
    async with agent.running(scenario) as link:
        await link.send("m1", "say=before")
        await until(link, TurnEnded)
        await link.shutdown()
        await gone(agent)
    async with agent.running() as link:
        await until(link, RuntimeStarted, lambda event: event.loaded)


@pytest.mark.slow
async def test_a_conversation_that_is_taken_over_is_loaded_once_and_then_the_agents_own(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "say=hello")
        await until(link, TurnEnded)
    theirs = agent.home / "theirs"
    other = Agent.make(theirs)
    shutil.copy(agent.home / "sessions.json", theirs / "sessions.json")
    async with other.running(taken_over="s1") as link:
        first, started = await entry_when(link, RuntimeStarted)
        assert (started.session, started.loaded) == ("s1", True)
    async with other.running() as link:
        await until(link, RuntimeStarted, after=first.position)
    assert [item["load"] for item in other.record() if "load" in item] == ["s1", "s1"]
    assert not any("new" in item for item in other.record())


async def test_a_conversation_that_cannot_be_taken_over_is_not_replaced_by_another(agent: Agent) -> None:
    async with agent.running(taken_over="s9") as link:
        failed = await until(link, RuntimeFailed)
    assert failed.reason.startswith("The conversation s9 could not be loaded.")
    assert not any("new" in item for item in agent.record())


async def test_a_conversation_that_cannot_be_loaded_is_announced(agent: Agent) -> None:
    async with agent.running() as link:
        await until(link, RuntimeStarted)
    (agent.home / "sessions.json").write_text("{}")
    async with agent.running() as link:
        started = await until(link, RuntimeStarted, lambda event: event.note is not None)
        assert started.loaded is False
        assert "Resource not found" in (started.note or "")
    async with agent.running("forgets") as link:
        started = await until(link, RuntimeStarted, lambda event: "does not keep" in (event.note or ""))
    async with agent.running("good", resume_session=False) as link:
        (await until(link, RuntimeStarted, lambda event: event.session not in {"s1", started.session}))


async def test_a_new_journal_is_above_the_floor(agent: Agent) -> None:
    async with agent.running(incarnation_floor=41) as link:
        assert link.hello.incarnation == 42


# --- permissions --------------------------------------------------------------------------------------------------


async def test_a_permission_is_asked_answered_once_and_then_too_late(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "ask=rm")
        waiting = await status_when(link, lambda status: status.state == "waiting")
        assert waiting.turn is not None
        with pytest.raises(AgentRefused) as refused:
            await answer(link, "yes", digest="0" * 64)
        assert refused.value.refusal == "too_late"
        with pytest.raises(AgentRefused, match="offers"):
            await answer(link, "whatever")
        assert await answer(link, "yes") == "selected"
        assert await answer(link, "yes") == "selected", "whoever was not told may say it again"
        with pytest.raises(AgentRefused) as refused:
            await answer(link, "no")
        assert refused.value.refusal == "too_late"
        await until(link, TurnEnded)
    assert said(agent) == "[yes]"
    asked = agent.events(PermissionAsked)[0]
    assert (asked.title, asked.detail) == ("run rm", "rm")
    assert [option["kind"] for option in asked.options] == ["allow_always", "allow_once", "reject_once"]
    assert [(event.outcome, event.by) for event in agent.events(PermissionAnswered)] == [("selected", "ana")]


async def test_a_denial_is_the_runtimes_own_way_to_reject(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "ask=rm")
        assert await answer(link, None) == "denied"
        await until(link, TurnEnded)
    assert said(agent) == "[no]"


@pytest.mark.slow
async def test_always_is_remembered_here_and_can_be_taken_back(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "ask=ls ask=ls ask=other")
        await answer(link, "yes-always", always=True)
        await answer(link, None, number=3)
        await until(link, TurnEnded)
        granted = agent.events(GrantAdded)[0]
        assert await link.revoke(granted.digest, by="ana") is True
        assert await link.revoke(granted.digest, by="ana") is False
        await link.send("m2", "ask=ls")
        await answer(link, "yes", number=4)
        await until(link, TurnEnded, lambda event: event.message == "m2")
    # The runtime was told "once" each time, so that nothing is remembered where it could not be taken back.
    assert said(agent) == "[yes][yes][no][yes]"
    outcomes = [event.outcome for event in agent.events(PermissionAnswered)]
    assert outcomes == ["selected", "granted", "denied", "selected"]
    grants = ({"digest": granted.digest, "title": granted.title},)
    async with agent.running(grants=grants) as link:
        await link.send("m3", "ask=ls")
        await until(link, TurnEnded, lambda event: event.message == "m3")
    assert said(agent).endswith("[yes]")


async def test_an_unanswered_permission_expires_to_no(agent: Agent) -> None:
    async with agent.running(permission_timeout_s=0.2) as link:
        await link.send("m1", "ask=rm")
        await until(link, TurnEnded)
    assert said(agent) == "[no]"
    assert [event.outcome for event in agent.events(PermissionAnswered)] == ["expired"]


async def test_cancelling_the_turn_cancels_its_permission(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "ask=rm")
        await until(link, PermissionAsked)
        await link.cancel()
        await until(link, TurnEnded)
    assert [event.outcome for event in agent.events(PermissionAnswered)] == ["cancelled"]
    assert {"outcome": "cancelled"} in [item.get("outcome") for item in agent.record()]


@pytest.mark.slow
async def test_a_runtime_that_asks_for_ever_is_denied_beyond_a_bound(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "ask-for-ever")
        await until(link, Notice, lambda event: "denied" in event.text)
        assert (await link.status()).state == "waiting"
        assert len(agent.events(PermissionAsked)) <= 32
        await link.shutdown(now=True)
        await gone(agent)
    assert agent.left_over() == []


@pytest.mark.slow
async def test_a_restart_declares_open_permissions_lost(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "ask=rm")
        asked, _ = await entry_when(link, PermissionAsked)
    async with agent.running() as link:
        lost = await until(link, PermissionAnswered)
        assert (lost.outcome, lost.asked_in) == ("lost", asked.position.incarnation)
        with pytest.raises(AgentRefused) as refused:
            await answer(link, "yes")
        assert refused.value.refusal == "too_late"


# --- bad runtimes -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "sentence"),
    [
        ("dies", "ended with exit code 7 before it was ready"),
        ("hangs", "was not ready after 1 s"),
        ("garbage", "1000 lines that are not part of the protocol"),
        ("old", "speaks version 0"),
        ("login", "muster login scripted"),
    ],
)
async def test_a_runtime_that_never_gets_ready_ends_in_a_sentence(agent: Agent, scenario: str, sentence: str) -> None:
    limit = 20.0 if scenario in {"dies", "old", "login"} else 1.0
    await host_lifecycle.spawn(
        agent.launch(scenario, initialize_timeout_s=limit, hints={"no credentials": "Log in first."})
    )
    await gone(agent)
    failed = agent.events(RuntimeFailed)[0]
    assert sentence in failed.reason
    if scenario == "dies":
        assert "no credentials found" in failed.stderr
        assert failed.reason.endswith("Log in first.")
    assert isinstance(agent.entries()[-1].event, Closing)
    assert agent.left_over() == []


async def test_a_missing_program_says_so(agent: Agent) -> None:
    await host_lifecycle.spawn(agent.launch(command=("/nowhere/claude",)))
    await gone(agent)
    assert "/nowhere/claude cannot be started" in agent.events(RuntimeFailed)[0].reason


async def test_a_missing_workspace_says_so(agent: Agent) -> None:
    await host_lifecycle.spawn(agent.launch(workspace="/nowhere/at/all"))
    await gone(agent)
    assert "/nowhere/at/all is not there" in agent.events(RuntimeFailed)[0].reason


async def test_what_a_runtime_says_of_its_own_secrets_is_masked_before_it_is_kept(agent: Agent) -> None:
    environment = {**agent.spec.environment, "SERVICE_PASSWORD": "last words of"}
    await host_lifecycle.spawn(agent.launch(environment=environment))
    async with await AgentLink.connect(agent.spec.socket) as link:
        await link.send("m1", "say=begun die=3")
        assert (await until(link, RuntimeDied)).stderr == "the [redacted] the runtime"
    await gone(agent)


async def test_a_runtime_that_dies_in_a_turn_is_reported_with_its_last_words(agent: Agent) -> None:
    await host_lifecycle.spawn(agent.launch(hints={"last words of": "That was to be expected."}))
    async with await AgentLink.connect(agent.spec.socket) as link:
        await link.send("m1", "say=begun die=3")
        await link.send("m2", "say=later")
        # Followers see the end before the agent host goes.
        died = await until(link, RuntimeDied)
        assert died.reason == "The runtime ended with exit code 3. That was to be expected."
        assert died.stderr == "the last words of the runtime"
    await gone(agent)
    ended = agent.events(TurnEnded)[0]
    assert (ended.stop_reason, ended.accepted) == ("cut", True)
    assert agent.left_over() == []
    assert "exit code 3" in host_lifecycle.last_words(agent.folder)
    # What was queued is still to be done at the next start.
    async with agent.running() as link:
        await until(link, TurnEnded, lambda event: event.message == "m2")
    assert agent.prompts()[-1] == "say=later"


async def test_a_killed_runtime_is_told_by_its_signal(agent: Agent) -> None:
    await host_lifecycle.spawn(agent.launch())
    async with await AgentLink.connect(agent.spec.socket) as link:
        await link.send("m1", "kill")
        assert "SIGKILL" in (await until(link, RuntimeDied)).reason
    await gone(agent)


@pytest.mark.slow
async def test_garbage_in_a_turn_is_counted_and_harms_nothing(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "garbage say=fine garbage surrogate")
        await until(link, TurnEnded)
        noise = await until(link, Noise)
        assert noise.lines >= 1
        assert noise.sample == "garbage"
        await link.send("m2", "say=still")
        await until(link, TurnEnded, lambda event: event.message == "m2")
    assert said(agent) == "finea\ufffdb\u202e\x1b[31mstill"


@pytest.mark.slow
async def test_a_flood_arrives_whole_and_in_order(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "say=begin flood=20000 say=end")
        await until(link, TurnEnded)
        memory = _resident(link.hello.pid)
    text = said(agent)
    assert len(text) == len("begin") + 20_000_000 + len("end")
    assert text.startswith("begin")
    assert text.endswith("end")
    assert memory < 150 * 2**20


async def test_a_deaf_runtime_is_not_said_to_have_answered(agent: Agent) -> None:
    async with agent.running("deaf") as link:
        status = await status_when(link, lambda status: status.state == "idle")
        assert status.pinged_at is None
        assert status.runtime_pid is not None


@pytest.mark.slow
async def test_a_stopped_runtime_is_not_said_to_answer_until_it_does_again(agent: Agent) -> None:
    async with agent.running() as link:
        answered = await status_when(link, lambda status: status.pinged_at is not None)
        assert answered.runtime_pid is not None
        os.kill(answered.runtime_pid, signal.SIGSTOP)
        # What it answered before it was stopped may still come.
        last = (await ticks(link, 2))[-1].pinged_at
        assert {status.pinged_at for status in await ticks(link, 3)} == {last}
        silent = await status_when(link, lambda status: status.unanswered_since is not None)
        assert (silent.unanswered_since or 0) >= (last or 0)
        os.kill(answered.runtime_pid, signal.SIGCONT)
        await status_when(link, lambda status: status.pinged_at != last and status.unanswered_since is None)


async def test_behind_an_adapter_the_child_is_looked_at(agent: Agent) -> None:
    async with agent.running("adapter", adapter=True, child_names=("sleep",)) as link:
        status = await status_when(link, lambda status: status.child == "running")
        assert status.adapter is True
        assert status.runtime_pid is not None
        (child,) = [
            process for process in process_sweep.descendants(status.runtime_pid) if process.is_called(["sleep"])
        ]
        # Another one of that name, which the agent itself started.
        await link.send("m1", "shell")
        await until(link, TurnEnded)
        os.kill(child.pid, signal.SIGSTOP)
        stopped = await status_when(link, lambda status: status.child == "stopped")
        assert stopped.pinged_at is not None
        for process in process_sweep.descendants(status.runtime_pid):
            os.kill(process.pid, signal.SIGKILL)
        await status_when(link, lambda status: status.child == "gone")


@pytest.mark.slow
async def test_a_runtime_that_does_not_read_holds_nothing_up(agent: Agent) -> None:
    async with agent.running("unread") as link:
        await until(link, RuntimeStarted)
        await link.send("m1", "say=" + "x" * 900_000)
        await until(link, TurnStarted)
        assert (await link.cancel()).cancelled is True
        assert (await link.status()).state == "working"
        await link.shutdown(now=True)
    ended = agent.events(TurnEnded)[0]
    assert (ended.stop_reason, ended.accepted) == ("cut", False)
    assert agent.left_over() == []


# --- endings ------------------------------------------------------------------------------------------------------


async def test_a_shell_in_a_session_of_its_own_goes_with_the_agent(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "shell")
        await until(link, TurnEnded)
        assert len(agent.left_over()) == 2
        await link.shutdown()
        assert agent.left_over() == []


async def test_a_shell_is_swept_before_the_session_is_loaded_again(agent: Agent) -> None:
    await host_lifecycle.spawn(agent.launch())
    async with await AgentLink.connect(agent.spec.socket) as link:
        await link.send("m1", "shell")
        await until(link, TurnEnded)
        os.kill(link.hello.pid, signal.SIGKILL)
    await gone(agent)
    old = agent.spec.marker
    await waiting.until(lambda: len(agent.left_over()) == 1, limit=LIMIT_S)
    async with agent.running() as link:
        assert process_sweep.survivors(old) == []


@pytest.mark.slow
async def test_stopping_waits_for_the_turn_and_keeps_the_queue(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "wait")
        await until(link, TurnStarted)
        await link.send("m2", "say=later")
        stopping = asyncio.create_task(link.shutdown())
        await status_when(link, lambda status: status.state == "stopping")
        with pytest.raises(AgentRefused, match="about to end"):
            await link.send("m3", "say=never")
        await link.cancel()
        await stopping
        await gone(agent)
    assert agent.prompts() == ["wait"]
    async with agent.running() as link:
        await until(link, TurnEnded, lambda event: event.message == "m2")


async def test_what_was_taken_back_meanwhile_is_never_read_however_soon_its_turn_would_begin(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "wait")
        await until(link, TurnStarted)
        await link.send("m2", "say=never")
        await link.send("m3", "say=later")
        stopping = asyncio.create_task(link.shutdown())
        await status_when(link, lambda status: status.state == "stopping")
        await link.cancel()
        await stopping
        await gone(agent)
    async with agent.running(withdrawn=("m2", "m3 of long ago")) as link:
        await until(link, TurnEnded, lambda event: event.message == "m3")
    assert agent.prompts() == ["wait", "say=later"]
    assert [event.id for event in agent.events(MessageWithdrawn)] == ["m2"]


async def test_what_waits_is_edited_and_put_first_and_a_crash_forgets_none_of_it(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "wait")
        await until(link, TurnStarted)
        for number in (2, 3, 4):
            await link.send(f"m{number}", f"say={number}")
        assert await link.put_first("m4")
        edited = await link.edit("m3", "say=better")
        assert (edited.edited, edited.known) == (True, True)
        assert await link.queue() == ("m4", "m2", "m3")
        # Repeated, nothing changes; sent again, an edited message stays edited.
        assert await link.put_first("m4")
        await link.edit("m3", "say=better")
        await link.send("m3", "say=3")
        late, unknown = await link.edit("m1", "late"), await link.edit("m9", "nobody's")
        assert (late.edited, late.known, unknown.edited, unknown.known) == (False, True, False, False)
        assert not await link.put_first("m1")
        with pytest.raises(AgentRefused, match="takes 1000000 at most"):
            await link.edit("m3", "x" * 1_000_001)
        os.kill(link.hello.pid, signal.SIGKILL)
        await gone(agent)
    async with agent.running() as link:
        await until(link, TurnEnded, lambda event: event.message == "m3")
    assert agent.prompts() == ["wait", "say=4", "say=2", "say=better"]


@pytest.mark.slow
async def test_stopping_at_once_cuts_a_turn_that_will_not_end(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    async with agent.running("stubborn") as link:
        await link.send("m1", "say=here wait")
        await until(link, TextChunk)
        waiting = asyncio.create_task(link.shutdown())
        await status_when(link, lambda status: status.state == "stopping")
        await link.shutdown(now=True)
        await waiting
        await gone(agent)
    assert agent.events(TurnEnded)[0].stop_reason == "cut"
    assert agent.left_over() == []


async def test_an_agent_has_one_host(agent: Agent) -> None:
    async with agent.running() as link:
        with pytest.raises(FleetError, match="already"):
            await host_lifecycle.spawn(agent.spec)
        assert (await link.status()).state in {"starting", "idle"}


async def ticks(link: AgentLink, count: int) -> list[HostStatus]:
    """The statuses of the next heartbeats."""
    seen: list[HostStatus] = []

    def enough(status: HostStatus) -> bool:
        seen.append(status)
        return len(seen) > count

    await status_when(link, enough)
    return seen[1:]


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_what_a_runtime_writes_to_its_standard_error_is_kept_in_a_log_of_the_agents(agent: Agent) -> None:
    environment = {**agent.spec.environment, "SERVICE_PASSWORD": "last words of"}
    await host_lifecycle.spawn(agent.launch(environment=environment))
    async with await AgentLink.connect(agent.spec.socket) as link:
        await link.send("m1", "say=begun die=3")
        await until(link, RuntimeDied)
    await gone(agent)
    log = agent.folder / stderr_log.NAME
    (line,) = log.read_text().splitlines()
    at, _, said = line.partition(" ")
    assert datetime.fromisoformat(at).tzinfo is not None
    assert said == "the [redacted] the runtime"
    assert oct(log.stat().st_mode)[-3:] == "600"


def test_the_log_of_a_runtime_stays_small_and_follows_no_link(tmp_path: Path) -> None:
    log = stderr_log.StderrLog(tmp_path, clock=lambda: 0.0, limit=5_000)
    for number in range(1_000):
        log.add([f"line {number}", "x" * 10_000][: 1 + (number == 500)])
    file = tmp_path / stderr_log.NAME
    assert file.stat().st_size <= 5_000 + 100
    assert file.read_text().endswith(" line 999\n")
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) <= 2 * 5_000
    target = tmp_path / "target"
    target.write_text("kept")
    file.unlink()
    file.symlink_to(target)
    log.add(["through the link"])
    assert target.read_text() == "kept"


async def test_what_a_turn_left_running_is_counted_and_ends_with_the_agent(agent: Agent) -> None:
    async with agent.running() as link:
        assert (await link.background()).count == 0, "a runtime that starts does not count"
        await status_when(link, lambda status: status.state == "idle")
        assert (await link.background()).count == 0, "nor does one that is ready"
        await link.send("m1", "shell say=done")
        await until(link, TurnEnded)
        found = await link.background(turn_over_s=5)
        assert (found.count, found.names) == (1, ("sleep",))
    assert agent.left_over() == []
