"""The alert policy for findings: one alert per finding, or one for many that are alike, with repeats. Pure.

The register has a row for each finding that was alerted. The comparison with the current findings shows what is new.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from database.queries.operations.watchdog_findings import FindingRow
from fleet.supervision.health_findings import Found, HealthFinding, HealthThresholds

#: The number of agents with the same problem that makes it one shared event.
MANY: Final = 3
#: Seconds within which findings that are alike share an event.
TOGETHER_S: Final = 60.0
#: Seconds without a finding until its end is reported, so that an intermittent finding alerts once.
CALM_S: Final = 30.0

#: Kinds that one cause can bring to many agents at once.
_SHARED: Final = frozenset({"silent", "failed", "erring", "stalled", "overdue"})
#: Kinds about the fleet; one message in the main room has all new findings of a kind.
_OF_FLEET: Final = frozenset({"stray", "unrostered", "missing", "changed", "unreadable"})
#: Kinds whose end is reported.
_SERIOUS: Final = frozenset({"silent", "stalled", "stray"})
#: Kinds whose end is reported if they concerned many agents.
_SERIOUS_OF_MANY: Final = frozenset({"failed", "erring"})
#: Kinds whose alert repeats while they last.
_REPEATED: Final = frozenset({"stalled"})

#: The prefix of the outbox keys of events.
EVENT: Final = "w/"
_OF_MANY: Final = f"{EVENT}many/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A new alert."""

    event: str
    """The outbox key of the message."""
    findings: Sequence[HealthFinding]
    """Findings of one kind; several findings, or one about the fleet, go to the main room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """An existing alert that now includes more agents."""

    event: str
    key: str
    """The outbox key of the change."""
    findings: Sequence[HealthFinding]
    """All findings that the alert includes now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A repeated alert, because its findings last."""

    event: str
    key: str
    findings: Sequence[HealthFinding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """The end of an alert for all its agents."""

    event: str
    key: str
    kind: str
    agent: str
    """One of the agents; the only one if the event is not fleet-wide."""
    since: float


News: TypeAlias = Told | Grown | Again | Over


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """State that need not survive a restart: when findings were first seen and when they ended, by key."""

    first: Mapping[str, float] = field(default_factory=dict)
    well: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewsDecision:
    """The alerts to send, and the rows to store. The rows of an alert that cannot be sent are not stored."""

    news: Sequence[News]
    rows: Mapping[str, Sequence[FindingRow]]
    """The rows to store, by event."""
    over: frozenset[str]
    """The keys of findings that ended."""
    memory: Memory

    @property
    def changes(self) -> bool:
        return bool(self.news or self.rows or self.over)


def is_fleet_wide(event: str) -> bool:
    """Return whether an event is about several agents or about the fleet."""
    return event.startswith(_OF_MANY)


def decide(
    found: Found, standing: Sequence[FindingRow], memory: Memory, now: float, limits: HealthThresholds
) -> NewsDecision:
    """Decide which alerts to send.

    Args:
        found: the current findings.
        standing: the rows of earlier alerts that have not ended.
        memory: the memory of the last decision.
        now: seconds since the epoch.
        limits: the thresholds for alerts.
    """
    here = {finding.key: finding for finding in found.findings}
    first = {key: memory.first.get(key, now) for key, finding in here.items() if finding.passing}
    kept, over, well = _sorted_out(found, here, standing, memory, now)
    known = {row.key for row in standing}
    fresh = [
        finding
        for key, finding in here.items()
        if key not in known
        and (not finding.passing or now - first[key] >= limits.settling)
        and (not finding.quiet or finding.since is None or now - finding.since <= TOGETHER_S)
    ]
    rows: dict[str, list[FindingRow]] = defaultdict(list)
    news: list[News] = []
    for beginning in _beginnings(fresh, kept, now):
        news.append(_told(beginning, here, now))
        rows[beginning.event] += beginning.rows(now)
    for event, told in _by_event(kept).items():
        members = [here[row.key] for row in told if row.key in here]
        if members and event not in rows and _is_due(told, now, limits):
            tells = max(row.tells for row in told) + 1
            rows[event] += [replace(row, told_at=now, tells=tells) for row in told]
            news.append(Again(event=event, key=f"{event}/{tells}", findings=members))
    held = {row.event for row in kept}
    for event, told in _by_event(over).items():
        if event not in held and _is_serious(told[0]):
            since = min(row.found_at for row in told)
            agent = told[0].agent or ""
            news.append(Over(event=event, key=f"{event}/over", kind=told[0].kind, agent=agent, since=since))
    return NewsDecision(
        news=news, rows=rows, over=frozenset(row.key for row in over), memory=Memory(first=first, well=well)
    )


def _is_serious(row: FindingRow) -> bool:
    """Return whether the end of a finding is reported. Such a finding alerts once even if it is intermittent."""
    return row.kind in _SERIOUS or (row.kind in _SERIOUS_OF_MANY and is_fleet_wide(row.event))


def _sorted_out(
    found: Found, here: Mapping[str, HealthFinding], standing: Iterable[FindingRow], memory: Memory, now: float
) -> tuple[list[FindingRow], list[FindingRow], dict[str, float]]:
    """Return the rows to keep, the rows that ended, and the times since which kept rows have had no finding."""
    kept: list[FindingRow] = []
    over: list[FindingRow] = []
    well: dict[str, float] = {}
    for row in standing:
        if row.key in here or found.is_undecided(row.kind, row.agent):
            kept.append(row)
        elif _is_serious(row) and now - (since := memory.well.get(row.key, now)) < CALM_S:
            well[row.key] = since
            kept.append(row)
        else:
            over.append(row)
    return kept, over, well


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beginning:
    """Findings that share an alert, in a new event or in an existing one."""

    event: str
    findings: Sequence[HealthFinding]
    joined: Sequence[FindingRow] = ()
    """Existing rows that move to this event."""
    earlier: Sequence[FindingRow] = ()
    """Rows that the event already has."""

    def rows(self, now: float) -> list[FindingRow]:
        tells = max((row.tells for row in self.earlier), default=1)
        new = [
            FindingRow(
                key=finding.key,
                kind=finding.kind,
                agent=finding.agent,
                cause=finding.cause,
                event=self.event,
                found_at=now,
                told_at=now,
                tells=tells,
            )
            for finding in self.findings
        ]
        return [*new, *(replace(row, event=self.event) for row in self.joined)]


def _beginnings(fresh: Iterable[HealthFinding], kept: Sequence[FindingRow], now: float) -> Iterable[_Beginning]:
    batches: dict[tuple[str, str], list[HealthFinding]] = defaultdict(list)
    for finding in fresh:
        batches[finding.kind, finding.cause].append(finding)
    for (kind, cause), batch in batches.items():
        many = f"{_OF_MANY}{kind}/{hashlib.blake2s(cause.encode()).hexdigest()[:8]}/{_stamp(now)}"
        same = [row for row in kept if (row.kind, row.cause) == (kind, cause)]
        recent = [row for row in same if not is_fleet_wide(row.event) and now - row.told_at <= TOGETHER_S]
        event = next((row.event for row in reversed(same) if is_fleet_wide(row.event)), None)
        if kind in _OF_FLEET:
            yield _Beginning(event=many, findings=batch)
        elif kind in _SHARED and event is not None:
            yield _Beginning(event=event, findings=batch, earlier=[row for row in same if row.event == event])
        elif kind in _SHARED and len(batch) + len(recent) >= MANY:
            yield _Beginning(event=many, findings=batch, joined=recent)
        else:
            for finding in batch:
                if finding.quiet:
                    continue
                yield _Beginning(event=f"{EVENT}{finding.key}/{_stamp(now)}", findings=[finding])


def _told(beginning: _Beginning, here: Mapping[str, HealthFinding], now: float) -> Told | Grown:
    others = [here[row.key] for row in (*beginning.earlier, *beginning.joined) if row.key in here]
    findings = [*others, *beginning.findings]
    if beginning.earlier:
        return Grown(event=beginning.event, key=f"{beginning.event}/{_stamp(now)}", findings=findings)
    return Told(event=beginning.event, findings=findings)


def _is_due(told: Sequence[FindingRow], now: float, limits: HealthThresholds) -> bool:
    """Return whether an alert must repeat: after `limits.turn_silence`, then after twice as long each time."""
    if told[0].kind not in _REPEATED:
        return False
    tells = max(row.tells for row in told)
    return now - max(row.told_at for row in told) >= limits.turn_silence * 2.0 ** (tells - 1)


def _by_event(rows: Iterable[FindingRow]) -> dict[str, list[FindingRow]]:
    events: dict[str, list[FindingRow]] = defaultdict(list)
    for row in rows:
        events[row.event].append(row)
    return events


def _stamp(now: float) -> str:
    return str(int(now * 1000))
