"""How a session starts while windows have little left: with which model, and on which account.

The ladder (`budget.policy.model_downgrade`) says whether it starts as it was wanted, with a smaller model, later, or
not at all. The account (`budget.policy.account_choice`) is picked and written down in the transaction that has the
agent run, which sees every lease before it: so sessions that start together spread. An agent stays on its account over
restarts; it is moved when that is used up, where its host is started again, and this is told in its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bot.commands.syntax import command_line
from bot.pacing import wait_text
from bot.text import markdown
from bot.text.errors import UserError
from budget.costs.task_cost_from_history import learn
from budget.costs.task_cost_projection import expected
from budget.policy import model_downgrade
from budget.policy.account_choice import AccountCandidate, WindowRoom, choose
from budget.policy.model_downgrade import Downgrade, HeldBack, QueueStart, RefuseStart, Rung, Tried
from budget.windows.pace_admission import Cost, Waits, decide
from core.crash_points import declare
from database.queries.agents import agents, session_accounts
from database.queries.agents.session_accounts import AccountLease
from fleet.errors import FleetError
from fleet.journal import reader
from fleet.launch.launch_plan import DEFAULT_RUNTIME
from fleet.runtimes import RUNTIMES
from scheduler.dispatch.task_history import pasts, price_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.pacing.services import PacingServices
    from bot.pacing.snapshot import PaceSnapshot
    from budget.costs.task_cost_from_history import Past
    from budget.policy.account_choice import Chosen
    from budget.policy.model_downgrade import Step
    from budget.windows.pace_admission import Urgency, WindowState
    from database.queries.agents.agents import AgentRow
    from fleet.launch.launch_plan import LaunchPlan

LEASED = declare("session.leased")


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionPurpose:
    """What a session is started for."""

    kind: str = "task"
    """As costs are learned: task, turn, ..."""
    urgency: Urgency = "normal"
    deadline: float | None = None
    """When it must have begun, in seconds since the epoch."""
    tokens: float | None = None
    """What a person says that it will use (weighted); None: what such work used before."""
    may_refuse: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What was decided of a session that is about to start."""

    step: Step
    plan: LaunchPlan
    """What it would be started as: what was wanted, or after a downgrade less than that."""
    wanted: LaunchPlan
    snapshot: PaceSnapshot
    """What was known of the windows."""
    held: HeldBack | None = None
    """Why what was wanted may not run now; None: it may."""
    standings: Sequence[WindowState] = ()
    """The windows by which it is held."""
    cost: Cost = field(default_factory=lambda: Cost(tokens=0.0))
    """What the work is projected to cost with `plan`."""


# --- the ladder --------------------------------------------------------------------------------------------------


async def start_for(
    services: PacingServices, name: str, work: SessionPurpose | None, *, asked: Mapping[str, str | None] | None = None
) -> Opening:
    """Return what `name` would be started as now, for this work.

    Args:
        services: what there is.
        name: the agent.
        work: what it is started for; None: for nothing yet, which spends nothing.
        asked: what is said over the roster (`fleet.launch.launch_plan.Planner.plan`).

    Raises:
        FleetError: it could not be started at all; the message says what to do.
        RegisterError: the register cannot be read.
    """
    given = asked or {}
    plan = await asyncio.to_thread(services.planner.plan, name, given)
    return await opening(services, plan, work, asked=given)


async def opening(
    services: PacingServices,
    plan: LaunchPlan,
    work: SessionPurpose | None,
    *,
    asked: Mapping[str, str | None] | None = None,
) -> Opening:
    """Return what is done of a session that a plan describes; see `start_for`."""
    snapshot = await snapshot_of(services)
    if not snapshot.standings:
        return Opening(step=model_downgrade.StartAsWanted(), plan=plan, wanted=plan, snapshot=snapshot)
    async with services.store.read() as tx:
        row = await agents.get(tx, plan.name)
        leased = await session_accounts.of_agent(tx, plan.name)
        past = await pasts(tx, plan.role) if work is not None else []
        price = price_of(await pasts(tx, None), snapshot.now) if work is not None else None
    cost = cost_of(past, plan, work, now=snapshot.now, price=price)
    found = _held(services, snapshot, plan, work, cost, leased)
    if found is None:
        return Opening(step=model_downgrade.StartAsWanted(), plan=plan, wanted=plan, snapshot=snapshot, cost=cost)
    held, standings = found
    tried: list[tuple[Tried, LaunchPlan]] = []
    if not await asyncio.to_thread(_goes_on, services, row, plan):
        chain = await asyncio.to_thread(_chain, services, plan.runtime)
        for rung in model_downgrade.rungs(chain, runtime=plan.runtime, model=plan.model):
            lower = await asyncio.to_thread(_lowered, services, plan, rung, asked or {})
            if lower is None:
                continue
            its = cost_of(past, lower, work, now=snapshot.now, price=price)
            below = _held(services, snapshot, lower, work, its, {})
            tried.append((Tried(rung=rung, held=None if below is None else below[0]), lower))
            if below is None:
                break
    may_refuse = work is not None and work.may_refuse
    deadline = None if work is None else work.deadline
    step = model_downgrade.step(held, [each for each, _ in tried], deadline=deadline, may_refuse=may_refuse)
    chosen = tried[-1][1] if isinstance(step, Downgrade) else plan
    return Opening(
        step=step,
        plan=chosen,
        wanted=plan,
        snapshot=snapshot,
        held=held,
        standings=standings,
        cost=cost_of(past, chosen, work, now=snapshot.now, price=price),
    )


