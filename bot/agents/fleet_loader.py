"""Gathers what `ps`, `watch` and dashboards show of agents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Literal

from bot.agents import not_started
from bot.messaging.fleet_port import AgentView
from bot.read_models.fleet import AgentGate, FleetAgent, FleetModel
from bot.read_models.provenance import Provenance
from bot.spending import gates, spend_query
from bot.tasks.services import TaskServices
from database.queries.agents import runs, session_accounts
from database.queries.agents.runs import run_of
from fleet.runtimes import RUNTIMES
from fleet.supervision.health_findings import HealthFinding

#: Differences between an agent of the register and the roster.
_DRIFT: Final[Mapping[str, Literal["not_in_roster", "changed"]]] = {"unrostered": "not_in_roster", "changed": "changed"}


async def load(
    services: TaskServices, *, drift: Callable[[], Awaitable[Sequence[HealthFinding]]] | None = None
) -> FleetModel:
    """Return all agents.

    Args:
        services: the services.
        drift: returns the differences between the roster, the register and the running agents; None leaves them out.

    Raises:
        RegisterError: the register cannot be used.
    """
    views, closed, used, accounts, marks = await asyncio.gather(
        services.agents.view(),
        gates.load(services),
        spend_query.tokens_today(services),
        _accounts(services),
        _colors(services),
    )
    blocked = await not_started.blocked(services, {view.row.name for view in views})
    unable = {each.name for each in blocked}
    found = [each for each in await drift() if each.agent not in unable] if drift is not None else []
    aliases = services.roster.aliases
    differing = {each.agent: each for each in found}
    return FleetModel(
        agents=tuple(
            _agent(
                services,
                view,
                alias=aliases.get(view.row.name),
                accounts=accounts.get(view.row.name, {}),
                tokens_today=None if used is None else used.get(view.row.name, 0),
                gate=None if closed is None or view.elsewhere else closed.of(view.row.name),
                finding=differing.get(view.row.name),
                colors=marks,
            )
            for view in views
        ),
        blocked=tuple(blocked),
        missing=tuple(each.agent for each in found if each.kind == "missing"),
        strays=tuple(each.agent for each in found if each.kind == "stray"),
        estop=None if closed is None else closed.estop,
    )


async def _accounts(services: TaskServices) -> Mapping[str, Mapping[str, str]]:
    async with services.store.read(snapshot=False) as tx:
        return await session_accounts.by_agent(tx)


async def _colors(services: TaskServices) -> Mapping[str, str | None]:
    async with services.store.read(snapshot=False) as tx:
        return await runs.colors(tx)


async def load_agent(services: TaskServices, name: str, *, briefly: bool = False) -> FleetAgent:
    """Return one agent, without drift.

    Args:
        services: the services.
        name: the agent.
        briefly: leave out today's use and the gate, which ask the egress.

    Raises:
        UserError: there is no such agent.
        RegisterError: the register cannot be used.
    """
    view = await services.agents.view_of(name)
    used = None if briefly else await spend_query.tokens_today(services)
    closed = None if briefly else await gates.load(services)
    async with services.store.read() as tx:
        accounts = await session_accounts.of_agent(tx, name)
    return _agent(
        services,
        view,
        alias=services.roster.aliases.get(name),
        accounts=accounts,
        tokens_today=None if used is None else used.get(name, 0),
        gate=None if closed is None or view.elsewhere else closed.of(name),
        colors=await _colors(services),
    )


def _agent(
    services: TaskServices,
    view: AgentView,
    *,
    alias: str | None,
    accounts: Mapping[str, str],
    tokens_today: int | None,
    gate: AgentGate | None,
    finding: HealthFinding | None = None,
    colors: Mapping[str, str | None],
) -> FleetAgent:
    row, status, liveness = view.row, view.status, view.liveness
    runtime = RUNTIMES.get(row.runtime)
    run = run_of(row.launch_id)
    return FleetAgent(
        name=row.name,
        alias=alias,
        role=row.role,
        runtime=row.runtime,
        model=row.model,
        model_answering=row.model_answering,
        wanted=row.wanted,
        state=liveness.state,
        seen=Provenance(source=liveness.evidence, at=liveness.evidence_at),
        detail=liveness.detail or row.detail,
        detail_since=liveness.detail_since,
        activity=view.activity,
        activity_since=view.activity_since,
        wait=view.wait,
        session=None if status is None else status.session,
        turns=None if status is None else status.turns,
        turn_started_at=None if status is None else status.turn_started_at,
        queued=view.queued,
        sandbox=row.sandbox,
        unconfined=services.planner.sandbox_kind(row.sandbox) == "none",
        never_asks=runtime is not None and not runtime.asks,
        workspace=row.workspace,
        host=row.host,
        tenant_id=row.tenant_id,
        started_at=row.started_at,
        tries_at=view.tries_at,
        tokens_today=tokens_today,
        accounts=accounts,
        gate=gate,
        drift=_DRIFT.get(finding.kind) if finding is not None else None,
        run=run,
        color=None if run is None else colors.get(run),
        elsewhere=view.elsewhere,
    )
