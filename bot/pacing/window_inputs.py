"""Inputs of windows at one moment, and the windows that follow from them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple, TypeAlias, TypeVar, cast

from bot.egress_client.settings_push import HeldLimit
from budget.amounts import Unit
from budget.costs.task_cost import TypicalTurn
from budget.limits.precedence import governing
from budget.limits.scopes import Draw, Limit
from budget.windows import window_boundaries, window_key
from budget.windows.even_spread_line import LastSeen, Window
from budget.windows.pace_admission import PaceAuthorization
from budget.windows.provider_quota import WindowReading
from budget.windows.running_task_reserve import Reserve
from database.queries.spending.pacing_windows import AuthorizationRow
from egress.settings import LimitSettings


class CountStart(NamedTuple):
    """Key of a count: use on a scope since a time."""

    scope: str
    since: float
    account: str | None = None
    """Count only use of this account; None: of all accounts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spender:
    """An agent that exists or is in the roster."""

    name: str
    role: str
    launch_id: str = ""
    profiles: tuple[str, ...] = ()
    """Its sandbox profile and those that it extends, the most specific first."""
    budget: float | None = None
    """Token budget from `launch --budget`; None if the launch set none."""
    raised_at: float | None = None
    """When an admin set the budget; None if an operator did, who can only lower it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """A window of an account, as far as it is known."""

    account: str
    name: str
    reading: WindowReading
    per_token: float | None

    @property
    def key(self) -> str:
        """Key of the window in the pacing law."""
        return window_key.of_quota(self.account, self.name)


class UsedSince(NamedTuple):
    """Use since a time."""

    tokens: float = 0.0
    """Weighted tokens."""
    usd: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class UnderWay:
    """What a live task may still use."""

    agent: str
    role: str | None
    model: str | None
    account: str | None
    provider: str | None
    tokens: Reserve
    usd: Reserve
    projected_tokens: float = 0.0
    """Weighted tokens that were projected when it began."""
    projected_usd: float = 0.0
    """USD that were projected when it began, if known."""
    critical: bool = False
    """Whether the task is of critical urgency."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowInputs:
    """All inputs at one moment."""

    now: float
    held: Sequence[HeldLimit] = ()
    spenders: Mapping[str, Spender] = field(default_factory=dict)
    quotas: Sequence[Quota] = ()
    used: Mapping[CountStart, UsedSince] = field(default_factory=dict)
    under_way: Sequence[UnderWay] = ()
    authorizations: Sequence[AuthorizationRow] = ()
    turn: TypicalTurn | None = None
    """Cost of one typical turn; None if not requested."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budgeted:
    """A limit as it applies to one pool or one agent."""

    limit: HeldLimit
    scope: str
    """Scope in the pacing law: the pool's own, or the agent's for an allowance."""

    @property
    def key(self) -> str:
        """Key of the window in the pacing law."""
        if self.limit.unit == "share":
            return window_key.of_share(self.scope, self.limit.of, self.limit.window)
        return window_key.of_limit(self.scope, self.limit.unit, self.limit.window)


def budgeted(held: Sequence[HeldLimit], spenders: Mapping[str, Spender]) -> Iterator[Budgeted]:
    """Yield each limit for everyone to whom it applies: a pool once, an allowance once per agent that it governs.

    Allowances without a window are per launch; only the egress counts them.
    """
    found: dict[str, Budgeted] = {}

    def add(made: Budgeted) -> None:
        # If the same limit is set twice, the lower one applies.
        known = found.get(made.key)
        if known is None or made.limit.amount < known.limit.amount:
            found[made.key] = made

    for limit in held:
        if limit.kind == "pool" and not limit.is_whole:
            add(Budgeted(limit=limit, scope=limit.scope))
    allowances = [limit for limit in held if limit.kind == "allowance"]
    for spender in spenders.values():
        for limit in governing_allowances(allowances, spender):
            if limit.window is not None:
                add(Budgeted(limit=limit, scope=f"agent:{spender.name}"))
    yield from found.values()


#: An allowance by scope and time of setting, which decide whether it governs.
Named: TypeAlias = tuple[str, float]
_Allowance = TypeVar("_Allowance", HeldLimit, LimitSettings)


def governing_allowances(allowances: Sequence[_Allowance], spender: Spender) -> list[_Allowance]:
    """Return the allowances that govern an agent."""
    named = tuple(dict.fromkeys((limit.scope, limit.set_at) for limit in allowances))
    governed = _governing(named, draw_of(spender), spender.raised_at)
    return [limit for limit in allowances if (limit.scope, limit.set_at) in governed]


def draw_of(spender: Spender) -> Draw:
    """Return what the agent draws on, regardless of its provider and account."""
    return Draw(
        agent=spender.name, launch_id=spender.launch_id, profiles=tuple(spender.profiles), provider="", account=""
    )


@lru_cache(maxsize=4096)
def _governing(allowances: tuple[Named, ...], draw: Draw, raised_at: float | None) -> frozenset[Named]:
    # Cached: every check of the pace asks for each agent, but only settings and launches change the answer.
    limits = [Limit(kind="allowance", scope=scope, amount=1, set_at=set_at) for scope, set_at in allowances]
    if raised_at is not None:
        launch = f"launch:{draw.launch_id}"
        limits.append(Limit(kind="allowance", scope=launch, amount=1, may_raise=True, set_at=raised_at))
    return frozenset((limit.scope, limit.set_at) for limit in governing(limits, draw))


def authorization_of(row: AuthorizationRow) -> PaceAuthorization:
    """Return a stored authorization in the form of the pacing law."""
    return PaceAuthorization(
        id=row.id,
        scope=row.scope,
        unit=cast("Unit", row.unit),
        amount=row.amount,
        granted_at=row.granted_at,
        until=row.until,
        drawn=row.drawn,
    )


def starts(
    held: Sequence[HeldLimit], spenders: Mapping[str, Spender], quotas: Sequence[Quota], now: float
) -> set[CountStart]:
    """Return the keys of all counts that `windows_of` needs."""
    readings = {(quota.account, quota.name): quota.reading for quota in quotas}
    found = set()
    for each in budgeted(held, spenders):
        if each.limit.unit != "share":
            found.add(CountStart(each.scope, window_boundaries.start_of(each.limit.window, now)))
        elif (reading := readings.get((each.limit.of or "", each.limit.window or ""))) is not None:
            begins = _begun(reading, now)
            if begins is not None:
                found.add(CountStart(each.scope, begins, each.limit.of))
    for quota in quotas:
        if quota.per_token is not None and (begins := _begun(quota.reading, now)) is not None:
            found.add(CountStart(f"account:{quota.account}", begins))
    return found


def windows_of(facts: WindowInputs) -> Iterator[Window]:
    """Yield every window as it is known now."""
    for window in _windows(facts):
        yield replace(window, turn=_turn(window, facts.turn))


def _turn(window: Window, turn: TypicalTurn | None) -> float | None:
    if turn is None or window.unit == "usd":
        return None if turn is None else turn.usd
    if window.unit == "tokens":
        return turn.tokens
    return None if window.per_token is None else turn.tokens * window.per_token


def _windows(facts: WindowInputs) -> Iterator[Window]:
    quotas = {(quota.account, quota.name): quota for quota in facts.quotas}
    for quota in facts.quotas:
        yield quota.reading.window(key=quota.key, scope=f"account:{quota.account}", per_token=quota.per_token)
    for each in budgeted(facts.held, facts.spenders):
        if each.limit.unit != "share":
            yield _of_the_clock(each, facts)
        elif (found := quotas.get((each.limit.of or "", each.limit.window or ""))) is not None:
            yield _share(each, found, facts)


def _of_the_clock(each: Budgeted, facts: WindowInputs) -> Window:
    limit, now = each.limit, facts.now
    begins, ends = window_boundaries.start_of(limit.window, now), window_boundaries.end_of(limit.window, now)
    used = facts.used.get(CountStart(each.scope, begins), UsedSince())
    return Window(
        key=each.key,
        scope=each.scope,
        unit=limit.unit,
        limit=limit.amount,
        begins_at=begins if ends is not None else None,
        resets_at=ends,
        length_s=None if ends is None else ends - begins,
        # The calendar defines this window, so its times are as certain as a provider's.
        certainty="provider",
        used=used.usd if limit.unit == "usd" else used.tokens,
        used_at=now,
    )


def _share(each: Budgeted, quota: Quota, facts: WindowInputs) -> Window:
    """Return a share of a provider's window; its use is the scope's tokens at the learned rate."""
    reading, limit = quota.reading, each.limit
    begins = _begun(reading, facts.now)
    used: float | None = None
    at_least: float | None = None
    last_seen: LastSeen | None = None
    if each.scope == f"account:{quota.account}":
        # All use of the account counts, including use by others.
        used, at_least, last_seen = reading.used, reading.at_least, reading.last_seen
    elif begins is not None:
        tokens = facts.used.get(CountStart(each.scope, begins, limit.of), UsedSince()).tokens
        if tokens == 0:
            used = 0.0
        elif quota.per_token is not None:
            used = tokens * quota.per_token
    return Window(
        key=each.key,
        scope=each.scope,
        unit="share",
        limit=limit.amount,
        begins_at=reading.begins_at,
        resets_at=reading.resets_at,
        length_s=reading.length_s,
        certainty=reading.certainty,
        used=used,
        used_at=reading.used_at,
        at_least=at_least,
        last_seen=last_seen,
        per_token=quota.per_token,
        # The egress enforces the share as soon as its size in tokens is known.
        hard=quota.per_token is not None,
    )


def _begun(reading: WindowReading, now: float) -> float | None:
    """Return when the window began; if only its length is known, the earliest possible time."""
    if reading.begins_at is not None and reading.begins_at <= now:
        return reading.begins_at
    return None if reading.length_s is None else now - reading.length_s
