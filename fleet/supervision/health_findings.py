"""What is wrong with a fleet, read off what was seen of it. Pure: agents as they were seen in, findings out.

A finding has a key that stays the same for as long as the same thing is wrong, so that it can be told once. What is
told of it, and when, is `scheduler.alert_policy`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from fleet.supervision.liveness import Liveness

Kind: TypeAlias = Literal[
    "silent",
    "failed",
    "erring",
    "stalled",
    "overdue",
    "expiring",
    "stray",
    "unrostered",
    "missing",
    "changed",
    "unreadable",
]

#: Findings about the roster: they cannot be made, nor be over, while the roster cannot be read.
OF_THE_ROSTER: Final = frozenset({"unrostered", "missing", "changed"})

#: Whom a finding is about that is about the roster itself. No agent can be called so.
ROSTER: Final = "roster.yaml"

#: Of the time that a permission request has, at most this share is left when its end is announced.
_LATE_SHARE: Final = 1 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One agent of the register, as it was seen. Times are seconds since the epoch."""

    name: str
    wanted: str
    """What the register wants of it: ``running``, or something else."""
    liveness: Liveness
    changed_at: float | None = None
    """When its state changed last, as far as that is known."""
    turn: str | None = None
    """The turn that is open."""
    event_at: float | None = None
    """When the open turn's last event came, or when it began."""
    fell_for: str | None = None
    """Why it fell, when Muster itself sees to that: it tries it again, or gave it up, and said so in its thread."""
    erred_at: float | None = None
    """When its last turn failed; None: it did not."""
    erred_for: str = ""
    """Why."""
    elsewhere: bool = False
    """Another installation sees to it: what holds of it is not known here, and not this one's to tell."""
    has_purpose: bool = False
    """It was launched for a topic, a run or an issue, so no roster has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """A permission request that waits for an answer. Times are seconds since the epoch."""

    id: str
    agent: str
    asked_at: float
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """All that was seen of a fleet at one moment."""

    at: float
    """Seconds since the epoch."""
    agents: Sequence[Sighting]
    questions: Sequence[OpenRequest] = ()
    rostered: Collection[str] | None = None
    """The names in the roster; None: it cannot be read."""
    workers: Collection[str] = ()
    """Those of them that need not run: the roster says that they are launched when there is work for them."""
    changed: Sequence[str] = ()
    """Agents that run, and of which the roster says something else by now."""
    mistake: str | None = None
    """Why the roster cannot be read, when it cannot."""
    strays: Sequence[str] = ()
    """Agents whose host runs although the register does not know them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthThresholds:
    """From when on something is worth a word. Seconds."""

    turn_silence: float = 1800.0
    """A turn in which nothing happens for so long is stalled."""
    cancel_after: float | None = None
    """A turn in which nothing happens for so long is cancelled; None: never."""
    expiry_notice: float = 120.0
    "How long before a permission request expires its reminder is posted."
    settling: float = 60.0
    """What may be a passing state is a finding only when it has lasted for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFinding:
    """Something that is wrong."""

    kind: Kind
    agent: str
    subject: str = ""
    """What it is about besides the agent: a turn, a permission request."""
    cause: str = ""
    """Why, in words that are the same for everybody whom the same thing befell."""
    since: float | None = None
    """Since when, in seconds since the epoch."""
    passing: bool = False
    """It may be over in a moment: it counts only when it has lasted."""
    quiet: bool = False
    """Of one agent alone it was said where it belongs: it is worth a word only when it befalls many."""

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.agent}/{self.subject}" if self.subject else f"{self.kind}/{self.agent}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is wrong now, and of what that cannot be said."""

    findings: Sequence[HealthFinding]
    unseen: frozenset[str] = frozenset()
    """Agents that nobody has looked at yet: what was wrong with them may still be."""
    roster_unknown: bool = False

    def is_undecided(self, kind: str, agent: str | None) -> bool:
        """Return whether a finding of earlier may still hold although it was not made again."""
        return agent in self.unseen or (self.roster_unknown and kind in OF_THE_ROSTER)


def found_in(view: FleetView, limits: HealthThresholds) -> Found:
    """Return what is wrong in what was seen."""
    findings: list[HealthFinding] = []
    for agent in view.agents:
        findings.extend(_of_agent(agent, view.at, limits))
        findings.extend(_erring(agent))
    findings.extend(_expiring(view, limits))
    findings.extend(HealthFinding(kind="stray", agent=name, passing=True) for name in view.strays)
    if view.rostered is not None:
        findings.extend(_drift(view.agents, view.rostered, view.workers))
        findings.extend(HealthFinding(kind="changed", agent=name) for name in view.changed)
    elif view.mistake is not None:
        findings.append(HealthFinding(kind="unreadable", agent=ROSTER, cause=view.mistake.partition("\n")[0]))
    return Found(
        findings=findings,
        unseen=frozenset(agent.name for agent in view.agents if agent.elsewhere or _is_unseen(agent.liveness)),
        roster_unknown=view.rostered is None,
    )


