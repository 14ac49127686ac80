"""Loader of window inputs from the settings, the roster and the register."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals.services import ApprovalServices
from bot.config.schema import Account, Settings
from bot.egress_client.settings_push import HeldLimit, held
from bot.pacing import past_authorizations
from bot.pacing.window_inputs import CountStart, Quota, Spender, UnderWay, UsedSince, WindowInputs, starts
from budget.costs.task_cost import TypicalTurn, typical_turn
from budget.dispatch.fair_queueing import CRITICAL
from budget.tokens import Tokens, Weights
from budget.windows import provider_quota
from budget.windows.running_task_reserve import ReservedTask, still
from database.queries import tasks
from database.queries.agents import agent_messages, agents, runs, session_accounts
from database.queries.spending import limits_by_command, pacing_windows, turn_outcomes, usage_queries
from database.queries.spending.pacing_windows import ObservationRow
from database.queries.spending.usage_cache import UsageCache, UsageQuestion, UsageTally
from database.queries.spending.usage_queries import Sums
from database.queries.tasks import Task
from fleet.errors import FleetError
from fleet.launch.launch_plan import DEFAULT_ROLE
from fleet.roster.launch_overrides import Basis
from fleet.sandbox.profiles import JOINS, merged, named

#: Seconds after which an ended task no longer holds its reservation. Its use is normally counted within moments.
_UNSETTLED_S = 3_600.0
#: Windows by name that both providers' subscriptions have, for accounts without any report yet.
_USUAL = {"5h": 18_000.0, "7d": 604_800.0}
#: Maximum number of windows per account, the newest first: a server in a provider's place may report any names.
_MOST_WINDOWS = 24
#: Seconds for which the cost of a typical turn is cached.
_TURN_S = 600.0


@dataclass(kw_only=True, slots=True)
class WindowLoader:
    """Loader of window inputs. It caches what does not change between two loads, which must not overlap."""

    services: ApprovalServices
    tally: UsageTally = field(default_factory=UsageTally)
    """Use since the windows began."""
    unpaced: Settings | None = None
    """The settings under which no window is possible, given the limits set by command; None if there may be one."""
    _seen: dict[tuple[str, str], tuple[int, Sequence[provider_quota.QuotaSample], float | None]] = field(
        default_factory=dict
    )
    """By reported window: the newest row id, the samples, and the learned rate per token."""
    _turn: tuple[float, TypicalTurn] | None = None
    """When the cost of a typical turn was loaded, and this cost."""

    async def facts(self, tx: AsyncConnection) -> WindowInputs:
        """Return the inputs as of now. Call `tally.begin` before the transaction begins.

        Raises:
            RegisterError: the register cannot be read.
        """
        services = self.services
        settings: Settings = services.settings
        now = services.clock()
        given = await limits_by_command.every(tx)
        limits = held(settings, self._roster_budgets(), given)
        # Budgets from the roster are all per launch, so outdated ones do not matter here.
        self.unpaced = None if _can_be_paced(settings, limits) else settings
        spenders = await spenders_of(tx, self.services, settings)
        weights = Weights.of(settings.budgets.weights)
        kept = await self.tally.look(tx, now)
        quotas = await self._quotas(tx, settings, limits, weights, kept, now)
        asked = starts(limits, spenders, quotas, now)
        heirs = heirs_of(settings, spenders.values())
        authorized = await pacing_windows.live(tx)
        over = past_authorizations.ended(limits, spenders, quotas, authorized, now)
        if over:
            first = min(row.granted_at for row in authorized)
            counted = await _used(tx, kept, {*past_authorizations.starts_of(over, authorized)}, weights, heirs, now)
            authorized = past_authorizations.used_up(authorized, await pacing_windows.ended(tx, first), over, counted)
        return WindowInputs(
            now=now,
            held=limits,
            spenders=spenders,
            quotas=quotas,
            used=await _used(tx, kept, asked, weights, heirs, now),
            under_way=await self._under_way(tx, settings, spenders, weights, now),
            authorizations=authorized,
            turn=await self._typical_turn(tx, weights, now),
        )

    async def _typical_turn(self, tx: AsyncConnection, weights: Weights, now: float) -> TypicalTurn:
        if self._turn is None or not 0 <= now - self._turn[0] < _TURN_S:
            seen = await turn_outcomes.recent(tx)
            sums = [(float(weigh(each, weights)), None if each.unpriced else each.usd) for each in seen]
            self._turn = (now, typical_turn(sums))
        return self._turn[1]

    def _roster_budgets(self) -> Mapping[str, int]:
        return self.services.roster.budgets or {}

    async def _quotas(
        self,
        tx: AsyncConnection,
        settings: Settings,
        limits: Iterable[HeldLimit],
        weights: Weights,
        kept: UsageCache,
        now: float,
    ) -> list[Quota]:
        accounts = {name: each for name, each in settings.accounts.items() if each.kind == "subscription"}
        if not accounts:
            return []
        by_user = {(each.of, each.window): each.reset_at for each in limits if each.reset_at is not None}
        newest = await pacing_windows.observed(tx)
        wanted: dict[tuple[str, str], float | None] = {}
        for name, account in accounts.items():
            for window, length in _windows(name, account, newest).items():
                wanted[name, window] = length
        for key in wanted:
            if key in newest and self._seen.get(key, (0,))[0] != newest[key]:
                seen = [_seen(row) for row in await pacing_windows.observations(tx, *key)]
                self._seen[key] = (newest[key], seen, provider_quota.capacity(seen))
        # Observations dated in the future count for nothing, and must not hide use since the others.
        last = {
            key: provider_quota.counts_from(
                self._seen.get(key, (0, (), None))[1], now, by_user.get(key), length_s=length
            )
            for key, length in wanted.items()
        }
        asked = [UsageQuestion(f"account:{name}", at) for (name, _), at in last.items() if at is not None]
        spent = dict(zip(asked, await kept.used(tx, asked, now=now), strict=True))
        found = []
        for (name, window), length in wanted.items():
            _, history, per_token = self._seen.get((name, window), (0, (), None))
            at = last[name, window]
            since = spent.get(UsageQuestion(f"account:{name}", at)) if at is not None else None
            reading = provider_quota.read(
                history,
                0.0 if since is None else float(weigh(since, weights)),
                now,
                per_token,
                by_user.get((name, window)),
                length_s=length,
            )
            if reading.length_s is None and (reading.resets_at is None or all(each.used is None for each in history)):
                # A request limit per minute, or a provider's status of all windows together.
                continue
            found.append(Quota(account=name, name=window, reading=reading, per_token=per_token))
        return found

    async def _under_way(
        self,
        tx: AsyncConnection,
        settings: Settings,
        spenders: Mapping[str, Spender],
        weights: Weights,
        now: float,
    ) -> list[UnderWay]:
        # A reservation ends with its turn, since a task that waits for a person's answer uses nothing more. An ended
        # task keeps its reservation until its use is counted; otherwise the amount would be free in between.
        underway = await agent_messages.in_states(tx, ["pending", "journaled", "accepted"])
        open_ = {message.id for message in underway}
        held = [task for task in await tasks.live(tx) if task.state != "waiting" or task.message in open_]
        live = [*held, *await tasks.unsettled(tx, since=now - _UNSETTLED_S)]
        used = await usage_queries.by_task(tx, [task.id for task in live])
        of_tasks = [_under_way(task, settings, spenders, used.get(task.id), weights) for task in live]
        return of_tasks + await _rounds_under_way(tx, weights)


async def spenders_of(tx: AsyncConnection, services: ApprovalServices, settings: Settings) -> dict[str, Spender]:
    """Return every agent that exists or is in the roster, by name."""
    lineages = lineages_of(settings)
    roster = services.roster
    await roster.refresh()
    found = {}
    default = settings.agents.sandbox or "bubblewrap"
    for entry in roster.entries:
        profile = entry.sandbox or default
        role = entry.role or DEFAULT_ROLE
        found[entry.name] = Spender(name=entry.name, role=role, profiles=lineages.get(profile, (profile,)))
    for row in await agents.every(tx):
        basis = Basis.from_json(row.basis)
        said = {} if basis is None or row.wanted == "stopped" else basis.said
        found[row.name] = Spender(
            name=row.name,
            role=row.role,
            launch_id=row.launch_id,
            profiles=lineages.get(row.sandbox) or _lineage_of(row.sandbox, services),
            budget=float(said["budget"]) if "budget" in said else None,
            raised_at=float(said.get("budget_set_at", 0.0)) if "budget_may_raise" in said else None,
        )
    return found


def _lineage_of(sandbox: str, services: ApprovalServices) -> tuple[str, ...]:
    """Return the lineage of profiles that are used together; only the name of one that there is not."""
    try:
        profile = named(sandbox, services.planner.profiles)
    except FleetError:
        profile = None
    return (sandbox,) if profile is None else profile.lineage


def _can_be_paced(settings: Settings, limits: Iterable[HeldLimit]) -> bool:
    """Return whether windows are possible, regardless of the agents."""
    launches = all(limit.is_whole or (limit.kind == "allowance" and limit.window is None) for limit in limits)
    return not launches or any(account.kind == "subscription" for account in settings.accounts.values())


def lineages_of(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Map each sandbox profile to itself and those that it extends, the most specific first."""
    written = {name: profile.written() for name, profile in settings.sandboxes.items()}
    return {name: profile.lineage for name, profile in merged(written).items()}


