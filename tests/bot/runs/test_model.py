"""What comes next for a run, decided from plain values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bot.runs.model import (
    PATIENCE_S,
    AwaitRun,
    BeginRun,
    EndRun,
    SettleRun,
    ending_of,
    free_name,
    is_limit,
    next_step,
    outcome_of,
)
from database.queries.agents.agent_messages import AgentMessage
from database.queries.agents.agents import AgentRow
from database.queries.agents.runs import AgentRun

NOW = 1_796_040_000.0
RUN = AgentRun(
    id="1a2b3c4d", source="cli", agent="coder", role="coder", prompt="mend", settings={}, asked_by="local:ana",
    connector="memory", room="room", state="running", message="run-1a2b3c4d-prompt", created_at=NOW, started_at=NOW,
)  # fmt: skip
ROW = AgentRow(
    name="coder", role="coder", runtime="sim", model=None, sandbox="none", workspace="/w", wanted="running",
    at_once=False, keep_session=True, state="working", detail=None, launch_id="run-1a2b3c4d", launched_by="local:ana",
    connector="memory", room="room", thread_key="t", started_at=NOW, stopped_at=None,
)  # fmt: skip
MESSAGE = AgentMessage(
    id=RUN.message, agent="coder", mode="queue", text="mend", attachments=(), sender="local:ana", connector=None,
    conversation=None, event_id=None, answer_in=None, state="accepted", turn="t1", detail=None, created_at=NOW,
    updated_at=NOW, give_up_at=NOW + 60,
)  # fmt: skip


def changed(row: AgentRow = ROW, **values: Any) -> AgentRow:
    return replace(row, **values)


def test_a_queued_run_begins_when_it_is_due() -> None:
    queued = replace(RUN, state="queued", started_at=None)
    assert next_step(queued, None, None, NOW) == BeginRun()
    assert next_step(replace(queued, look_at=NOW + 1), None, None, NOW) == AwaitRun()
    assert isinstance(next_step(replace(queued, deadline=NOW), None, None, NOW), EndRun)


def test_a_running_one_waits_for_its_turn_and_for_its_time() -> None:
    assert next_step(RUN, ROW, MESSAGE, NOW) == AwaitRun()
    late = next_step(replace(RUN, deadline=NOW), ROW, MESSAGE, NOW)
    assert isinstance(late, EndRun)
    assert late.ending == "timed_out"


@pytest.mark.parametrize(
    ("row", "message", "ending"),
    [
        (changed(state="frozen", wanted="frozen"), MESSAGE, "stopped"),
        (changed(state="stopped", wanted="stopped"), MESSAGE, "stopped"),
        (changed(state="failed", revival={"ended": "it falls all the time"}), MESSAGE, "failed"),
        (None, MESSAGE, "failed"),
        (ROW, None, "failed"),
    ],
)
def test_what_cannot_go_on_ends(row: AgentRow | None, message: AgentMessage | None, ending: str) -> None:
    found = next_step(RUN, row, message, NOW)
    assert isinstance(found, EndRun)
    assert found.ending == ending


def test_an_agent_that_is_tried_again_is_waited_for() -> None:
    fell = changed(state="failed", revival={"try_at": NOW + 5})
    assert next_step(RUN, fell, MESSAGE, NOW) == AwaitRun()


def test_the_end_is_counted_once_the_turn_is_over_or_nobody_says_so() -> None:
    ending = replace(RUN, ending="timed_out", turn_ended_at=NOW)
    assert next_step(ending, ROW, MESSAGE, NOW) == AwaitRun()
    assert next_step(ending, ROW, replace(MESSAGE, state="finished"), NOW) == SettleRun()
    assert next_step(ending, changed(state="frozen"), MESSAGE, NOW) == SettleRun()
    assert next_step(ending, ROW, MESSAGE, NOW + PATIENCE_S + 1) == SettleRun()


@pytest.mark.parametrize(
    ("state", "detail", "wanted", "ending"),
    [
        ("journaled", None, "running", None),
        ("accepted", None, "running", None),
        ("finished", None, "running", "done"),
        ("finished", "it reached the limit of output tokens", "running", "failed"),
        ("cancelled", "cancelled", "running", "stopped"),
        ("withdrawn", None, "running", "stopped"),
        ("failed", "no", "running", "failed"),
        ("failed", "no", "stopped", "stopped"),
        ("dead", "no", "running", "failed"),
    ],
)
def test_a_receipt_ends_a_run(state: str, detail: str | None, wanted: str, ending: str | None) -> None:
    found = ending_of(state, detail, changed(wanted=wanted))
    assert (None if found is None else found[0]) == ending


def test_a_limit_explains_failures_and_nothing_that_a_person_or_the_clock_did() -> None:
    assert [is_limit(each, met=True) for each in ("failed", "stopped", "done", "timed_out")] == [
        True,
        True,
        False,
        False,
    ]
    assert not is_limit("failed", met=False)


def test_a_cancelled_message_is_not_done() -> None:
    assert outcome_of("finished", None) == "done"
    assert outcome_of("finished", "⏹ The turn was cancelled.") == "stopped"
    assert outcome_of("finished", "⚠️ The model refused to continue.") == "failed"
    assert outcome_of("uncertain", None) == "failed"


def test_names_stay_names() -> None:
    assert free_name("coder", []) == "coder"
    assert free_name("coder", ["coder", "coder-2"]) == "coder-3"
    assert free_name("a" * 40, ["a" * 40]) == "a" * 38 + "-2"