async def snapshot_of(services: PacingServices) -> PaceSnapshot:
    """Return every window as it stands now; none where nothing is paced.

    Raises:
        RegisterError: the register cannot be read.
    """
    return await services.pace.snapshot()


def cost_of(
    past: Sequence[Past], plan: LaunchPlan, work: SessionPurpose | None, *, now: float, price: float | None = None
) -> Cost:
    """Return what the work is projected to cost.

    Args:
        past: tasks of the role that ended.
        plan: what does it.
        work: None: nothing yet.
        now: seconds since the epoch.
        price: of a weighted token in US dollars, where these tasks do not say it.
    """
    if work is None:
        return Cost(tokens=0.0, usd=0.0, high_tokens=0.0, high_usd=0.0)
    learned = learn(past, role=plan.role, runtime=plan.runtime, model=plan.model, kind=work.kind, now=now)
    return expected(learned, work.tokens, usd_per_token=price)


def _chain(services: PacingServices, runtime: str) -> list[Rung]:
    """Return the ladder for an agent of this runtime, whose models those are that name none."""
    written = services.settings.pacing.ladder
    if runtime in {model_downgrade.parse(each, runtime="", runtimes=RUNTIMES).runtime for each in written}:
        # The ladder says itself which models are this runtime's, so the others are those of the fleet's own.
        written_default = services.planner.read_roster().defaults.runtime
        runtime = written_default or services.settings.agents.runtime or DEFAULT_RUNTIME
    return [model_downgrade.parse(each, runtime=runtime, runtimes=RUNTIMES) for each in written]


def _goes_on(services: PacingServices, row: AgentRow | None, plan: LaunchPlan) -> bool:
    """Return whether it goes on with a conversation, in the middle of which the model stays."""
    if row is None or not row.keep_session or row.runtime != plan.runtime:
        return False
    return bool(reader.incarnations(services.planner.folder_of(plan.name)))


def _lowered(
    services: PacingServices, plan: LaunchPlan, rung: Rung, asked: Mapping[str, str | None]
) -> LaunchPlan | None:
    """Return the plan with another rung's model; None: that could not be started."""
    said = {"runtime": rung.runtime, "model": rung.model}
    try:
        lower: LaunchPlan = services.planner.plan(plan.name, {**asked, **said})
    except FleetError:
        return None
    # The roster keeps what was wanted: the next conversation begins with that.
    basis = replace(plan.basis, said={**plan.basis.said, **{key: value for key, value in said.items() if value}})
    return replace(plan, runtime=lower.runtime, model=lower.model, accounts=lower.accounts, basis=basis)


def _held(
    services: PacingServices,
    snapshot: PaceSnapshot,
    plan: LaunchPlan,
    work: SessionPurpose | None,
    cost: Cost,
    leased: Mapping[str, str],
) -> tuple[HeldBack, Sequence[WindowState]] | None:
    """Return why such a session may not start now on any of the accounts that serve it, and the windows that it would
    draw on where it may first; None: it may."""
    urgency: Urgency = "normal" if work is None else work.urgency
    provider, names = next(iter(plan.accounts.items()), (None, ()))
    mine = leased.get(provider or "")
    # An agent stays on its account while that is not used up: the others are none of its.
    stays = [mine] if mine in names and not _candidate(snapshot, str(mine), plan).exhausted else list(names)
    waits: list[tuple[Waits, Sequence[WindowState]]] = []
    each_one: list[str | None] = [*stays]
    for account in each_one or [None]:
        standings = snapshot.for_draw(
            agent=plan.name,
            role=plan.role,
            runtime=plan.runtime,
            model=plan.model,
            profiles=services.planner.profile(plan.sandbox).lineage,
            provider=provider,
            account=account,
        )
        decision = decide(standings, cost, urgency, snapshot.now, snapshot.policy)
        # Where nothing is to be spent yet, what is not known is no limit.
        if not isinstance(decision, Waits) or (work is None and decision.why in ("unknown", "price")):
            return None
        waits.append((decision, standings))
    first, drawn = min(waits, key=lambda each: float("inf") if each[0].at is None else each[0].at)
    never = all(_is_never(snapshot, each) for each, _ in waits)
    return HeldBack(text=first.text, at=first.at, never=never, leave=first.leave), drawn


