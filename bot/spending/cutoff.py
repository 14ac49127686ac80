"""The `cutoff`, `restore` and `estop` commands."""

from __future__ import annotations

import asyncio
import contextlib

from bot.auth.permission import ADMIN
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.egress_client import emergency_stop
from bot.egress_client.client import EgressClient
from bot.egress_client.held_agents import used_up
from bot.messaging.background_processes import background_in_words
from bot.pacing.services import PacingServices
from bot.text.errors import NotPermitted, UserError
from bot.text.markdown import code
from bot.text.timestamps import timestamp
from core.errors import MusterError
from database.queries.agents import last_results
from egress.errors import EgressUnreachable


def outlet_of(ctx: Context[PacingServices]) -> EgressClient:
    """Return the egress client.

    Raises:
        UserError: Muster runs without an egress.
    """
    egress_client: EgressClient | None = ctx.services.egress_client
    if egress_client is None:
        raise UserError(
            "This Muster runs without an egress: nothing is metered, and no agent can be cut off.",
            code="egress.absent",
        )
    return egress_client


async def cut_off(ctx: Context[PacingServices], name: str) -> Reply:
    row = await ctx.services.agents.get(name)
    ctx.services.agents.make_sure_it_is_ours(row)
    egress_client = outlet_of(ctx)
    streams = await egress_client.deny(row.name, "cutoff", cause="", by=ctx.identity, id=ctx.run_id)
    ended = "" if not streams else f" {streams} request{'s' if streams > 1 else ''} ended in the middle."
    loose = ""
    if ctx.services.planner.sandbox_kind(row.sandbox) == "none":
        loose = " ⚠️ It runs without a sandbox: this stops only requests to Muster's address."
    left = await ctx.services.agents.left_running(name)
    text = (
        f"Nothing of {name} leaves any more.{ended} {command_line(f'restore {name}')} opens it again.{loose}"
        f"{background_in_words(name, left)}"
    )
    data = {"id": row.launch_id, "state": "cut off", "streams": streams, "background": left.count if left else 0}
    return Reply(text, data)


async def restore_agent(ctx: Context[PacingServices], name: str) -> Reply:
    services = ctx.services
    row = await services.agents.get(name)
    services.agents.make_sure_it_is_ours(row)
    changed = await outlet_of(ctx).allow(
        row.name, asked_at=ctx.asked_at, cause=f"restored by {ctx.identity}", by=ctx.identity, id=ctx.run_id
    )
    if changed:
        # The person who restores the agent has looked at it, so its use is counted from here.
        await ctx.commit("seen to", lambda tx: last_results.note(tx, name, "answer", services.clock()))
    if emergency_stop.is_pulled(services.paths.state):
        held = f"but the emergency stop holds for all: {command_line('estop --clear')} ends it"
        return Reply(f"{name} is not cut off itself, {held}.", {"id": row.launch_id, "state": "stopped"})
    text = f"{name} may go out again." if changed else f"{name} was not cut off; nothing was changed."
    if spent := used_up(await outlet_of(ctx).standing() or {}).get(name):
        scopes = ", ".join(map(code, spent))
        text += f" A budget holds it, which is used up: {scopes}. {command_line('budget set')} raises it."
    if row.wanted == "frozen":
        text += f" It is frozen: {command_line(f'resume {name}')} brings it back."
    return Reply(text, {"id": row.launch_id, "state": "open"})


async def stop_everything(ctx: Context[PacingServices], *, clear: bool) -> Reply:
    services = ctx.services
    state = services.paths.state
    if clear:
        if ctx.permission < ADMIN:
            raise NotPermitted(
                f"only an admin may end the emergency stop; you are {ctx.permission}. Ask one for "
                f"{command_line('estop --clear')}."
            )
        if (await asyncio.to_thread(emergency_stop.pulled_at, state) or 0.0) > ctx.asked_at:
            raise UserError(
                "The emergency stop was set again in the meantime, and holds. "
                f"{command_line('estop --clear')} ends it now.",
                code="estop.set",
            )
        standing = await outlet_of(ctx).standing() or {}
        held = bool(standing.get("estop")) or await asyncio.to_thread(emergency_stop.is_pulled, state)
        # The egress hears of it before the file is removed, so that its own record names the person.
        told = await _told(ctx, clear=True)
        await asyncio.to_thread(emergency_stop.release, state)
        if not held:
            return Reply("There was no emergency stop.", {"estop": False})
        return Reply(f"The emergency stop is over: agents may go out again.{_note(told)}", {"estop": False})
    try:
        new = await asyncio.to_thread(emergency_stop.pull, state, by=ctx.identity, at=str(timestamp(services.clock())))
    except UserError:
        # A running egress stops all the same, and its own reply is more reliable than the file.
        with contextlib.suppress(EgressUnreachable):
            await outlet_of(ctx).stop_all(clear=False, by=ctx.identity)
        if not (new := await asyncio.to_thread(emergency_stop.is_pulled, state)):
            raise
    told = await _told(ctx, clear=False)
    how = f"{command_line('estop --clear')} (for admins) ends it"
    if not new:
        return Reply(f"The emergency stop holds already. {how}.", {"estop": True})
    return Reply(f"Everything is stopped: no agent gets out. {how}.{_note(told)}", {"estop": True})


async def _told(ctx: Context[PacingServices], *, clear: bool) -> bool:
    """Send the emergency stop to the egress; False: it did not answer. The file is authoritative."""
    try:
        await outlet_of(ctx).stop_all(clear=clear, by=ctx.identity)
    except MusterError:
        return False
    return True


def _note(told: bool) -> str:
    return "" if told else " The egress did not answer; it looks at the file before it lets anything out."
