"""What is told of findings, and when: once, together where many are alike, again where that was promised. Pure.

What was told is in the register, a row per finding. Comparing it with what is found now says what is news.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from database.queries.operations.watchdog_findings import FindingRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleet.supervision.health_findings import Found, HealthFinding, HealthThresholds

#: So many agents with the same trouble are one event.
MANY: Final = 3
#: Seconds within which what is alike belongs together.
TOGETHER_S: Final = 60.0
#: Seconds for which something must be well before it is said to be over, so that what comes and goes is told once.
CALM_S: Final = 30.0

#: Kinds that befall many at once, for one cause.
_SHARED: Final = frozenset({"silent", "failed", "erring", "stalled", "overdue"})
#: Kinds that are about the fleet, and told in the main room, all that are new in one message.
_OF_FLEET: Final = frozenset({"stray", "unrostered", "missing", "changed", "unreadable"})
#: Kinds of which also the end is told.
_SERIOUS: Final = frozenset({"silent", "stalled", "stray"})
#: Kinds of which the end is told when they befell many.
_SERIOUS_OF_MANY: Final = frozenset({"failed", "erring"})
#: Kinds that are told again and again while they last.
_REPEATED: Final = frozenset({"stalled"})

#: With this the outbox keys of events begin.
EVENT: Final = "w/"
_OF_MANY: Final = f"{EVENT}many/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Something that is new."""

    event: str
    """The outbox key of the message."""
    findings: Sequence[HealthFinding]
    """All of one kind; more than one, or one about the fleet, goes to the main room."""

    @property
    def fleet_wide(self) -> bool:
        return is_fleet_wide(self.event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """More agents have what an event tells of."""

    event: str
    key: str
    """The outbox key of the change."""
    findings: Sequence[HealthFinding]
    """All that it tells of now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What was told still lasts."""

    event: str
    key: str
    findings: Sequence[HealthFinding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """What was told is over, for everybody whom it was about."""

    event: str
    key: str
    kind: str
    agent: str
    """One of them; the only one where the event is not fleet-wide."""
    since: float


News: TypeAlias = Told | Grown | Again | Over


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What need not outlive a restart: since when things were first seen, and since when they are well, by key."""

    first: Mapping[str, float] = field(default_factory=dict)
    well: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewsDecision:
    """What is to be told, and what stands afterwards. Of news that cannot be told, the rows are not written either."""

    news: Sequence[News]
    rows: Mapping[str, Sequence[FindingRow]]
    """To be written, by the event that they belong to."""
    over: frozenset[str]
    """The keys of findings that no longer stand."""
    memory: Memory

    @property
    def changes(self) -> bool:
        return bool(self.news or self.rows or self.over)


def is_fleet_wide(event: str) -> bool:
    """Return whether an event is about more than one agent, or about the fleet."""
    return event.startswith(_OF_MANY)


def decide(
    found: Found, standing: Sequence[FindingRow], memory: Memory, now: float, limits: HealthThresholds
) -> NewsDecision:
    """Return what follows from what is found, given what was told.

    Args:
        found: what is wrong now.
        standing: what was told and was not over.
        memory: of the last decision.
        now: seconds since the epoch.
        limits: from when on something is worth a word.
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
    """Return whether the end of it is told, and so what comes and goes is told once."""
    return row.kind in _SERIOUS or (row.kind in _SERIOUS_OF_MANY and is_fleet_wide(row.event))


def _sorted_out(
    found: Found, here: Mapping[str, HealthFinding], standing: Iterable[FindingRow], memory: Memory, now: float
) -> tuple[list[FindingRow], list[FindingRow], dict[str, float]]:
    """Return what still stands, what is over, and since when what stands is well."""
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
    """Findings that are told together, in an event of their own or in one that stands."""

    event: str
    findings: Sequence[HealthFinding]
    joined: Sequence[FindingRow] = ()
    """What stands already and belongs to this event from now on."""
    earlier: Sequence[FindingRow] = ()
    """What the event told already."""

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
    """Return whether it is time to tell it again: after as long as it took at first, then after twice as long each
    time."""
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
