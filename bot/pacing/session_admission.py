"""Session admission: the start and the model of a new session while windows have little left.

The ladder (`budget.policy.model_downgrade`) decides whether a session starts as wanted, with a smaller model, later, or
not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line
from bot.pacing import wait_text
from bot.pacing.account_leases import candidate, lease
from bot.pacing.window_services import WindowServices
from bot.pacing.window_status import PaceSnapshot
from bot.text import markdown
from budget.costs.task_cost import Past, expected, learn
from budget.policy import model_downgrade
from budget.policy.model_downgrade import Downgrade, HeldBack, QueueStart, RefuseStart, Rung, Step, Tried
from budget.windows.pace_admission import Cost, Urgency, Waits, WindowState, decide
from budget.windows.work_draw import WorkDraw
from database.queries.agents import agents, session_accounts
from database.queries.agents.agents import AgentRow
from fleet.errors import FleetError
from fleet.journal import reader
from fleet.launch.launch_plan import DEFAULT_RUNTIME, LaunchPlan
from fleet.runtimes import RUNTIMES
from scheduler.dispatch.task_history import pasts, price_of


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionPurpose:
    """The purpose of a session."""

    kind: str = "task"
    """Kind of work for which costs are learned: task, turn, ..."""
    urgency: Urgency = "normal"
    deadline: float | None = None
    """Latest time to begin, in seconds since the epoch."""
    tokens: float | None = None
    """A person's estimate in weighted tokens; None: the cost of past work applies."""
    may_refuse: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """The decision about a session that is about to start."""

    step: Step
    plan: LaunchPlan
    """The plan to start: the wanted one, or a downgrade of it."""
    wanted: LaunchPlan
    snapshot: PaceSnapshot
    """The window states at the decision."""
    held: HeldBack | None = None
    """Why the wanted plan may not run now; None if it may."""
    standings: Sequence[WindowState] = ()
    """The windows that hold it back."""
    cost: Cost = field(default_factory=lambda: Cost(tokens=0.0))
    """Projected cost of the work with `plan`."""


# --- the ladder --------------------------------------------------------------------------------------------------


async def start_for(services: WindowServices, name: str, work: SessionPurpose | None) -> Opening:
    """Decide how agent `name` would start now for this work.

    Args:
        services: the services to use.
        name: the agent.
        work: the purpose of the session. None: no work yet, so it spends nothing.

    Raises:
        FleetError: the agent cannot be started at all; the message says what to do.
        RegisterError: the register cannot be read.
    """
    plan = await asyncio.to_thread(services.planner.plan, name, {})
    return await opening(services, plan, work)


async def opening(
    services: WindowServices,
    plan: LaunchPlan,
    work: SessionPurpose | None,
    *,
    asked: Mapping[str, str | None] | None = None,
) -> Opening:
    """Decide how the session of a plan starts; see `start_for`.

    `asked` are the overrides of the roster in the plan (`fleet.launch.launch_plan.Planner.plan`).
    """
    snapshot = await services.pace.snapshot()
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


def cost_of(
    past: Sequence[Past], plan: LaunchPlan, work: SessionPurpose | None, *, now: float, price: float | None = None
) -> Cost:
    """Return the projected cost of the work.

    Args:
        past: ended tasks of the role.
        plan: the plan that would run.
        work: the purpose of the session. None: no work yet.
        now: seconds since the epoch.
        price: USD per weighted token, if `past` does not show it.
    """
    if work is None:
        return Cost(tokens=0.0, usd=0.0, high_tokens=0.0, high_usd=0.0)
    learned = learn(past, role=plan.role, runtime=plan.runtime, model=plan.model, kind=work.kind, now=now)
    return expected(learned, work.tokens, usd_per_token=price)


def _chain(services: WindowServices, runtime: str) -> list[Rung]:
    """Return the ladder for an agent of this runtime. Models without a runtime belong to it by default."""
    written = services.settings.pacing.ladder
    if runtime in {model_downgrade.parse(each, runtime="", runtimes=RUNTIMES).runtime for each in written}:
        # If the ladder names this runtime explicitly, models without a runtime belong to the fleet's default runtime.
        written_default = services.planner.read_roster().defaults.runtime
        runtime = written_default or services.settings.agents.runtime or DEFAULT_RUNTIME
    return [model_downgrade.parse(each, runtime=runtime, runtimes=RUNTIMES) for each in written]


def _goes_on(services: WindowServices, row: AgentRow | None, plan: LaunchPlan) -> bool:
    """Return whether the agent continues a conversation, which keeps its model."""
    if row is None or not row.keep_session or row.runtime != plan.runtime:
        return False
    return bool(reader.incarnations(services.planner.folder_of(plan.name)))


