"""What an agent does, and for how long, is told as it is known; of one that is not known to live, nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from bot.agents.journal.turn_view import ToolLine
from bot.agents.status import view_of
from core.redaction import SecretMasker
from database.queries.agents.agents import AgentRow
from database.queries.chat.approvals import Approval
from fleet.control.agent_host_client import HostStatus
from fleet.journal.events import Closing, JournalEntry, JournalPosition, TextChunk

NOW = 10_000.0
ROW = AgentRow(
    name="coder0",
    role="coder",
    runtime="sim",
    model=None,
    sandbox="bubblewrap",
    workspace="/w",
    wanted="running",
    at_once=False,
    keep_session=True,
    state="idle",
    detail=None,
    launch_id="l1",
    launched_by="me",
    connector="memory",
    room="room",
    thread_key="th/l1",
    started_at=NOW - 900,
    stopped_at=None,
)
WORKING = HostStatus(
    state="working",
    runtime_pid=7,
    pinged_at=NOW - 2,
    turn="t1",
    turn_started_at=NOW - 240,
    event_at=NOW - 3,
    activity="thinking",
)
ASKED = Approval(
    id="4711",
    agent="coder0",
    incarnation=1,
    session="s",
    request="1",
    digest="d",
    title="Write /etc/passwd",
    detail="",
    options=(),
    state="pending",
    outbox_key="a/4711",
    asked_at=NOW - 60,
    expires_at=NOW + 60,
)


@dataclass
class Heard:
    status: HostStatus
    at: float = NOW - 1


@dataclass
class Followed:
    """What a look takes from a keeper."""

    seen: Heard | None
    running: ToolLine | None = None
    host_runs: bool = True
    last: JournalEntry | None = None
    unanswered_at: float | None = None

    @property
    def heard_at(self) -> float | None:
        return self.seen.at if self.seen is not None else None


def look(status: HostStatus, running: ToolLine | None = None, **more: Any) -> tuple[str, str | None, float | None]:
    supervisor: Any = Followed(Heard(status), running)
    view = view_of(ROW, supervisor, now=NOW, **more)
    return view.liveness.state, view.activity, view.activity_since


def test_it_does_the_tool_call_that_runs_since_that_was_called() -> None:
    assert look(WORKING, ToolLine("c", "make test", "in_progress", NOW - 30)) == ("working", "make test", NOW - 30)


def test_what_it_does_is_masked_before_it_is_cut_short() -> None:
    redact = SecretMasker(known=frozenset({"sk-of the account/1234"}))
    for before in range(30, 60):
        title = f"{'x' * before} sk-of the account/1234 and more"
        shown = look(WORKING, ToolLine("c", title, "in_progress", NOW - 30), redact=redact)[1]
        assert "of the" not in str(shown)


def test_between_tool_calls_it_thinks_or_writes_for_as_long_as_the_turn_goes_on() -> None:
    assert look(WORKING) == ("working", "thinking", NOW - 240)


def test_one_that_waits_shows_what_it_asks_for_and_since_when() -> None:
    running = ToolLine("c", "Write /etc/passwd", "pending", NOW - 61)
    waiting = replace(WORKING, state="waiting")
    assert look(waiting, running, asks=ASKED) == ("waiting", "asks: Write /etc/passwd", NOW - 60)


def test_one_that_is_not_known_to_work_does_nothing() -> None:
    running = ToolLine("c", "make test", "in_progress", NOW - 30)
    assert look(replace(WORKING, pinged_at=NOW - 31), running) == ("unknown", None, None)
    assert look(replace(WORKING, state="idle", turn=None)) == ("idle", None, None)


def test_each_agent_is_fresh_for_as_long_as_its_own_limit_says() -> None:
    assert look(replace(WORKING, pinged_at=NOW - 6), fresh_s=5.0)[0] == "unknown"
    assert look(replace(WORKING, pinged_at=NOW - 90), fresh_s=120.0)[0] == "working"


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_one_is_called_failed_or_stopped_only_once_its_process_is_gone_or_about_to_be(state: str) -> None:
    row = replace(ROW, state=state, stopped_at=NOW - 5)

    def verdict(last: JournalEntry | None, **more: Any) -> str:
        supervisor: Any = Followed(None, last=last, **more)
        return view_of(row, supervisor, now=NOW).liveness.state

    assert verdict(None) == "unknown"
    speaking = JournalEntry(position=JournalPosition(1, 9), at=NOW - 1, event=TextChunk(turn="t", text="x"))
    closing = JournalEntry(position=JournalPosition(1, 9), at=NOW - 1, event=Closing(reason="asked to stop"))
    assert verdict(speaking) == "unknown"
    assert verdict(closing) == state
    assert verdict(replace(closing, at=NOW - 99)) == "unknown"
    assert verdict(None, host_runs=False) == state
