"""Index of the counters that each agent draws on, kept in step with the settings and the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from budget.limits.precedence import governing
from budget.limits.scopes import BOUNDLESS, NANO_USD, Draw, Limit, amount_of, counted_on, of_role
from budget.tokens import Weights
from budget.windows.overrun_allowance import PaceAllowance
from core.errors import MusterError
from egress.ledger.service import UsageLedger
from egress.limits.limit_counters import LimitCounter, Spending, key
from egress.settings import AgentRegistration, EgressSettings, LimitSettings, PaceSettings


class SettingsRefused(MusterError):
    """The egress refused invalid settings. Nothing was changed."""


@dataclass(kw_only=True, slots=True)
class AgentCounters:
    """What all requests of one agent over one account have in common."""

    draw: Draw
    role: str
    who: tuple[Any, ...]
    """Its values for the ledger's columns."""
    counters: tuple[LimitCounter, ...]
    today: Spending
    """What the agent has used since the day began (UTC)."""


class CounterIndex:
    """All limit counters of one egress.

    Args:
        ledger: the ledger whose entries they sum up.
        clock: seconds since the epoch.
    """

    def __init__(self, ledger: UsageLedger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._counters: dict[tuple[Any, ...], LimitCounter] = {}
        self._today: dict[str, Spending] = {}
        self.weights = Weights()
        self.ways: dict[tuple[str, str, str], AgentCounters] = {}
        """By agent, provider and account."""

    def __iter__(self) -> Iterator[LimitCounter]:
        return iter(list(self._counters.values()))

    def ways_of(self, agent: str) -> list[AgentCounters]:
        """Return the counters of one agent, for each of its accounts."""
        return [way for way in self.ways.values() if way.draw.agent == agent]

    async def arrange(
        self,
        settings: EgressSettings,
        agents: Iterable[AgentRegistration],
        *,
        attach: Callable[[LimitCounter], None],
    ) -> None:
        """Apply these settings to these agents from now on.

        New counters are loaded from the ledger. The ledger handles its requests in order, so each concurrent settlement
        is counted exactly once.

        Args:
            settings: settings with the limits that all agents share.
            agents: all agents, with their own limits.
            attach: called with each new counter before the ledger is read, so that the counter includes running
                requests.

        Raises:
            SettingsRefused: a limit is invalid.
            LedgerUnwritable: the ledger could not be read.
        """
        now = self._clock()
        weights = weights_of(settings)
        common = [limit_of(limit) for limit in settings.limits]
        counters: dict[tuple[Any, ...], LimitCounter] = {}
        limits: dict[tuple[Any, ...], Limit] = {}
        paces = _paces(settings)
        alone = [limit for limit in map(_alone, settings.paces) if limit is not None]
        planned: dict[tuple[str, str, str], tuple[AgentRegistration, Draw, list[tuple[Any, ...]]]] = {}
        new: list[LimitCounter] = []
        for agent, draw in draws_of(agents):
            mine = [*common, *(limit_of(limit) for limit in agent.limits)]
            keys: list[tuple[Any, ...]] = []
            for limit in (*governing(mine, draw), *(each for each in alone if each.scope in draw.scopes)):
                counted = counted_on(limit, draw)
                name = key(limit, counted)
                if name in keys:
                    # Of two equal limits, the lower amount applies.
                    if limit.amount < limits[name].amount:
                        limits[name] = limit
                    continue
                keys.append(name)
                limits.setdefault(name, limit)
                if name not in counters:
                    counter = self._counters.get(name)
                    if counter is None:
                        counter = LimitCounter(limit, counted, now)
                        new.append(counter)
                    counters[name] = counter
            planned[draw.agent, draw.provider, draw.account] = (agent, draw, keys)
        today = {agent.agent: self._today.get(agent.agent) for agent, _, _ in planned.values()}
        fresh = {name: Spending("day", now) for name, spending in today.items() if spending is None}
        for counter in new:
            attach(counter)
        self._counters.update({counter.key: counter for counter in new})
        self._today.update(fresh)
        try:
            await self._load(new, fresh, weights)
        except BaseException:
            for counter in new:
                self._counters.pop(counter.key, None)
            for agent_name in fresh:
                self._today.pop(agent_name, None)
            raise
        if weights != self.weights:
            self.weights = weights
            for counter in counters.values():
                counter.weigh_anew(weights)
        for name, limit in limits.items():
            counters[name].replace(limit, now)
            counters[name].pace = paces.get((counters[name].counted_on, limit.unit, limit.window))
        self._counters = counters
        self._today = {agent.agent: self._today[agent.agent] for agent, _, _ in planned.values()}
        self.ways = {
            name: AgentCounters(
                draw=draw,
                role=agent.role,
                who=(
                    settings.tenant_id,
                    settings.host,
                    agent.agent,
                    agent.launch_id,
                    agent.role,
                    agent.profile,
                    ",".join(draw.profiles),
                ),
                counters=tuple(counters[each] for each in keys),
                today=self._today[agent.agent],
            )
            for name, (agent, draw, keys) in planned.items()
        }

    async def _load(self, new: list[LimitCounter], fresh: dict[str, Spending], weights: Weights) -> None:
        starts = {counter.spending.start for counter in new} | {spending.start for spending in fresh.values()}
        if not starts:
            return
        waiting: dict[tuple[float, str], list[LimitCounter]] = {}
        for counter in new:
            waiting.setdefault((counter.spending.start, counter.counted_on), []).append(counter)
        days = {(spending.start, name): spending for name, spending in fresh.items()}
        for start, used in (await self._ledger.used_since(sorted(starts))).items():
            for each in used:
                draw = Draw(
                    agent=each.agent,
                    launch_id=each.launch_id,
                    profiles=each.profiles,
                    provider=each.provider,
                    account=each.account,
                )
                for scope in of_role(each.role, each.account) if each.role else draw.every_scope:
                    for counter in waiting.get((start, scope), ()):
                        if counter.spending.start == start:
                            counter.load(each.tokens, each.nano_usd, each.requests, weights)
                day = days.get((start, each.agent))
                if day is not None and day.start == start:
                    day.add(each.tokens, each.nano_usd, each.requests)


def draws_of(agents: Iterable[AgentRegistration]) -> list[tuple[AgentRegistration, Draw]]:
    """Return what the requests of these agents draw on, over each of their accounts."""
    return [
        (agent, draw_of(agent, provider, account)) for agent in agents for provider, account in agent.accounts.items()
    ]


def draw_of(agent: AgentRegistration, provider: str, account: str) -> Draw:
    """Return what this agent's requests over that account draw on."""
    return Draw(
        agent=agent.agent,
        launch_id=agent.launch_id,
        profiles=agent.profiles or (agent.profile,),
        provider=provider,
        account=account,
        role=agent.role,
    )


def limit_of(written: LimitSettings) -> Limit:
    """Return a limit as it decides.

    Raises:
        SettingsRefused: the limit is invalid.
    """
    try:
        return Limit(
            kind=written.kind,
            scope=written.scope,
            amount=amount_of(written.amount, written.unit),
            unit=written.unit,
            window=written.window,
            policy=written.policy,
            may_raise=written.may_raise,
            set_at=written.set_at,
            account=written.account,
            lift=_lift(written),
            lift_until=written.lift_until or 0.0,
        )
    except ValueError as error:
        raise SettingsRefused(f"A limit on {written.scope} cannot hold: {error}") from None


def _lift(written: LimitSettings) -> int:
    """Return the amount of a limit's lift. An invalid lift counts as 0, so that it does not invalidate the limit."""
    if not written.lift or written.lift_until is None:
        return 0
    try:
        return amount_of(written.lift, written.unit)
    except ValueError:
        return 0


def _paces(settings: EgressSettings) -> dict[tuple[str, str, str | None], PaceAllowance]:
    """Return the paces by counted scope, unit and window."""
    found: dict[tuple[str, str, str | None], PaceAllowance] = {}
    for written in settings.paces:
        per = NANO_USD if written.unit == "usd" else 1
        pace = PaceAllowance(
            from_at=written.from_at,
            from_amount=written.from_amount * per,
            until_at=written.until_at,
            until_amount=written.until_amount * per,
            lift=written.lift * per if written.lift_until is not None else 0.0,
            lift_until=written.lift_until or 0.0,
        )
        if pace.is_sane:
            found[written.counted_on, written.unit, written.window] = pace
    return found


def _alone(written: PaceSettings) -> Limit | None:
    """Return an unbounded limit that counts for a pace without a limit; None if the pace has one, or is invalid."""
    if not written.by_itself:
        return None
    try:
        return Limit(kind="pool", scope=written.counted_on, amount=BOUNDLESS, unit=written.unit, window=written.window)
    except ValueError:
        return None


def weights_of(settings: EgressSettings) -> Weights:
    """Return how much tokens of each kind count.

    Raises:
        SettingsRefused: the weights are invalid.
    """
    try:
        return Weights.of(settings.weights)
    except ValueError as error:
        raise SettingsRefused(f"The weights are invalid: {error}") from None