def _is_unseen(liveness: Liveness) -> bool:
    return liveness.state == "unknown" and liveness.evidence == "none"


def _of_agent(agent: Sighting, now: float, limits: HealthThresholds) -> Iterable[HealthFinding]:
    state, evidence = agent.liveness.state, agent.liveness.evidence
    if agent.elsewhere:
        return
    if state == "unknown":
        # No one has looked yet, or it was gone a moment ago and is about to be called failed. One that is to be stopped
        # or frozen falls silent before its end is read.
        passing = evidence in {"none", "journal"} or agent.wanted != "running"
        yield HealthFinding(
            kind="silent", agent=agent.name, cause=_cause(agent), since=agent.liveness.evidence_at, passing=passing
        )
    elif agent.wanted == "running" and agent.fell_for is not None and state in {"failed", "stopped", "starting"}:
        cause = alike(agent.fell_for, agent.name)
        yield HealthFinding(kind="failed", agent=agent.name, cause=cause, since=agent.changed_at, quiet=True)
    elif agent.wanted == "running" and state in {"failed", "stopped"}:
        # Its fall is told in its thread with what follows, which is written down a moment after the state is.
        yield HealthFinding(kind="failed", agent=agent.name, cause=_cause(agent), since=agent.changed_at, passing=True)
    elif state == "working" and agent.turn is not None and agent.event_at is not None:
        quiet = now - agent.event_at
        if quiet >= limits.turn_silence:
            yield HealthFinding(kind="stalled", agent=agent.name, subject=agent.turn, since=agent.event_at)
        if limits.cancel_after is not None and quiet >= limits.cancel_after:
            yield HealthFinding(kind="overdue", agent=agent.name, subject=agent.turn, since=agent.event_at)


def _erring(agent: Sighting) -> Iterable[HealthFinding]:
    """Yield one whose last turn failed. It says so in its thread; when many say the same, that is one thing."""
    if agent.erred_at is not None and agent.liveness.healthy:
        cause = alike(agent.erred_for, agent.name)
        yield HealthFinding(kind="erring", agent=agent.name, cause=cause, since=agent.erred_at, quiet=True)


def _cause(agent: Sighting) -> str:
    return alike(agent.liveness.detail or "", agent.name)


def _expiring(view: FleetView, limits: HealthThresholds) -> Iterable[HealthFinding]:
    for question in view.questions:
        notice = min(limits.expiry_notice, (question.expires_at - question.asked_at) * _LATE_SHARE)
        if view.at < question.expires_at <= view.at + notice:
            yield HealthFinding(
                kind="expiring", agent=question.agent, subject=question.id, since=question.expires_at - notice
            )  # fmt: skip


def _drift(agents: Iterable[Sighting], rostered: Collection[str], workers: Collection[str]) -> Iterable[HealthFinding]:
    """Yield where roster and reality differ.

    Whom someone stopped is in the roster and does not run: that is no drift.
    """
    known = set()
    for agent in agents:
        known.add(agent.name)
        if agent.elsewhere or agent.has_purpose:
            continue
        if agent.name not in rostered and agent.liveness.state not in {"failed", "frozen", "stopped"}:
            yield HealthFinding(kind="unrostered", agent=agent.name, passing=True)
    for name in rostered:
        if name not in known and name not in workers:
            yield HealthFinding(kind="missing", agent=name, passing=True)


_VARYING = re.compile(r"\b(?=[0-9a-f-]*\d)[0-9a-f-]{8,}\b|\d+(\.\d+)?")
#: A name of an agent is one of these.
_WORD = re.compile(r"[a-z0-9-]+")
#: Seconds, minutes and hours are told by their number, and say nothing about the cause.
_SPAN = re.compile(r"\s+for \d+ (s|min|h|d)\b")


def alike(detail: str, agent: str) -> str:
    """Return the first line of `detail` without what differs from agent to agent: its name, numbers, ids, lengths of
    time."""
    line = detail.strip().partition("\n")[0].strip()
    line = _SPAN.sub("", line)
    line = _WORD.sub(lambda word: "…" if word[0] == agent else word[0], line)
    return _VARYING.sub("…", line)[:300].rstrip()
