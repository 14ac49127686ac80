"""What a run is launched with, and what comes next for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from database.queries.agents.agent_messages import UNDERWAY, AgentMessage
from database.queries.agents.agents import AgentRow
from database.queries.agents.runs import AgentRun, RunEnding
from fleet.roster.drift import ENDED
from fleet.roster.schema import AgentEntry
from fleet.supervision.restart_policy import RestartRecord

#: Seconds that the end of a run waits for its agent host to report that the turn is over.
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """What the agent of a run is launched with."""

    asked: Mapping[str, str] = field(default_factory=dict)
    """What was asked for over the roster and the defaults (fleet.launch.launch_plan.Planner.plan)."""
    of_roster: bool = False
    """Whether the agent is one of the roster. Any other exists for the run alone."""
    thread: str | None = None
    """The outbox key of the message that opens the agent's thread, if the thread is there already."""

    def to_json(self) -> dict[str, Any]:
        there = {} if self.thread is None else {"thread": self.thread}
        return {"asked": dict(self.asked), "of_roster": self.of_roster, **there}

    @classmethod
    def from_json(cls, source: Mapping[str, Any]) -> RunSettings:
        """Return what `to_json` made."""
        return cls(
            asked=dict(source.get("asked") or {}),
            of_roster=bool(source.get("of_roster")),
            thread=source.get("thread"),
        )


def asked_by_name(name: str, entry: AgentEntry | None) -> dict[str, str]:
    """Return what is asked for if somebody names a role or an agent of the roster, for an agent of another name.

    Args:
        name: the role, if there is no such agent.
        entry: the agent of the roster.
    """
    if entry is None:
        return {"role": name}
    of_entry = {key: getattr(entry, key) for key in ("role", "runtime", "model", "sandbox", "workspace")}
    return {key: str(value) for key, value in of_entry.items() if value is not None}


@dataclass(frozen=True, slots=True)
class BeginRun:
    """Launch the agent, if there is room."""


@dataclass(frozen=True, slots=True)
class EndRun:
    """Record how the run ends. Its agent may still be in the turn."""

    ending: RunEnding
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class SettleRun:
    """The turn is over: count what was used, and end the run."""


@dataclass(frozen=True, slots=True)
class AwaitRun:
    """Nothing can be done now."""


RunStep: TypeAlias = BeginRun | EndRun | SettleRun | AwaitRun


def next_step(run: AgentRun, row: AgentRow | None, message: AgentMessage | None, now: float) -> RunStep:
    """Return what comes next for a run that has not ended.

    Args:
        run: the run.
        row: its agent, or None if there is none yet or no more.
        message: the message that carries its prompt, if there is one.
        now: seconds since the epoch.
    """
    if run.ending is not None:
        late = now - (run.turn_ended_at or now) > PATIENCE_S
        return SettleRun() if late or _is_over(row, message) else AwaitRun()
    if run.deadline is not None and now >= run.deadline:
        return EndRun("timed_out", "Its time was over.")
    if run.state == "queued":
        return BeginRun() if run.look_at is None or now >= run.look_at else AwaitRun()
    if message is None:
        return EndRun("failed", "Its message is gone.")
    if row is None:
        return EndRun("failed", "Its agent is gone.")
    if message.state in UNDERWAY and row.state in (*ENDED, "frozen"):
        if row.wanted != "running":
            return EndRun("stopped", f"Its agent was {'frozen' if row.wanted == 'frozen' else 'stopped'}.")
        if row.state == "failed" and RestartRecord.from_json(row.revival).ended:
            return EndRun("failed", f"Its agent is down: {row.detail or 'its runtime ended'}")
    return AwaitRun()


def _is_over(row: AgentRow | None, message: AgentMessage | None) -> bool:
    """Return whether the agent does nothing more about the prompt."""
    if row is None or message is None or row.state in (*ENDED, "frozen"):
        return True
    return message.state not in (*UNDERWAY, "withdrawing")


def ending_of(state: str, detail: str | None, row: AgentRow) -> tuple[RunEnding, str | None] | None:
    """Return how a new state of its message ends a run, or None if it goes on.

    Args:
        state: as the receipt has it, such as finished or cancelled.
        detail: the reason.
        row: the agent.
    """
    if state == "finished":
        # With a reason the turn was cut short, such as by the limit of output tokens.
        return ("done", None) if not detail else ("failed", detail)
    if state in ("cancelled", "steered", "withdrawn"):
        return "stopped", detail or "Its prompt was taken back."
    if state in ("failed", "uncertain", "dead"):
        return ("failed" if row.wanted == "running" else "stopped"), detail
    return None


def outcome_of(state: str, detail: str | None) -> RunEnding:
    """Return how a message ended, from its final state in the register, which keeps a cancelled turn as finished."""
    if state == "withdrawn" or (state == "finished" and (detail or "").startswith(("⏹", "⏭"))):
        return "stopped"
    return "done" if state == "finished" and not detail else "failed"


def is_limit(ending: RunEnding, *, met: bool) -> bool:
    """Return whether a limit ended a run. A person's stop and the run's own time stay what they are."""
    return met and ending in ("failed", "stopped")


def free_name(base: str, taken: Sequence[str] | frozenset[str]) -> str:
    """Return `base`, or the first of ``base-2``, ``base-3`` that nobody has. No name is longer than 40 characters."""
    known, number, name = frozenset(taken), 1, base
    while name in known:
        number += 1
        end = f"-{number}"
        name = f"{base[: 40 - len(end)].rstrip('-')}{end}"
    return name