def heirs_of(settings: Settings, spenders: Iterable[Spender]) -> dict[str, list[str]]:
    """Map each sandbox profile to the profiles that extend it, and to those that agents use together with others."""
    found: dict[str, list[str]] = {}
    joined = {spender.profiles[0]: spender.profiles for spender in spenders if JOINS in spender.profiles[0]}
    for name, lineage in (lineages_of(settings) | joined).items():
        for above in lineage[1:]:
            found.setdefault(above, []).append(name)
    return found


def weigh(sums: Sums, weights: Weights) -> int:
    """Return the weighted tokens that count against limits."""
    return weights.weigh(Tokens(**sums.kinds))


async def _used(
    tx: AsyncConnection,
    kept: UsageCache,
    asked: Collection[CountStart],
    weights: Weights,
    heirs: Mapping[str, list[str]],
    now: float,
) -> dict[CountStart, UsedSince]:
    sums = await kept.used(tx, [UsageQuestion(*start) for start in asked], now=now, heirs=heirs)
    return {
        start: UsedSince(tokens=float(weigh(each, weights)), usd=each.usd)
        for start, each in zip(asked, sums, strict=True)
    }


def _windows(name: str, account: Account, newest: Mapping[tuple[str, str], int]) -> dict[str, float | None]:
    """Return the names of a subscription's windows, with their lengths where muster.yaml sets them."""
    if account.windows:
        return {each.name: each.length_s for each in account.windows}
    latest = sorted(((seq, window) for (whose, window), seq in newest.items() if whose == name), reverse=True)
    return {window: None for _, window in latest[:_MOST_WINDOWS]} or dict(_USUAL)


