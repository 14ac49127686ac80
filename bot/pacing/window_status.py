"""The state of every window at one moment. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from types import MappingProxyType
from typing import Any

from bot.pacing.window_inputs import UnderWay, WindowInputs, authorization_of, windows_of
from budget.windows.even_spread_line import JITTER_S, Cause, EvenSpreadLine, PacePolicy, Window, redrawn
from budget.windows.pace_admission import WindowState, settled
from budget.windows.running_task_reserve import Reserve, together
from budget.windows.window_state import CountedLimit, Figures, figures
from budget.windows.work_draw import WorkDraw
from database.queries.spending.pacing_windows import AuthorizationRow

#: Share of an authorization below which its rest counts as nothing.
_NOTHING = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """The window states, and the changes to store."""

    standings: Mapping[str, WindowState]
    fresh: tuple[EvenSpreadLine, ...] = ()
    """Lines that were redrawn now."""
    skewed: tuple[EvenSpreadLine, ...] = ()
    """Previous lines with a time in the future, because the clock went back."""
    gone: tuple[str, ...] = ()
    """Keys of windows that had a line and no longer exist."""
    drawn: Mapping[str, float] = field(default_factory=dict)
    """Use of authorizations to record now, by id."""
    used_up: tuple[str, ...] = ()
    """Ids of authorizations that are used up."""


def stand(
    facts: WindowInputs,
    lines: Mapping[str, EvenSpreadLine],
    policy: PacePolicy,
    *,
    spread: bool = True,
    cause: Cause | None = None,
    scope: str | None = None,
) -> Drawn:
    """Compute the state of every window, and redraw lines that are due.

    Args:
        facts: the window inputs.
        lines: the current lines by window key.
        policy: how strictly the pace is kept.
        spread: False: there is no pace, so all of a limit may be used at any time.
        cause: redraw all lines for this cause. None: only those that are due.
        scope: with a cause, only lines of windows of this scope.
    """
    now = facts.now
    found: dict[str, WindowState] = {}
    fresh: list[EvenSpreadLine] = []
    skewed: list[EvenSpreadLine] = []
    for window in windows_of(facts):
        line = lines.get(window.key)
        if line is not None and line.drawn_at > now + JITTER_S:
            skewed.append(line)
            line = None
        if line is None or (spread and _is_flat(line)):
            line = redrawn(window, None, now, policy)
            assert line is not None
            fresh.append(line if spread else _flat(line))
        found[window.key] = _standing(window, line if spread else _flat(line), facts)
    anew = {key for key, each in found.items() if cause is not None and scope in (None, each.window.scope)}

    def settle(standing: WindowState, cause: Cause | None) -> WindowState | None:
        made = settled(standing, now, policy, cause=cause)
        return made if made is None or spread else replace(made, line=_flat(made.line))

    drawn = _beyond(found, skewed, now, policy)
    if drawn:
        _draw(found, drawn)
    drawn |= _settle(found, fresh, settle, cause, anew)
    return Drawn(
        standings=found,
        fresh=tuple(fresh),
        skewed=tuple(skewed),
        gone=tuple(sorted(set(lines) - set(found))),
        drawn=drawn,
        used_up=tuple(_used_up(facts.authorizations, drawn)),
    )


def _beyond(
    found: Mapping[str, WindowState], skewed: Iterable[EvenSpreadLine], now: float, policy: PacePolicy
) -> dict[str, float]:
    """Return the use of authorizations beyond limits since the skewed lines were drawn, which are dropped.

    Use beyond the pace is not counted, since the progress of the pace is unknown.
    """
    drawn: dict[str, float] = {}
    for line in skewed:
        standing = found[line.window]
        reset = standing.window.resets_at
        if line.resets_at is None or reset is None or abs(line.resets_at - reset) > JITTER_S:
            # This line belongs to another window, drawn while the clock was ahead.
            continue
        made = settled(replace(standing, line=_flat(line)), now, policy, cause="observation")
        before = {each.id: each.drawn for each in standing.authorizations}
        for each in () if made is None else made.authorizations:
            if each.drawn > before[each.id]:
                drawn[each.id] = max(drawn.get(each.id, 0.0), each.drawn)
    return drawn


def _draw(found: dict[str, WindowState], drawn: Mapping[str, float]) -> None:
    """Update the use of each authorization in all windows."""
    for key, standing in found.items():
        if any(each.id in drawn for each in standing.authorizations):
            found[key] = replace(
                standing,
                authorizations=tuple(
                    replace(each, drawn=max(each.drawn, drawn.get(each.id, 0.0))) for each in standing.authorizations
                ),
            )


def _settle(
    found: dict[str, WindowState],
    fresh: list[EvenSpreadLine],
    settle: Callable[[WindowState, Cause | None], WindowState | None],
    cause: Cause | None,
    anew: Collection[str],
) -> dict[str, float]:
    """Redraw lines that are due, and return the use of each authorization to record.

    An authorization applies to all windows of its scope at once. If one window books use of it, all these windows get
    new lines. Otherwise another window would count the same use again.
    """
    drawn: dict[str, float] = {}
    new = {line.window for line in fresh}
    again: set[str] = set()
    for key, standing in list(found.items()):
        made = settle(standing, cause if key in anew and key not in new else None)
        if made is None:
            continue
        before = {each.id: each.drawn for each in standing.authorizations}
        booked = [each for each in made.authorizations if each.drawn > before[each.id]]
        for each in booked:
            drawn[each.id] = max(drawn.get(each.id, 0.0), each.drawn)
        if booked:
            again.add(standing.window.scope)
        found[key] = made
        fresh[:] = [line for line in fresh if line.window != key] + [made.line]
        new.add(key)
    for key, standing in list(found.items()):
        if standing.window.scope not in again:
            continue
        if key not in new:
            made = settle(standing, "authorization")
            if made is not None:
                for each in made.authorizations:
                    drawn[each.id] = max(drawn.get(each.id, 0.0), each.drawn)
                standing = made
                fresh.append(made.line)
        found[key] = standing
    if drawn:
        _draw(found, drawn)
    return drawn


def _used_up(rows: Sequence[AuthorizationRow], drawn: Mapping[str, float]) -> Iterable[str]:
    for row in rows:
        if row.amount - max(row.drawn, drawn.get(row.id, 0.0)) <= _NOTHING * row.amount:
            yield row.id


def _flat(line: EvenSpreadLine) -> EvenSpreadLine:
    """Return the line without a spread: all of the limit may be used at any time."""
    return replace(line, level=max(line.limit, line.drawn_used), ahead=0.0)


def _is_flat(line: EvenSpreadLine) -> bool:
    """Return whether the line was drawn without a spread."""
    return line.level is not None and line.level >= line.limit > line.drawn_used and line.resets_at is not None


def _standing(window: Window, line: EvenSpreadLine, facts: WindowInputs) -> WindowState:
    on = [each for each in facts.under_way if _draws(window, each, facts)]
    held = together(_in_unit(window, each) for each in on)
    return WindowState(
        window=window,
        line=line,
        reserved=held.projected,
        reserved_high=held.high,
        under_way=len(on),
        largest=max((_projected(window, each) for each in on), default=0.0),
        critical=any(each.critical for each in on),
        authorizations=tuple(
            authorization_of(row)
            for row in facts.authorizations
            if row.scope == window.scope and row.granted_at <= facts.now < row.until
        ),
    )


def _draws(window: Window, task: UnderWay, facts: WindowInputs) -> bool:
    spender = facts.spenders.get(task.agent)
    draw = WorkDraw(
        agent=task.agent,
        role=task.role,
        model=task.model,
        profiles=() if spender is None else spender.profiles,
        provider=task.provider,
        account=task.account,
    )
    return draw.counts_on(window)


def _in_unit(window: Window, task: UnderWay) -> Reserve:
    if window.unit == "usd":
        return task.usd
    rate = _rate(window)
    return Reserve(projected=task.tokens.projected * rate, high=task.tokens.high * rate)


def _projected(window: Window, task: UnderWay) -> float:
    return task.projected_usd if window.unit == "usd" else task.projected_tokens * _rate(window)


def _rate(window: Window) -> float:
    """Return the value of a token in the window's unit."""
    return 1.0 if window.unit == "tokens" else window.per_token or 0.0


