"""Implementation of the commands about the roster. `bot.agents.roster.view` formats their replies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.launch import request_of, room_for, warnings_of
from bot.agents.restart import settings_of
from bot.agents.roster import view as roster_view
from bot.agents.services import AgentServices
from bot.auth.permission import ADMIN
from bot.commands.agent_lock import custody
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line, from_shell
from bot.config.loader import Check
from bot.setup import systemd_units
from bot.text.errors import NotPermitted, UserError
from bot.text.markdown import code
from core.validation_errors import suggestion, there_are
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from fleet import roles
from fleet.errors import FleetError
from fleet.launch.launch_plan import DEFAULT_ROLE
from fleet.roster import drift, edit
from fleet.roster.drift import RosterChange
from fleet.roster.loader import Roster
from fleet.roster.schema import MINIMAL, AgentEntry
from fleet.sandbox.profiles import unknown

#: Maximum number of names listed in an error.
_NAMED = 20


async def checked(services: AgentServices) -> Check:
    """Return the check of both current files. Problems of muster.yaml do not count as the roster's."""
    from bot.config.loader import check

    return await asyncio.to_thread(check, services.paths)


async def usable(services: AgentServices) -> Roster:
    """Return the current roster.

    Raises:
        UserError: the roster has problems; the message says which and where.
    """
    found = await checked(services)
    if (said := roster_view.problems(found)) or found.roster is None:
        raise UserError(
            "The roster is not applied until this is fixed:\n" + "\n".join(f"- {line}" for line in said),
            code="roster.invalid",
        )
    return found.roster


# --- looking -----------------------------------------------------------------------------------------------------


async def look(ctx: Context[AgentServices]) -> Reply:
    services = ctx.services
    found = await checked(services)
    fleet = found.roster or Roster()
    views = {view.row.name: view for view in await services.agents.view()}
    changes = _drift(fleet, [view.row for view in views.values()]) if found.roster is not None else []
    text = roster_view.text(found.roster, views, changes, roster_view.problems(found))
    return Reply(
        services.redact(from_shell(text, services.table)),
        roster_view.as_json(services.paths.roster_yaml, fleet, views, changes, found),
    )


def _drift(fleet: Roster, rows: Iterable[AgentRow]) -> list[RosterChange]:
    # The agents of topics are no roster agents, so the roster stops none of them.
    return drift.changes((row for row in rows if row.purpose is None), {entry.name: entry for entry in fleet.agents})


async def show_roles(ctx: Context[AgentServices], name: str | None) -> Reply:
    library = await asyncio.to_thread(roles.library, ctx.services.paths.roles)
    if name is None:
        return Reply(roster_view.roles_text(library), [roster_view.role_as_json(role) for role in library])
    role = library.get(name.strip().casefold())
    if role is None:
        word = name.strip()[:40]
        raise UserError(f"N{roles.unknown(word, library.names)[1:]}.", code="role.unknown")
    return Reply(roster_view.role_text(role), {**roster_view.role_as_json(role), "page": role.page})


# --- changing ----------------------------------------------------------------------------------------------------


async def add_agent(
    ctx: Context[AgentServices], name: str, entry: Mapping[str, Any], *, instead_of: str | None
) -> Reply:
    services = ctx.services
    for key, why in (
        ("sandbox", "An agent without a sandbox acts as the person who runs Muster"),
        ("workspace", "A workspace opens a folder of the person who runs Muster to an agent"),
    ):
        confined = key == "sandbox" and services.planner.sandbox_kind(str(entry[key])) != "none"
        if key == "sandbox" and entry[key] is not None and entry[key] not in services.planner.profiles:
            raise UserError(unknown(str(entry[key]), services.planner.profiles), code="sandbox.unknown")
        if entry[key] is not None and not confined and ctx.permission < ADMIN:
            raise NotPermitted(f"{why}, so only an admin says --{key}; you are {ctx.permission}. Leave it out.")
    account, accounts = entry["account"], services.settings.accounts
    if account is not None and account not in accounts:
        known = f"{there_are(list(accounts))}." if accounts else "muster.yaml has none."
        raise UserError(f"No account is called {account!r}. {known}", code="account.unknown")
    wanted = {"name": name, **{key: value for key, value in entry.items() if value is not None}}
    before = await ctx.once("before", lambda: _standing(services, name))
    if before is not None:
        return _added_before(name, wanted, before)
    try:
        await asyncio.to_thread(edit.add_agent, services.paths.roster_yaml, wanted, instead_of=instead_of)
        fleet = await asyncio.to_thread(services.planner.read_roster)
    except FleetError as error:
        raise UserError(str(error), code=error.code) from error
    written = fleet.get(name)
    role = (written.role if written is not None else None) or DEFAULT_ROLE
    comes = "comes up whenever Muster starts, and now" if written is not None and written.persistent else "starts"
    left = None
    if instead_of is not None:
        async with custody(ctx, instead_of, "add") as held:
            left = await _leave(held, instead_of, now=False)
    stopped = f" {instead_of} is no longer in it.{left or ''}" if instead_of is not None else ""
    note = " This roster is a minimal one, so nobody else is needed." if fleet.preset == MINIMAL else ""
    text = f"{name} ({role}) is in the roster. It {comes} by {command_line(f'launch {name}')}.{stopped}{note}"
    text += await _settle_units(services, fleet)
    return Reply(text, {"name": name, "added": True, "role": role, "replaced": instead_of})