def _lowered(
    services: WindowServices, plan: LaunchPlan, rung: Rung, asked: Mapping[str, str | None]
) -> LaunchPlan | None:
    """Return the plan with the model of another rung, or None if it cannot be started."""
    said = {"runtime": rung.runtime, "model": rung.model}
    try:
        lower: LaunchPlan = services.planner.plan(plan.name, {**asked, **said})
    except FleetError:
        return None
    # The roster keeps the wanted model for the next conversation.
    basis = replace(plan.basis, said={**plan.basis.said, **{key: value for key, value in said.items() if value}})
    return replace(plan, runtime=lower.runtime, model=lower.model, accounts=lower.accounts, basis=basis)


def _held(
    services: WindowServices,
    snapshot: PaceSnapshot,
    plan: LaunchPlan,
    work: SessionPurpose | None,
    cost: Cost,
    leased: Mapping[str, str],
) -> tuple[HeldBack, Sequence[WindowState]] | None:
    """Return why the session may not start now on any account that serves it, or None if it may.

    The result includes the windows of the account that is available first.
    """
    urgency: Urgency = "normal" if work is None else work.urgency
    provider, names = next(iter(plan.accounts.items()), (None, ()))
    mine = leased.get(provider or "")
    # An agent keeps its account until that is used up, so other accounts do not matter before.
    stays = [mine] if mine in names and not candidate(snapshot, str(mine), plan).exhausted else list(names)
    waits: list[tuple[Waits, Sequence[WindowState]]] = []
    each_one: list[str | None] = [*stays]
    for account in each_one or [None]:
        draw = WorkDraw(
            agent=plan.name,
            role=plan.role,
            model=plan.model,
            profiles=services.planner.profile(plan.sandbox).lineage,
            provider=provider,
            account=account,
        )
        standings = snapshot.for_draw(draw)
        decision = decide(standings, cost, urgency, snapshot.now, snapshot.policy)
        # Before anything is spent, unknown use or prices are no obstacle.
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
    """Return the purpose of a manual launch. Its pace never refuses it, and without a task it spends nothing yet."""
    return None if task is None else SessionPurpose(kind="turn", may_refuse=False)


async def settle(
    services: WindowServices,
    tx: AsyncConnection,
    row: AgentRow,
    opened: Opening,
    *,
    has_words: bool = False,
) -> str | None:
    """Apply the decision in the transaction that starts the agent: lease its account, and announce the outcome.

    Args:
        services: the services to use.
        tx: the transaction that starts the agent.
        row: the agent as described by `opened.plan`.
        opened: the decision.
        has_words: whether somebody's words begin its first turn, which says itself whether it waits.

    Returns:
        The text about the ladder that was posted in the agent's thread, or None.

    Raises:
        UserError: the session is refused.
    """
    waits = isinstance(opened.step, QueueStart)
    said = None if has_words and waits else told(services, opened)
    if said is not None:
        await services.agents.journal_effects.note(tx, row, f"ladder/{row.name}/{row.launch_id}", said)
    await lease(services, tx, row, opened.plan.accounts, opened.snapshot, may_refuse=True)
    return said


# --- words -------------------------------------------------------------------------------------------------------


def told(services: WindowServices, opened: Opening) -> str | None:
    """Return the text about the start for the thread and the requester, or None if it starts as wanted."""
    faster = f"{command_line('pace')} shows the windows."
    if opened.held is not None and opened.held.leave:
        faster += f" An admin can start it as wanted with {wait_text.ways(opened.held.leave)}."
    match opened.step:
        case Downgrade(rung=rung, why=why):
            was = markdown.code(opened.wanted.model or f"the default of {opened.wanted.runtime}")
            return f"↘️ It starts with {markdown.code(str(rung))} instead of {was}: {why} {faster}"
        case QueueStart(at=at, why=why):
            when = (
                f"about {services.agents.journal_effects.time_of_day(at)}"
                if at is not None
                else "at a time that is not known yet"
            )
            return f"⏳ {why}{tried_in_words(opened.step)} There is room {when}. {faster}"
        case RefuseStart(why=why):
            return f"⛔ {why}{tried_in_words(opened.step)} {faster}"
        case _:
            return None


def tried_in_words(step: QueueStart | RefuseStart) -> str:
    """Return the part of the text about smaller models that have no capacity either; empty if none was tried."""
    if not step.tried:
        return ""
    first, *rest = (markdown.code(str(rung)) for rung in step.tried)
    if not rest:
        return f" {first} from the ladder has no room either."
    return f" Of the ladder neither {' nor '.join([first, *rest])} has room."