def line_from(written: Mapping[str, Any]) -> EvenSpreadLine | None:
    """Return a stored line, or None if it is unreadable and must be redrawn."""
    known = {each.name: written[each.name] for each in fields(EvenSpreadLine) if each.name in written}
    try:
        line = EvenSpreadLine(**known)
        numbers = [line.drawn_at, line.drawn_used, line.limit, *([] if line.resets_at is None else [line.resets_at])]
    except TypeError:
        return None
    return line if all(isinstance(each, int | float) and isfinite(each) for each in numbers) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class PaceSnapshot:
    """The state of every window at one moment."""

    now: float
    """Seconds since the epoch."""
    policy: PacePolicy
    standings: Mapping[str, WindowState] = field(default_factory=lambda: MappingProxyType({}))
    """Window states by key."""
    policies: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Policy at the limit by window key; a provider's own windows have none."""
    gates: Mapping[str, CountedLimit] = field(default_factory=lambda: MappingProxyType({}))
    """The egress's current counts by window key; only set for views."""

    def seen_at_the_gate(self, standing: Mapping[str, Any] | None) -> PaceSnapshot:
        """Return a copy with the egress's current counts (egress.limits.view); None means that it does not answer."""
        gates = {}
        for each in () if standing is None else standing["limits"]:
            if each.get("account") is None and each["window"] is not None:
                whose = f"agent:{each['agent']}" if each["agent"] is not None else each["scope"]
                gates[f"{whose}/{each['unit']}/{each['window']}"] = CountedLimit(
                    used=each["used"], reserved=each["reserved"]
                )
        return replace(self, gates=gates)

    def every(self) -> list[Figures]:
        """Return the figures of all windows as all views show them, the most used first."""
        found = [figures(each, self.now, self.policy, self.gates.get(key)) for key, each in self.standings.items()]
        return sorted(found, key=lambda each: (-(each.least / each.limit if each.limit else 0.0), each.key))

    def for_draw(self, draw: WorkDraw) -> tuple[WindowState, ...]:
        """Return the windows that such work counts on."""
        return tuple(standing for standing in self.standings.values() if draw.counts_on(standing.window))