def _is_never(snapshot: PaceSnapshot, waits: Waits) -> bool:
    standing = snapshot.standings.get(waits.window)
    return waits.at is None and standing is not None and waits.need > standing.window.known_limit


def work_of(task: str | None) -> SessionPurpose | None:
    """Return what a launch by hand is for: it is never refused for its pace, and without a task it spends
    nothing yet."""
    return None if task is None else SessionPurpose(kind="turn", may_refuse=False)


async def settle(
    services: PacingServices, tx: AsyncConnection, row: AgentRow, opened: Opening, *, may_refuse: bool = False
) -> str | None:
    """Have a session start as it was decided, in the transaction that has the agent run: lease its account, and tell.

    Args:
        services: what there is.
        tx: that transaction.
        row: the agent, as `opened.plan` has it.
        opened: what was decided.
        may_refuse: as `lease` has it.

    Returns:
        What was told in the agent's thread of the ladder, for whoever asked; None: nothing.

    Raises:
        UserError: it is refused.
    """
    if (said := told(services, opened)) is not None:
        await services.agents.teller.note(tx, row, f"ladder/{row.name}/{row.launch_id}", said)
    await lease(services, tx, row, opened.plan.accounts, opened.snapshot, may_refuse=may_refuse)
    return said


# --- accounts ----------------------------------------------------------------------------------------------------


def _candidate(
    snapshot: PaceSnapshot, account: str, plan: LaunchPlan | AgentRow, leases: int = 0, at_once: int | None = None
) -> AccountCandidate:
    scope = f"account:{account}"
    standings = [
        standing
        for standing in snapshot.for_draw(account=account, model=plan.model, host=False)
        if standing.window.scope == scope
    ]
    rooms = []
    for standing in standings:
        window = standing.window
        used, limit = window.known_use, window.known_limit
        left = None if used is None else 0.0 if limit <= 0 else (limit - used - standing.held) / limit
        rooms.append(WindowRoom(window=window.key.removeprefix("account:"), left=left, resets_at=window.resets_at))
    waits = isinstance(decide(standings, Cost(tokens=0.0, usd=0.0), "normal", snapshot.now, snapshot.policy), Waits)
    return AccountCandidate(account=account, rooms=rooms, leases=leases, at_once=at_once, waits=waits)


async def lease(
    services: PacingServices,
    tx: AsyncConnection,
    row: AgentRow,
    accounts: Mapping[str, Sequence[str]],
    snapshot: PaceSnapshot,
    *,
    may_refuse: bool = False,
) -> dict[str, str]:
    """Choose the account of each provider that an agent's session is on, write it down, and tell what is news in it.

    Args:
        services: what there is.
        tx: the transaction that has the agent run; it sees the leases of all that came before.
        row: the agent.
        accounts: those that serve it, by provider; that of its model first
        (`fleet.launch.launch_plan.LaunchPlan.accounts`). snapshot: what is known of the windows. may_refuse: an agent
        that comes new to accounts with as many sessions as they may have is refused.

    Raises:
        UserError: it is refused so.
    """
    settings = services.settings.accounts
    others = [each for each in await session_accounts.live(tx) if each.agent != row.name]
    found: dict[str, str] = {}
    for left in (await session_accounts.of_agent(tx, row.name)).keys() - accounts.keys():
        # Of what it was before: it takes no room there any more.
        await session_accounts.drop(tx, row.name, left)
    for place, (provider, serving) in enumerate(accounts.items()):
        names = [name for name in serving if _has_credential(services, name)] or serving
        candidates = [
            _candidate(
                snapshot,
                name,
                row,
                leases=sum(each.account == name for each in others),
                at_once=settings[name].at_once if name in settings else None,
            )
            for name in names
        ]
        held = await session_accounts.get(tx, row.name, provider)
        chosen = choose(candidates, held=held.account if held is not None else None)
        if chosen is None:
            continue
        taken = next(each for each in candidates if each.account == chosen.account)
        if may_refuse and place == 0 and taken.full and (held is None or held.account != chosen.account):
            listed = ", ".join(f"{each.account} ({each.leases} of {each.at_once})" for each in candidates if each.full)
            raise UserError(
                f"Every account that serves {row.name} has as many sessions as `at_once` lets it have: {listed}. "
                f"{command_line('stop NAME')} frees one; or raise `at_once` in muster.yaml.",
                code="account.full",
            )
        found[provider] = chosen.account
        if held is not None and held.account == chosen.account:
            continue
        new = AccountLease(
            agent=row.name,
            provider=provider,
            account=chosen.account,
            launch_id=row.launch_id,
            reason=chosen.reason,
            leased_at=services.clock(),
        )
        await session_accounts.put(tx, new)
        if place == 0 and (text := _told(chosen, held, several=len(names) > 1)) is not None:
            key = f"lease/{row.name}/{row.launch_id}/{chosen.account}/{new.leased_at:.3f}"
            await services.agents.teller.note(tx, row, key, text)
    return found