async def _settle_units(services: AgentServices, fleet: Roster) -> str:
    """Install the systemd units of the roster's agents, and remove all others. Return warnings about failures."""
    refused = await asyncio.to_thread(systemd_units.settle, services.paths, fleet.agents)
    return "".join(f"\n\n⚠️ {services.redact(line)}" for line in refused)


async def _standing(services: AgentServices, name: str) -> dict[str, Any] | None:
    """Return the current entry of that name in roster.yaml, or None."""
    try:
        fleet = await asyncio.to_thread(services.planner.read_roster)
    except FleetError as error:
        raise UserError(str(error), code=error.code) from error
    entry = fleet.get(name)
    return None if entry is None else roster_view.entry_as_json(entry)


def _added_before(name: str, wanted: Mapping[str, Any], standing: Mapping[str, Any]) -> Reply:
    """Answer for an agent that is in the roster already: an identical entry succeeds, a different one is refused."""
    edit.check_entry(wanted)
    asked = roster_view.entry_as_json(AgentEntry.model_validate(wanted))
    other = [f"{key} {standing.get(key)}" for key in wanted if standing.get(key) != asked[key]]
    if other:
        raise UserError(
            f"{name} is in the roster already, with {', '.join(other)}. Nothing was changed: edit roster.yaml, and "
            f"{command_line('roster apply')} applies it.",
            code="agent.exists",
        )
    data = {"name": name, "added": False, "role": standing.get("role") or DEFAULT_ROLE, "replaced": None}
    return Reply(f"{name} is in the roster already; nothing was changed.", data)


async def remove_agent(ctx: Context[AgentServices], name: str, *, now: bool) -> Reply:
    async with custody(ctx, name, "remove") as held:
        return await _remove(held, name, now=now)


async def check_known(services: AgentServices, name: str) -> None:
    """Check that there is such an agent, in the roster or in the register.

    Raises:
        UserError: there is none.
    """
    async with services.store.read() as tx:
        row = await agents.get(tx, name)
    if row is None and await _standing(services, name) is None:
        raise await _unknown(services, name)


async def _unknown(services: AgentServices, name: str) -> UserError:
    fleet = await asyncio.to_thread(services.planner.read_roster)
    names = [entry.name for entry in fleet.agents]
    there = f"{there_are(names[:_NAMED])}." if names else "The roster is empty."
    return UserError(f"No agent of the roster is called {name!r}.{suggestion(name, names)} {there}")


async def _remove(ctx: Context[AgentServices], name: str, *, now: bool) -> Reply:
    services = ctx.services
    known = await ctx.once("before", lambda: _standing(services, name))
    async with services.store.read() as tx:
        row = await agents.get(tx, name)
    if known is None and row is None:
        raise await _unknown(services, name)
    try:
        await asyncio.to_thread(edit.remove_agent, services.paths.roster_yaml, name)
        fleet = await asyncio.to_thread(services.planner.read_roster)
    except FleetError as error:
        raise UserError(str(error), code=error.code) from error
    stops = await _leave(ctx, name, now=now)
    unsettled = await _settle_units(services, fleet)
    gone = f"{name} is no longer in the roster." if known is not None else f"{name} was not in the roster."
    data = {"name": name, "removed": known is not None, "state": "stopping" if stops else "stopped"}
    return Reply(f"{gone}{stops or ''}{unsettled}", data)


