"""The commands about runs: what they check, and what they write into the register."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.launch import check_place, room_for
from bot.auth.permission import ADMIN
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.runs import beginning, issue_loader, issue_view, loader, run_lookup, view
from bot.runs import text as run_text
from bot.runs.model import RunSettings, asked_by_name
from bot.runs.services import RunServices
from bot.text import markdown
from bot.text.errors import NotPermitted, UsageError, UserError
from budget.amounts import read_tokens
from core.validation_errors import suggestion
from database.queries.agents import agents, runs
from database.queries.agents.agents import AgentRow
from database.queries.agents.runs import AgentRun
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun
from fleet.errors import FleetError
from fleet.name_rules import is_agent_name
from fleet.roster.loader import Roster
from fleet.sandbox.profiles import JOINS

#: Maximum number of characters of a prompt, as of a task. A longer text belongs in a file of the workspace.
LONGEST: Final = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """A run as it was asked for, before its agent has a name."""

    base: str
    """The name that its agent gets unless it is taken."""
    role: str
    settings: RunSettings
    connector: str
    room: str
    resumes: bool = False


async def begin_run(
    ctx: Context[RunServices],
    target: str | None,
    *,
    prompt: str,
    resume: str | None,
    name: str | None,
    color: str | None,
    asked: Mapping[str, str | None],
    budget: str | None,
    timeout: float | None,
) -> Reply:
    """Queue a run, after everything was checked that can be known before.

    Raises:
        UserError: it cannot begin; the message says why, and nothing was begun.
    """
    if not prompt.strip():
        raise UsageError("The prompt is empty. Give --prompt TEXT, or in a shell --prompt - and the text as input.")
    if len(prompt) > LONGEST:
        raise UserError(
            f"The prompt has {len(prompt):,} characters; at most {LONGEST:,} are allowed. Put it into a file of the "
            "workspace, and name the file.",
            code="run.prompt_too_long",
        )
    if timeout is not None and timeout <= 0:
        raise UsageError("--timeout must be longer than 0, such as 30m.")
    given = {key: value for key, value in asked.items() if value is not None}
    if budget is not None:
        given["budget"] = _tokens(ctx.services, budget)
    if resume is not None:
        if target is not None or name is not None or any(key != "budget" for key in given):
            raise UsageError("--resume keeps what the agent has: leave ROLE-OR-AGENT, --name and its settings out.")
        wanted = await _frozen(ctx, resume, given)
    elif target is None:
        raise UsageError("ROLE-OR-AGENT is missing: name a role, an agent of the roster, or --resume NAME.")
    else:
        wanted = await _new(ctx, target, name, given)
    return await _queue(ctx, wanted, prompt=prompt, color=color, timeout=timeout)


def _tokens(services: RunServices, budget: str) -> str:
    """Return a budget as a number of tokens.

    Raises:
        UserError: it is none, or there is no egress that could keep it.
    """
    if services.egress_client is None:
        raise UserError("--budget needs the egress, which this Muster runs without.", code="egress.absent")
    try:
        return str(read_tokens(budget))
    except ValueError as error:
        raise UsageError(f"--budget: {error}") from None


async def _frozen(ctx: Context[RunServices], name: str, given: Mapping[str, str]) -> _Wanted:
    row = await ctx.services.agents.get(name)
    await _check_frozen(ctx, row)
    try:
        await asyncio.to_thread(ctx.services.planner.as_it_is, row)
    except FleetError as error:
        raise UserError(f"{name} stays frozen: {error}", code=error.code) from error
    settings = RunSettings(asked=dict(given), of_roster=row.purpose is None)
    return _Wanted(base=name, role=row.role, settings=settings, connector=row.connector, room=row.room, resumes=True)


async def _check_frozen(ctx: Context[RunServices], row: AgentRow) -> None:
    ctx.services.agents.make_sure_it_is_ours(row)
    async with ctx.services.store.read() as tx:
        under_way = await runs.open_ones(tx, agent=row.name)
    if under_way:
        raise UserError(
            f"{row.name} is in run {markdown.code(under_way[0].id)} already. Wait for it, or end it with "
            f"{command_line(f'runs stop {under_way[0].id}')}; nothing was begun.",
            code="run.open",
        )
    if row.wanted != "frozen":
        way = f"send {row.name} TEXT" if row.wanted == "running" else f"launch {row.name} --task TEXT"
        raise UserError(
            f"{row.name} is not frozen ({row.state}), so there is nothing to resume. {command_line(way)} gives it the "
            "prompt; nothing was begun.",
            code="agent.not_frozen",
        )


async def _new(ctx: Context[RunServices], target: str, name: str | None, given: dict[str, str]) -> _Wanted:
    services = ctx.services
    if JOINS in given.get("sandbox", "") and ctx.permission < ADMIN:
        raise NotPermitted(
            f"several sandbox profiles together could allow what none of them does, so only an admin joins them; you "
            f"are {ctx.permission}. Name one, or ask an admin to write one that extends them."
        )
    roster, known = await asyncio.to_thread(_roster_and_roles, services)
    wanted = target.casefold()
    entry = roster.get(wanted)
    async with services.store.read() as tx:
        row = await agents.get(tx, wanted) if is_agent_name(wanted) else None
    if entry is None and wanted not in known:
        _refuse_target(target, row, [*known, *(each.name for each in roster.agents)], known)
    base = name or wanted
    of_roster = entry is not None and base == wanted and (row is None or _is_free(row))
    if not of_roster:
        given = {**asked_by_name(wanted, entry), **given}
    workspace = given.get("workspace")
    placed = entry is not None and workspace == entry.workspace
    await check_place(ctx, base, sandbox=given.get("sandbox"), workspace=None if placed else workspace)
    async with services.store.read() as tx:
        in_roster = [each.name for each in roster.agents]
        called = base if of_roster else await beginning.fresh_name(tx, services, base, in_roster)
    try:
        plan = await asyncio.to_thread(services.planner.plan, called, given)
    except FleetError as error:  # nothing was begun
        raise UserError(str(error), code=error.code) from error
    connector, room = await room_for(ctx, plan, here=ctx.door == "chat")
    settings = RunSettings(asked=given, of_roster=of_roster)
    return _Wanted(base=base, role=plan.role, settings=settings, connector=connector, room=room)


def _roster_and_roles(services: RunServices) -> tuple[Roster, list[str]]:
    try:
        return services.planner.read_roster(), services.planner.roles().names
    except FleetError as error:
        raise UserError(str(error), code=error.code) from error


def _is_free(row: AgentRow) -> bool:
    """Return whether an agent of the roster can begin something."""
    return row.purpose is None and row.wanted != "frozen" and (row.wanted == "stopped" or row.state == "failed")


def _refuse_target(target: str, row: AgentRow | None, names: Sequence[str], known: Sequence[str]) -> NoReturn:
    if row is not None:
        resume = command_line(f"run --resume {row.name} --prompt TEXT")
        raise UserError(
            f"{row.name} is no agent of the roster. {resume} goes on with it once it is frozen; nothing was begun.",
            code="run.not_in_roster",
        )
    raise UserError(
        f"No role and no agent is called {markdown.one_line(target, 40)!r}.{suggestion(target.casefold(), names)} "
        f"There are the roles {', '.join(known)}; nothing was begun.",
        code="run.unknown_target",
    )


async def _queue(
    ctx: Context[RunServices], wanted: _Wanted, *, prompt: str, color: str | None, timeout: float | None
) -> Reply:
    """Add a run to the register, once per command."""
    services = ctx.services
    in_roster = [each.name for each in (await asyncio.to_thread(_roster_and_roles, services))[0].agents]

    async def act(tx: AsyncConnection) -> dict[str, str]:
        run_id = await _new_id(tx, ctx.run_id)
        keeps = wanted.resumes or wanted.settings.of_roster
        if keeps and (others := await runs.open_ones(tx, agent=wanted.base)):
            raise UserError(
                f"{wanted.base} is in run {markdown.code(others[0].id)} already; nothing was begun.", code="run.open"
            )
        agent = wanted.base if keeps else await beginning.fresh_name(tx, services, wanted.base, in_roster)
        now = services.clock()
        run = AgentRun(
            id=run_id,
            source=ctx.door,
            agent=agent,
            role=wanted.role,
            prompt=prompt,
            settings=wanted.settings.to_json(),
            color=color,
            resumes=wanted.resumes,
            asked_by=ctx.identity,
            connector=wanted.connector,
            room=wanted.room,
            state="queued",
            message=f"run-{run_id}-prompt",
            timeout_s=timeout,
            deadline=None if timeout is None else now + timeout,
            created_at=now,
        )
        await runs.add(tx, run)
        return {"id": run_id, "state": "queued", "agent": agent, "text": run_text.begun(run, wanted.base)}

    done = dict(await ctx.commit("run", act))
    services.runs.wake()
    return Reply(done.pop("text"), done)


async def _new_id(tx: AsyncConnection, cause: str) -> str:
    """Return an unused id, derived from the id of the request."""
    salt = 0
    while True:
        found = hashlib.blake2s(f"run\0{cause}\0{salt}".encode(), digest_size=4).hexdigest()
        if await runs.get(tx, found) is None:
            return found
        salt += 1


# --- those that there are ----------------------------------------------------------------------------------------


async def show(ctx: Context[RunServices], wanted: str | None) -> Reply:
    """Show all runs, or one."""
    services = ctx.services
    now = services.clock()
    if wanted is None:
        model = await loader.load(services)
        return Reply(view.runs_text(model, now, services.redact), view.runs_json(model, services.redact))
    async with services.store.read() as tx:
        found = await run_lookup.find(tx, wanted)
        if isinstance(found, IssueRun):
            (issue,) = await issue_loader.lines(services, tx, [found])
            return Reply(
                issue_view.issue_text(issue, now, services.redact), issue_view.issue_json(issue, services.redact)
            )
    line = loader.line(found)
    return Reply(view.run_text(line, now, services.redact), view.run_json(line, services.redact))


async def retry(ctx: Context[RunServices], wanted: str) -> Reply:
    """Queue a run with the prompt and the settings of an earlier one."""
    async with ctx.services.store.read() as tx:
        run = await run_lookup.find(tx, wanted)
    owner = ctx.services.run_owner
    if owner is not None and (done := await owner.retry(ctx, run.id)) is not None:
        return done
    if isinstance(run, IssueRun):
        raise UserError(
            "muster.yaml names no forge, so the run of an issue cannot go on; nothing was begun.", code="forge.absent"
        )
    if run.state in runs.OPEN:
        raise UserError(f"Run {markdown.code(run.id)} has not ended; nothing was begun.", code="run.open")
    settings = RunSettings.from_json(run.settings)
    asked = dict(settings.asked)
    if run.resumes:
        again = await _frozen(ctx, run.agent, asked)
    elif settings.of_roster:
        again = await _new(ctx, run.agent, None, asked)
    else:
        # A name that ends in a number was given for want of a free one.
        again = await _new(ctx, asked.pop("role", run.role), run.agent, asked)
    return await _queue(ctx, again, prompt=run.prompt, color=run.color, timeout=run.timeout_s)


async def stop(ctx: Context[RunServices], wanted: str) -> Reply:
    """End a run that has not ended."""
    services = ctx.services
    async with services.store.read() as tx:
        found = await run_lookup.find(tx, wanted)
        waits = isinstance(found, IssueRun) and found.state == "queued" and not found.is_held
        work = None if waits else await run_lookup.find_work(tx, found.id)
    if work is None:
        return await _take_off(ctx, cast("IssueRun", found))
    run = work

    async def act(tx: AsyncConnection) -> bool:
        return await services.runs.decide(tx, run, "stopped", f"{ctx.identity} stopped it.")

    if not await ctx.commit("stop", act):
        async with services.store.read() as tx:
            run = await run_lookup.find_work(tx, run.id)
        over = "ends already" if run.state in runs.OPEN else f"is over ({run.state})"
        raise UserError(f"Run {markdown.code(run.id)} {over}; nothing was changed.", code="run.over")
    services.runs.after(run)
    frozen = f" {run.agent} is frozen." if run.state == "running" else ""
    return Reply(f"Run {markdown.code(run.id)} is stopped.{frozen}", {"id": run.id, "state": "stopped"})


async def _take_off(ctx: Context[RunServices], run: IssueRun) -> Reply:
    """Keep the run of an issue from beginning until somebody puts it back."""
    detail = f"{ctx.identity} took it off the queue."

    async def act(tx: AsyncConnection) -> None:
        if not await issue_runs.change(tx, run.id, only=["queued"], detail=detail):
            raise UserError(f"Run {markdown.code(run.id)} waits no more; nothing was changed.", code="run.over")

    await ctx.commit("take off", act)
    back = command_line(f"runs retry {run.id}")
    return Reply(
        f"{markdown.code(run.reference)} is taken off the queue. {back} puts it back.", {"id": run.id, "state": "held"}
    )