def _has_credential(services: PacingServices, account: str) -> bool:
    """Return whether nothing is known to be missing: a variable is looked up here, everything else by the egress."""
    found = services.settings.accounts.get(account)
    reference = None if found is None else found.credential
    if reference is None or reference.scheme != "env":
        return True
    return bool(services.environ.get(reference.name, "").strip())


def _told(chosen: Chosen, held: AccountLease | None, *, several: bool) -> str | None:
    account = markdown.code(chosen.account)
    if chosen.moved_from is not None:
        before = markdown.code(chosen.moved_from)
        return f"🔀 It moves from the account {before}, which is used up, to {account}: {chosen.reason}."
    if held is not None:
        before = markdown.code(held.account)
        return f"🔀 It is on the account {account} now, as {before} serves it no longer, or has no credential any more."
    return f"It is on the account {account}: {chosen.reason}." if several else None


async def accounts_of(services: PacingServices, row: AgentRow) -> Mapping[str, str]:
    """Return the account of each provider that an agent is on, as its host is about to be started
    (`fleet.launch.host_spec_builder`).

    Raises:
        FleetError: no account serves it.
        RegisterError: the register cannot be written.
    """
    accounts = await asyncio.to_thread(services.planner.choices_of, row)
    if not accounts:
        return {}
    snapshot = await snapshot_of(services)
    async with services.store.write(LEASED) as tx:
        found = await lease(services, tx, row, accounts, snapshot)
    services.delivery.wake()
    return found


async def drawn_on(services: PacingServices, row: AgentRow, leased: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the provider and the account of an agent's model, of those that it is on."""
    provider: str | None = None
    if len(leased) > 1:
        with contextlib.suppress(FleetError):
            provider = next(iter(await asyncio.to_thread(services.planner.choices_of, row)), None)
    if provider not in leased:
        provider = next(iter(leased), None)
    return provider, leased.get(provider or "")


# --- words -------------------------------------------------------------------------------------------------------


def told(services: PacingServices, opened: Opening) -> str | None:
    """Return what is said of how a session starts: in its thread, and to whoever asked for it. None: it starts as
    wanted."""
    faster = f"{command_line('pace')} shows the windows."
    if opened.held is not None and opened.held.leave:
        faster += f" An admin makes room for it as it was wanted by {wait_text.ways(opened.held.leave)}."
    match opened.step:
        case Downgrade(rung=rung, why=why):
            was = markdown.code(opened.wanted.model or f"the default of {opened.wanted.runtime}")
            return f"↘️ It starts with {markdown.code(str(rung))} instead of {was}: {why} {faster}"
        case QueueStart(at=at, why=why):
            when = f"about {services.agents.teller.time_of_day(at)}" if at is not None else "at a time not known yet"
            return f"⏳ {why}{tried_in_words(opened.step)} There is room {when}. {faster}"
        case RefuseStart(why=why):
            return f"⛔ {why}{tried_in_words(opened.step)} {faster}"
        case _:
            return None


def tried_in_words(step: QueueStart | RefuseStart) -> str:
    """Return which smaller models have no room either; nothing where none was tried."""
    if not step.tried:
        return ""
    first, *rest = (markdown.code(str(rung)) for rung in step.tried)
    if not rest:
        return f" {first} of the ladder has no room either."
    return f" Of the ladder neither {' nor '.join([first, *rest])} has room."
