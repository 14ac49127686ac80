"""The `budget authorize` command: permission to spend faster than the pace, for a time and up to an amount.

An authorization lifts the pace by its amount for all work of the scope. It lifts the limit itself only for critical
tasks and at the egress. Use ahead of the pace consumes it, and it expires by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.pacing.services import PacingServices
from bot.pacing.window_inputs import authorization_of
from bot.text import amount_input, markdown, timestamps
from bot.text.errors import UsageError, UserError
from bot.text.timestamps import timestamp
from budget import amounts
from budget.scope_names import shown_scope
from budget.windows.pace_admission import WindowState, worth
from database.queries.spending import pacing_windows
from database.queries.spending.pacing_windows import AuthorizationRow

#: Default, maximum and minimum duration of an authorization in seconds.
LASTS_S = 86_400.0
LONGEST_S = 31 * 86_400.0
SHORTEST_S = 60.0


async def authorize(ctx: Context[PacingServices], scope: str, amount: str, for_s: float | None) -> Reply:
    from bot.spending.scopes import known_scope

    services = ctx.services
    scope = await known_scope(scope, services)
    if scope == "agent":
        raise UsageError(
            "An authorization is for one agent, not for each agent: write agent:NAME. Nothing was authorized."
        )
    if amount_input.is_nothing(amount):
        return await _take_back(ctx, scope)
    count, unit = amount_input.read(amount)
    lasts = LASTS_S if for_s is None else for_s
    if not SHORTEST_S <= lasts <= LONGEST_S:
        raise UsageError("It can be authorized for one minute up to 31 days. Nothing was authorized.")
    now = services.clock()
    row = AuthorizationRow(
        id=hashlib.sha256(f"authorization {ctx.run_id}".encode()).hexdigest()[:8],
        scope=scope,
        unit=unit,
        amount=count,
        granted_by=ctx.identity,
        granted_at=now,
        until=now + lasts,
    )
    snapshot = await services.pace.snapshot()
    windows = [each for each in snapshot.standings.values() if each.window.scope == scope]
    _check(row, windows)

    async def give(tx: AsyncConnection) -> float:
        # A run that resumes after a crash finds the authorization that it already granted.
        if await pacing_windows.authorize(tx, row):
            return row.until
        return next((each.until for each in await pacing_windows.live(tx) if each.id == row.id), row.until)

    # The lines are redrawn first: after a crash, use from here on still counts toward the authorization.
    await services.pace.redraw("authorization", scope=scope)
    until = await ctx.commit("authorize", give)
    note = await _told(ctx)
    zone = services.settings.timezone
    over = [each for each in windows if not each.window.is_quota]
    beyond = (
        " Beyond the limit itself, it applies only to critical tasks and to what the egress admits."
        if over
        else " A provider's window is never exceeded."
    )
    text = (
        f"⚖️ {markdown.code(shown_scope(scope))} may spend {amounts.amount(count, unit)} faster than its pace, until "
        f"{timestamps.shown(until, zone, now)} ({zone.key}) or until that is used up.{beyond} "
        f"{command_line(f'budget authorize {shown_scope(scope)} 0')} revokes it.{note}"
    )
    return Reply(text, as_json(row, until=until))


def as_json(row: AuthorizationRow, *, until: float | None = None) -> dict[str, Any]:
    """Return an authorization as JSON."""
    return {
        "id": row.id,
        "scope": row.scope,
        "unit": row.unit,
        "amount": row.amount,
        "drawn": round(row.drawn, 6),
        "granted_by": row.granted_by,
        "granted_at": timestamp(row.granted_at),
        "until": timestamp(row.until if until is None else until),
    }


def _check(row: AuthorizationRow, standings: Sequence[WindowState]) -> None:
    """Check that the authorization would have an effect.

    Raises:
        UserError: nothing of this scope has a pace, or none in this unit.
    """
    if not standings:
        raise UserError(
            f"{markdown.code(shown_scope(row.scope))} has no pace: no limit with a window is set for it, so there is "
            f"nothing to authorize. {command_line('pace')} shows what is paced.",
            code="budget.not_paced",
        )
    made = authorization_of(row)
    if not any(worth(made, each.window, row.amount) > 0 for each in standings):
        units = sorted({each.window.unit for each in standings})
        ways = {"tokens": "tokens, like 500k", "usd": "US dollars, like 20usd", "share": "a share of it, like 10%"}
        raise UserError(
            f"What bounds {markdown.code(shown_scope(row.scope))} is not counted in {amounts.UNITS[row.unit]}. Write "
            f"{' or '.join(ways[unit] for unit in units)}. Nothing was authorized.",
            code="budget.wrong_unit",
        )


async def _take_back(ctx: Context[PacingServices], scope: str) -> Reply:
    services = ctx.services
    now = services.clock()
    async with services.store.read() as tx:
        mine = [each.id for each in await pacing_windows.live(tx) if each.scope == scope]
    await services.pace.withhold(mine)

    async def end(tx: AsyncConnection) -> int:
        mine = [each for each in await pacing_windows.live(tx) if each.scope == scope]
        return sum([await pacing_windows.end(tx, each.id, "taken back", now) for each in mine])

    count = await ctx.commit("take back", end)
    if not count:
        raise UserError(
            f"Nothing is authorized for {markdown.code(shown_scope(scope))} now.", code="budget.not_authorized"
        )
    await services.pace.redraw("authorization", scope=scope)
    note = await _told(ctx)
    text = f"What was authorized for {markdown.code(shown_scope(scope))} is revoked: it spends at its pace.{note}"
    return Reply(text, {"scope": scope, "ended": count})


async def _told(ctx: Context[PacingServices]) -> str:
    """Apply the current authorizations and send them to the egress. Return a warning if the egress does not answer."""
    services = ctx.services
    await services.pace.redraw()
    services.pace.tell()
    if services.egress_client is None or await services.egress_client.push():
        return ""
    return (
        " ⚠️ The egress does not answer now. The change takes effect once it answers. An earlier authorization ends "
        "at its own time in any case."
    )