async def _leave(ctx: Context[AgentServices], name: str, *, now: bool) -> str | None:
    """Stop an agent that left the roster. Return a report, or None if it does not run."""
    services = ctx.services
    async with services.store.read() as tx:
        row = await agents.get(tx, name)
    if row is None or (row.wanted != "running" and row.state in drift.ENDED):
        return None

    async def stop(tx: AsyncConnection) -> None:
        await services.agents.desired_states.stop(tx, row, now=now)

    await ctx.commit(f"leave/{name}", stop)
    services.agents.look_again(name)
    when = "when its turn ends" if services.agents.in_turn(name) and not now else "now"
    return f" {name} stops {when}; its workspace is kept: {code(row.workspace)}."


# --- applying ----------------------------------------------------------------------------------------------------


async def apply(ctx: Context[AgentServices]) -> Reply:
    services = ctx.services
    fleet = await usable(services)
    reloaded = await services.reload()
    settings = {"changed": list(reloaded.changed), "waiting": list(reloaded.waiting), "problem": reloaded.problem}
    rows = {view.row.name: view.row for view in await services.agents.view()}
    found = {change.agent: change for change in _drift(fleet, rows.values())}

    async def seen() -> list[dict[str, Any]]:
        return [roster_view.change_as_json(change) for change in found.values()]

    unsettled = await _settle_units(services, fleet)
    done: list[dict[str, Any]] = []
    # A run that continues after a crash reports all changes it set out to make, although some are already applied.
    for change in await ctx.once("changes", seen):
        said, problem = "done", None
        if (still := found.get(change["agent"])) is not None:
            try:
                async with custody(ctx, still.agent, "roster apply") as held:
                    said = await _apply_one(held, still, rows.get(still.agent))
            except (FleetError, UserError) as error:
                said, problem = f"✖ It stays as it is: {error}", str(error)
        done.append({**change, "said": said, "done": problem is None, "problem": problem})
    told = f"\n\n{said}" if (said := reloaded.text()) else ""
    well = reloaded.problem is None
    if not done:
        nothing = "" if reloaded.changed else "; nothing was changed"
        text = f"The fleet is as the roster says{nothing}.{told}{unsettled}"
        return Reply(text, {"changes": [], "settings": settings}, ok=well)
    text = services.redact(from_shell(roster_view.applied_text(done), services.table)) + told + unsettled
    data = [{key: value for key, value in each.items() if key != "said"} for each in done]
    return Reply(text, {"changes": data, "settings": settings}, ok=well and all(each["done"] for each in done))


async def _apply_one(ctx: Context[AgentServices], change: RosterChange, row: AgentRow | None) -> str:
    """Apply one change, and return a report.

    Raises:
        FleetError: the change is not possible, and was not applied.
        UserError: the change is not possible, and was not applied.
    """
    if change.kind == "stop":
        return (await _leave(ctx, change.agent, now=False) or "It does not run.").strip()
    if row is None:
        return await _launch(ctx, change.agent)
    return await _restart(ctx, row)


async def _restart(ctx: Context[AgentServices], row: AgentRow) -> str:
    services = ctx.services
    plan = await asyncio.to_thread(services.planner.replan, row)

    async def act(tx: AsyncConnection) -> None:
        await services.agents.desired_states.restart(
            tx, row, run_id=f"{ctx.run_id}-{row.name}", by=ctx.identity, now=False, settings=settings_of(plan)
        )

    await ctx.commit(f"restart/{row.name}", act)
    services.agents.look_again(row.name)
    return f"It restarts {'when its turn ends' if services.agents.in_turn(row.name) else 'now'}.{warnings_of(plan)}"


async def _launch(ctx: Context[AgentServices], name: str) -> str:
    services = ctx.services
    plan = await asyncio.to_thread(services.planner.plan, name, {})
    connector, room = await room_for(ctx, plan, here=False)
    request = request_of(plan, by=ctx.identity, connector=connector, room=room)

    async def act(tx: AsyncConnection) -> None:
        await services.agents.desired_states.launch(tx, request, run_id=f"{ctx.run_id}-{name}")

    await ctx.commit(f"launch/{name}", act)
    services.agents.look_again(name)
    return f"It starts in its thread.{warnings_of(plan)}"
