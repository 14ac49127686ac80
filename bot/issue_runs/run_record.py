"""The record of a run for its posts at the forge: gathered from the register, then made. The making is pure."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit

from bot.config.accounts import Account
from bot.issue_runs.configuration_version import configuration_of
from bot.issue_runs.services import IssueServices
from bot.issue_runs.turn_facts import TurnFacts, read_facts
from budget.windows.fit_check import Cost
from database.queries.agents import agents, runs
from database.queries.agents.agents import AgentRow
from database.queries.agents.runs import AgentRun
from database.queries.chat import approvals
from database.queries.chat.approvals import Approval
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun
from database.queries.operations import audit_anchors
from database.queries.spending import usage_ledger
from egress.provider_endpoints import PROVIDERS
from fleet.sandbox.profiles import JOINS
from forge.provenance import naming
from forge.provenance.operation_lines import read_line
from forge.provenance.record import (
    ProvenanceRecord,
    RecordedApproval,
    RecordedConfiguration,
    RecordedRoute,
    RunEnding,
    SecretScan,
)

_CENT: Final = Decimal("0.000001")
_SIGNALS: Final = {"done": RunEnding.SIGNALLED, "blocked": RunEnding.BLOCKED}


@dataclass(frozen=True, kw_only=True, slots=True)
class GatheredRun:
    """What the register knows of one round."""

    run: IssueRun
    round: int
    work: AgentRun | None
    agent: AgentRow | None
    answered: Sequence[Approval] = ()
    names: Mapping[str, str]
    """Public names of people, by identity."""
    is_pushed: bool
    declared: Sequence[tuple[str, str]] = ()
    """Marks of findings that people declared to be no secret, and who did."""
    turns: TurnFacts = TurnFacts()  # noqa: RUF009 - it is frozen
    reached: Sequence[tuple[str, str, str | None]] = ()
    """Provider, account and model of the requests that were answered."""
    accounts: Mapping[str, Account] = field(default_factory=dict)
    """Accounts of muster.yaml."""
    allowed: Sequence[str] = ()
    """Hosts that the sandbox may reach besides."""
    projected: Cost | None = None
    configuration: RecordedConfiguration | None = None
    audit: str | None = None
    """The digest of the newest line of the audit when the round ended."""


async def gather(
    services: IssueServices, run: IssueRun, work: AgentRun | None, *, names: Mapping[str, str]
) -> GatheredRun:
    """Read what the record of the current round says.

    Raises:
        RegisterError: the register cannot be read.
    """
    settings = services.settings
    async with services.store.read() as tx:
        agent = await agents.get(tx, run.agent)
        current = None if work is None else await runs.get(tx, work.id)
        since = run.created_at if current is None else (current.started_at or current.created_at)
        ended = _ended_at(current)
        asked = [each for each in await approvals.asked_since(tx, since, 50) if each.agent == run.agent]
        reached = await usage_ledger.answered(tx, run.agent, since=since, until=ended)
        wakes = await issue_runs.wakes(tx, run.id)
        audit = await audit_anchors.head_at(tx, services.clock() if ended is None else ended)
    folder = services.paths.agent_folder(run.agent)
    turns = TurnFacts() if current is None else await asyncio.to_thread(read_facts, folder, current.message, ended)
    forecast = None if current is None else current.forecast
    block = settings.forge
    configuration = None
    if block is not None:
        configuration = await asyncio.to_thread(
            configuration_of, settings.digest, services.paths.muster_yaml, block.kind, block.address
        )
    return GatheredRun(
        run=run,
        round=run.round,
        work=current,
        agent=agent,
        answered=[replace(each, title=services.redact(each.title)) for each in asked if each.answer is not None],
        names=names,
        is_pushed=run.pushed_sha is not None,
        declared=[
            (wake.cause.split("/")[1], wake.author) for wake in wakes if wake.cause.startswith(issue_runs.ALLOWED)
        ],
        turns=turns,
        reached=reached,
        accounts=settings.accounts,
        allowed=_allowed(services, _sandboxes(run, agent)),
        projected=None if forecast is None else Cost(tokens=forecast.tokens, usd=forecast.usd),
        configuration=configuration,
        audit=audit,
    )


async def current_record(services: IssueServices, run: IssueRun) -> ProvenanceRecord:
    """Return the record of a run's current round, as far as it is known now.

    Raises:
        RegisterError: the register cannot be read.
    """
    async with services.store.read() as tx:
        run = await issue_runs.get(tx, run.id) or run
        work = await runs.get(tx, f"{run.id}-{run.round}")
    names = {} if services.forge is None else services.forge.settings.names
    return record_of(await gather(services, run, work, names=names))


def record_of(gathered: GatheredRun) -> ProvenanceRecord:
    """Return the record of a round."""
    run, work, agent = gathered.run, gathered.work, gathered.agent
    began = run.created_at if work is None else (work.started_at or work.created_at)
    ended = _ended_at(work)
    models = tuple(dict.fromkeys(filter(None, (model for _, _, model in gathered.reached))))
    if not models and agent is not None and agent.model_answering:
        models = (agent.model_answering,)
    projected = gathered.projected
    usd = None if work is None or work.usd is None else _usd(work.usd)
    return ProvenanceRecord(
        agent=run.agent,
        role=run.role,
        runtime="unknown" if agent is None else agent.runtime,
        runtime_version=gathered.turns.runtime_version,
        models=models,
        sandboxes=_sandboxes(run, agent),
        run=f"{run.id}-{gathered.round}",
        session=gathered.turns.session,
        started=datetime.fromtimestamp(began, UTC),
        duration_s=None if ended is None else max(0, int(ended - began)),
        exit=_exit(gathered.turns, work),
        turns=gathered.turns.turns,
        tokens_projected=None if projected is None else int(projected.tokens),
        cost_projected=None if projected is None or projected.usd is None else _usd(projected.usd),
        tokens_actual=None if work is None or work.tokens is None else int(work.tokens),
        cost_actual=usd,
        secret_scan=_scan(gathered),
        ending=_ending(run, work),
        operations=tuple(filter(None, map(read_line, run.operations))),
        routes=_routes(gathered),
        approvals=(
            *(_approval(each, gathered.names) for each in gathered.answered),
            *(
                RecordedApproval(request=f"no secret: {mark}", by=naming.public_name(by, gathered.names))
                for mark, by in gathered.declared
            ),
        ),
        configuration=gathered.configuration,
        audit=gathered.audit,
    )


def _scan(gathered: GatheredRun) -> SecretScan:
    """Return what the search found. Nothing is pushed that was not searched, or in which a person did not allow it."""
    if not gathered.is_pushed:
        return SecretScan.NOT_RUN
    return SecretScan.FOUND if gathered.declared else SecretScan.CLEAN


def _ending(run: IssueRun, work: AgentRun | None) -> RunEnding:
    if run.signal is not None:
        return _SIGNALS.get(str(run.signal.get("status")), RunEnding.FAILED)
    is_at_work = run.state == "running" and (work is None or work.state in runs.OPEN)
    return RunEnding.WORKING if is_at_work else RunEnding.WATCHDOG


def _exit(turns: TurnFacts, work: AgentRun | None) -> str | None:
    if turns.exit is None and work is not None and work.state == "failed" and turns.is_cut:
        return "agent died"
    return turns.exit


def _ended_at(work: AgentRun | None) -> float | None:
    return None if work is None else work.turn_ended_at or work.ended_at


def _usd(amount: float) -> Decimal:
    return Decimal(amount).quantize(_CENT)


def _sandboxes(run: IssueRun, agent: AgentRow | None) -> tuple[str, ...]:
    return tuple(run.sandboxes) if agent is None else tuple(agent.sandbox.split(JOINS))


def _allowed(services: IssueServices, sandboxes: Sequence[str]) -> tuple[str, ...]:
    """Return the hosts that the sandbox profiles let an agent reach, without ports."""
    known = services.planner.profiles
    routes = (route for name in sandboxes if name in known for route in known[name].routes)
    return tuple(dict.fromkeys(route.partition(":")[0] for route in routes))


def _routes(gathered: GatheredRun) -> tuple[RecordedRoute, ...]:
    """Return providers with the kind of their credential, and then what the sandbox may reach without one."""
    made = []
    for provider, name, _ in gathered.reached:
        account = gathered.accounts.get(name)
        if account is None or account.provider != provider:
            # Its address is not known any more.
            made.append(RecordedRoute(host=provider))
            continue
        address = account.upstream or PROVIDERS[account.provider].upstream
        kind = "subscription" if account.kind == "subscription" or account.passthrough else "api key"
        host = naming.public_host(urlsplit(address).hostname or "")
        made.append(RecordedRoute(host=host, authentication=kind))
    made += [RecordedRoute(host=naming.public_host(host.removeprefix("*."))) for host in gathered.allowed]
    return tuple(dict.fromkeys(made))


def _approval(approval: Approval, names: Mapping[str, str]) -> RecordedApproval:
    answer = approval.answer or {}
    by = str(answer.get("by", ""))
    # A request without a person's name was answered by Muster itself, such as when its time was over.
    who = "Muster" if by in ("", "muster") else naming.public_name(by, names)
    denied = answer.get("option") is None or answer.get("choice") == "deny"
    return RecordedApproval(request=f"{approval.title} (denied)" if denied else approval.title, by=who)
