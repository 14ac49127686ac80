"""Whether an agent lives, and how that is known. Pure: what was seen, and when, in; a verdict out.

A process that is there proves nothing. What counts is when the runtime's loop last answered; where only the adapter in
front of it can answer, its child must be there and runnable as well. What is too old is `unknown`, never healthy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from fleet.control.agent_host_client import HostStatus

#: Seconds after which what was seen is no evidence any more, where nothing else is said.
FRESH_S: Final = 30.0
#: Heartbeats that may be missed before that.
_BEATS: Final = 3
#: No fewer make sense: each answer comes somewhere between two heartbeats.
_FEWEST_BEATS: Final = 2
#: What was seen counts for this share of that time without a question. Then the agent is asked again, and has
#: `_PATIENCE` to answer.
_UNQUESTIONED: Final = 1 / 3
_PATIENCE: Final = 1 / 6

STATES: Final = ("starting", "idle", "working", "waiting", "frozen", "stopped", "failed", "unknown")
Evidence: TypeAlias = Literal["protocol", "adapter", "process", "journal", "none"]
EVIDENCE: Final[tuple[Evidence, ...]] = ("protocol", "adapter", "process", "journal", "none")
HEALTHY: Final = frozenset({"idle", "working", "waiting"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    state: str
    """One of `STATES`."""
    evidence: Evidence
    """Who says so."""
    evidence_at: float | None
    """When that was, in seconds since the epoch; None where there is no evidence."""
    detail: str | None = None
    """A word more. It has no spans of time, so that it stays the same while nothing happens."""
    detail_since: float | None = None
    """Since when `detail` is so, in seconds since the epoch; None where that tells nothing."""

    @property
    def healthy(self) -> bool:
        return self.state in HEALTHY


def fresh_for(heartbeat_s: float, freshness_s: float | None = None) -> float:
    """Return seconds for which what was seen of an agent counts, by its heartbeat and by what was asked for."""
    if freshness_s is None:
        return max(FRESH_S, _BEATS * heartbeat_s)
    return max(freshness_s, _FEWEST_BEATS * heartbeat_s)


def questioned_after(fresh_s: float) -> float:
    """Return seconds without a word after which an agent host is asked: a heartbeat should have come."""
    return fresh_s * _UNQUESTIONED + fresh_s * _PATIENCE / 3


def patience(fresh_s: float) -> float:
    """Return seconds that it has to answer then."""
    return fresh_s * _PATIENCE


def check_freshness(heartbeat_s: float | None, freshness_s: float | None) -> None:
    """See whether the two go together, as far as they are known.

    Raises:
        ValueError: they do not; the message says what would.
    """
    if heartbeat_s is not None and freshness_s is not None and freshness_s < _FEWEST_BEATS * heartbeat_s:
        raise ValueError(
            f"freshness is {freshness_s:g} s, and the heartbeat comes every {heartbeat_s:g} s, so a healthy agent "
            f"would be unknown again and again: give it {_FEWEST_BEATS * heartbeat_s:g} s or more."
        )


def judge(
    status: HostStatus | None,
    *,
    now: float,
    seen_at: float | None = None,
    host_runs: bool | None = None,
    last_state: str = "unknown",
    last_change: float | None = None,
    closed_at: float | None = None,
    unanswered_at: float | None = None,
    fresh_s: float = FRESH_S,
) -> Liveness:
    """Return what may be said of an agent.

    Args:
        status: the last status of its agent host, None when there is none since the link was lost.
        seen_at: when that status came; when there is none, when the last one did.
        host_runs: whether the agent host holds its lock; None when no one has looked yet.
        last_state: what the agent's journal said last.
        last_change: when it said so.
        closed_at: when it said that the agent host is about to end; None when it goes on, as far as it says.
        unanswered_at: when the agent host was last asked something and did not answer in time.
        fresh_s: seconds after which what was seen counts no more.
    """
    if host_runs is None:
        return _unknown("none", None, "nobody has looked yet")
    if not host_runs:
        return _gone(last_state, last_change)
    if closed_at is not None:
        # Its last word, after every status.
        return _ending_host(last_state, last_change, closed_at, now - closed_at <= fresh_s)
    if status is None or seen_at is None:
        starting = last_state == "starting" and last_change is not None and now - last_change <= fresh_s
        return _hung(starting, last_change, seen_at)
    if unanswered_at is not None and unanswered_at > seen_at:
        return _unknown("process", seen_at, "the agent host is there, but does not answer")
    if now - seen_at > fresh_s:
        return _unknown("process", seen_at, "the agent host has said nothing", seen_at)
    if status.state in {"failed", "starting"}:
        return Liveness(state=status.state, evidence="process", evidence_at=seen_at, detail=status.detail)
    return _of_runtime(status, now, seen_at, fresh_s)


def _of_runtime(status: HostStatus, now: float, heard_at: float, fresh_s: float) -> Liveness:
    """Return the agent host answers; whether its runtime does is the question."""
    if status.state == "stopping" and status.turn is None and (status.runtime_pid is None or status.child == "gone"):
        # It was asked to end, and its host follows.
        return Liveness(state="idle", evidence="process", evidence_at=heard_at, detail="it is about to end")
    if status.terminal_by is not None:
        who = f"handed over to a terminal by {status.terminal_by}"
        since = status.terminal_since
        return Liveness(state="working", evidence="process", evidence_at=heard_at, detail=who, detail_since=since)
    if status.runtime_pid is None:
        return _unknown("process", heard_at, "the runtime's process is gone")
    if status.pinged_at is None:
        return _unknown("process", heard_at, "the runtime has not answered yet")
    age = now - status.pinged_at
    since = status.unanswered_since
    silent = since is not None and now - since >= fresh_s * _PATIENCE and age > fresh_s * _UNQUESTIONED
    if age > fresh_s or silent:
        return _unknown("process", heard_at, "the runtime has not answered", status.pinged_at)
    if status.child == "gone":
        return _unknown("adapter", status.pinged_at, "the adapter answers, but the runtime behind it is gone")
    if status.child == "stopped":
        return _unknown("adapter", status.pinged_at, "the adapter answers, but the runtime behind it is stopped")
    state = "working" if status.state == "stopping" and status.turn else status.state
    state = state if state in STATES else "idle"
    quiet_since = None if status.detail else _quiet_since(status, now, fresh_s)
    return Liveness(
        state=state,
        evidence="adapter" if status.adapter else "protocol",
        evidence_at=status.pinged_at,
        detail=status.detail or (_ending(status) if quiet_since is None else "nothing came from the turn"),
        detail_since=quiet_since,
    )


def _quiet_since(status: HostStatus, now: float, fresh_s: float) -> float | None:
    """Return since when nothing happens in a turn, if that is long: no proof of anything, but worth a word."""
    if status.state != "working":
        return None
    since = status.event_at or status.turn_started_at
    return since if since is not None and now - since > fresh_s else None


def _ending(status: HostStatus) -> str | None:
    return "it stops when its turn ends" if status.state == "stopping" else None


def _ending_host(last_state: str, last_change: float | None, closed_at: float, fresh: bool) -> Liveness:
    """Return the agent host said its last word, by which its runtime is gone, and takes a moment longer to be gone
    itself."""
    if fresh:
        return _gone(last_state, last_change)
    return _unknown("process", closed_at, "the agent host is still there after its last word", closed_at)


def _hung(starting: bool, last_change: float | None, heard_at: float | None) -> Liveness:
    """The agent host is there and has not spoken: it is just starting, or it hangs."""
    if starting:
        return Liveness(state="starting", evidence="process", evidence_at=last_change)
    at = max((at for at in (heard_at, last_change) if at is not None), default=None)
    return _unknown("process", at, "the agent host is there, but does not answer")


def _gone(last_state: str, last_change: float | None) -> Liveness:
    """No agent host: what the journal said last is all there is."""
    evidence: Evidence = "journal" if last_change is not None else "none"
    if last_state in {"starting", "stopped", "failed", "frozen"}:
        return Liveness(state=last_state, evidence=evidence, evidence_at=last_change)
    return _unknown(evidence, last_change, "the agent host is gone")


def _unknown(evidence: Evidence, at: float | None, detail: str, since: float | None = None) -> Liveness:
    return Liveness(state="unknown", evidence=evidence, evidence_at=at, detail=detail, detail_since=since)