def _seen(row: ObservationRow) -> provider_quota.QuotaSample:
    return provider_quota.QuotaSample(
        account=row.account,
        window=row.window,
        seen_at=row.seen_at,
        used=row.used,
        reset_at=row.reset_at,
        length_s=row.window_s,
        status=row.status,
        tokens=row.tokens,
    )


async def _rounds_under_way(tx: AsyncConnection, weights: Weights) -> list[UnderWay]:
    """Return what rounds of issues may still use, up to what was projected when they began."""
    begun = [
        (work, forecast, work.started_at)
        for work in await runs.open_ones(tx)
        if (forecast := work.forecast) is not None and work.started_at is not None and runs.is_round(work.id)
    ]
    used = await usage_queries.used_many(tx, [(f"agent:{work.agent}", since) for work, _, since in begun])
    accounts = await session_accounts.by_agent(tx) if begun else {}
    found = []
    for (work, forecast, _), sums in zip(begun, used, strict=True):
        provider, account = next(iter(accounts.get(work.agent, {}).items()), (None, None))
        each = UnderWay(
            agent=work.agent,
            role=work.role,
            model=forecast.model,
            account=account,
            provider=provider,
            tokens=still(ReservedTask(projected=forecast.tokens, used=weigh(sums, weights))),
            usd=still(ReservedTask(projected=forecast.usd or 0.0, used=sums.usd)),
            projected_tokens=forecast.tokens,
            projected_usd=forecast.usd or 0.0,
        )
        found.append(each)
    return found


def _under_way(
    task: Task, settings: Settings, spenders: Mapping[str, Spender], used: Sums | None, weights: Weights
) -> UnderWay:
    agent = task.assigned or task.agent or ""
    spender = spenders.get(agent)
    account = settings.accounts.get(task.account) if task.account is not None else None
    tokens, usd = (0, 0.0) if used is None else (weigh(used, weights), used.usd)
    return UnderWay(
        agent=agent,
        role=spender.role if spender is not None else task.role,
        model=task.model,
        account=task.account,
        provider=None if account is None else account.provider,
        tokens=still(ReservedTask(projected=task.projected_tokens or 0.0, used=tokens)),
        usd=still(ReservedTask(projected=task.projected_usd or 0.0, used=usd)),
        projected_tokens=task.projected_tokens or 0.0,
        projected_usd=task.projected_usd or 0.0,
        critical=task.urgency == CRITICAL,
    )
