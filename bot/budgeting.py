"""What `budget`, `budget set` and `budget clear` decide and answer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from bot import amounts, rendering
from bot.commands.lines import command_line
from bot.commands.table import Reply
from bot.errors import UsageError, UserError
from bot.limits import read_window
from bot.outlet.settings import EACH_AGENT, addressed, limits_of, scope_of
from bot.timestamps import timestamp
from budget import windows
from budget.scopes import Scope
from egress.apis import PROVIDERS
from fleet.names import is_agent_name
from fleet.problems import suggestion
from fleet.sandbox import profiles
from register.queries import budgets
from register.queries.budgets import BudgetRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bot.commands.context import Context
    from bot.services import Services
    from egress.settings import LimitSettings

_SCOPES = "agent, agent:NAME, host, account:NAME, provider:NAME, profile:NAME"
#: Rows of the table in a room.
_ROWS = 40
_MARKS = {"open": "🟢", "used up": "🔴"}


async def holding(services: Services) -> tuple[LimitSettings, ...]:
    """Every limit that does not belong to one launch.

    Raises:
        UserError: the roster cannot be read, and could not be since Muster started.
    """
    async with services.store.read() as tx:
        given = await budgets.every(tx)
    latest = services.lookout.roster
    await latest.refresh()
    budgeted = latest.budgets
    if budgeted is None:
        # No limit is to be lifted because somebody is in the middle of writing the file.
        raise UserError(f"The budgets of the roster are not known: {latest.problem}")
    return limits_of(services.settings, budgeted, given)


async def set_budget(ctx: Context, scope: str, limit: str, *, window: str | None, policy: str) -> Reply:
    services = ctx.services
    scope = _scope(scope, services)
    amount, unit = amounts.read(limit)
    try:
        within = "" if window is None else read_window(window)
    except ValueError as error:
        raise UsageError(str(error)) from None
    row = BudgetRow(
        scope=scope,
        unit=unit,
        window=within,
        amount=amount,
        policy=policy,
        set_by=ctx.identity,
        set_at=services.clock(),
    )
    await ctx.commit("set", lambda tx: budgets.put(tx, row))
    note = await _pushed(services)
    text = f"{rendering.code(scope)}: {amounts.amount(amount, unit)}{_per(within)}, then {policy}.{note}"
    return Reply(text, _json(_limit_of(row), None, services.clock()))


async def clear_budget(ctx: Context, scope: str) -> Reply:
    services = ctx.services
    scope = _scope(scope, services, known=False)
    gone = await ctx.commit("clear", lambda tx: budgets.clear(tx, scope))
    kind, inner = addressed(scope)
    left = [each for each in await holding(services) if (each.kind, each.scope) == (kind, inner)]
    if not gone:
        written = " What holds there is written in a file; change it there, or set another." if left else ""
        raise UserError(f"No limit was set by command for {rendering.code(scope)}.{written}")
    note = await _pushed(services)
    again = "No limit of its own holds there any more."
    if left:
        listed = ", ".join(f"{amounts.amount(each.amount, each.unit)}{_per(each.window)}" for each in left)
        again = f"What the files say of it holds again: {listed}."
    return Reply(f"{rendering.code(scope)}: taken back. {again}{note}", {"scope": scope, "cleared": gone})


async def _pushed(services: Services) -> str:
    """Tell the egress. A sentence when it does not hear of it now."""
    if services.outlet is None or await services.outlet.push():
        return ""
    return " ⚠️ The egress does not answer now; it is told as soon as it does, and until then what held before holds."


def _scope(scope: str, services: Services, *, known: bool = True) -> str:
    """The scope as it is kept.

    Raises:
        UsageError: there is none like it.
    """
    if scope == EACH_AGENT:
        return scope
    try:
        found = Scope.parse(scope)
    except ValueError:
        found = None
    if found is None or found.sort == "launch":
        meant = f" Did you mean agent:{scope}?" if is_agent_name(scope) else ""
        raise UsageError(f"{scope[:60]!r} is no scope of a budget; there are {_SCOPES}.{meant}")
    names: Mapping[str, Sequence[str]] = {
        "account": list(services.settings.accounts),
        "provider": list(PROVIDERS),
        "profile": [*profiles.BUILT_IN, *services.settings.sandboxes],
    }
    there = names.get(found.sort)
    if known and there is not None and found.name not in there:
        listed = ", ".join(there) or "none"
        raise UsageError(
            f"There is no {found.sort} {found.name!r}; there is {listed}.{suggestion(found.name, list(there))}"
        )
    if known and found.sort == "agent" and not is_agent_name(found.name):
        raise UsageError(f"{found.name!r} is no name of an agent.")
    return str(found)


def _limit_of(row: BudgetRow) -> dict[str, Any]:
    kind, scope = addressed(row.scope)
    return {
        "kind": kind,
        "scope": scope,
        "amount": row.amount,
        "unit": row.unit,
        "window": row.window or None,
        "policy": row.policy,
    }


# --- showing -----------------------------------------------------------------------------------------------------


async def show_budget(ctx: Context) -> Reply:
    services = ctx.services
    now = services.clock()
    standing = None if services.outlet is None else await services.outlet.standing()
    if standing is None:
        found = [_json(each.model_dump(), None, now) for each in await holding(services)]
        note = "\n\n⚠️ The egress does not answer, so nobody knows now how much of each is used."
    else:
        found = [_json({**each, "amount": each["limit"]}, each, now) for each in standing["limits"]]
        # The allowances of agents that the egress does not know now, since they do not run.
        counted = {(each["scope"], each["unit"], each["window"]) for each in found}
        idle = []
        with contextlib.suppress(UserError):
            idle = [_json(each.model_dump(), None, now) for each in await holding(services)]
        found += [each for each in idle if (each["scope"], each["unit"], each["window"]) not in counted]
        note = ""
    if not found:
        none = f"No limit is set. {command_line('budget set SCOPE LIMIT')} sets one."
        return Reply(none, [])
    return Reply(_table(found, unknown="?" if standing is None else "-") + note, found)


def _json(limit: Mapping[str, Any], seen: Mapping[str, Any] | None, now: float) -> dict[str, Any]:
    """A limit in the shape of ``budget --json``. What nobody knows is None."""
    used = None if seen is None else seen["used"]
    reserved = None if seen is None else seen["reserved"]
    amount = limit["amount"]
    remaining = None if used is None or reserved is None else max(0, amount - used - reserved)
    end = windows.end_of(limit.get("window"), now)
    return {
        "scope": scope_of(limit["kind"], limit["scope"]),
        "agent": limit.get("agent"),
        "kind": limit["kind"],
        "limit": amount,
        "unit": limit["unit"],
        "used": used,
        "reserved": reserved,
        "remaining": remaining,
        "window": limit.get("window"),
        "reset_at": timestamp(end),
        # Windows of Muster's own begin when the clock says so.
        "reset_confidence": None if end is None else "certain",
        "policy": limit["policy"],
        # What is only held for requests under way is not used up: most of it comes back.
        "state": None if used is None else "used up" if used >= amount else "open",
        "pace": None,
    }


def _table(found: Sequence[Mapping[str, Any]], *, unknown: str) -> str:
    rows = [
        (
            rendering.one_line(_named(each), 40),
            f"{amounts.amount(each['limit'], each['unit'])}{_per(each['window'])}",
            unknown if each["used"] is None else amounts.amount(each["used"], each["unit"]),
            unknown if each["remaining"] is None else amounts.amount(each["remaining"], each["unit"]),
            f"{_MARKS.get(str(each['state']), '❓' if unknown == '?' else '⚪')} {each['policy']}",
        )
        for each in found[:_ROWS]
    ]
    more = f"\n\n{len(found) - _ROWS:,} more." if len(found) > _ROWS else ""
    return rendering.table(("scope", "limit", "used", "left", "then"), rows) + more


def _named(each: Mapping[str, Any]) -> str:
    agent = each.get("agent")
    scope = str(each["scope"])
    if scope.startswith("launch:"):
        # Whose id nobody knows by heart.
        return f"{agent} (this launch)"
    return scope if agent is None or scope == f"agent:{agent}" else f"{agent} ({scope})"


def _per(window: str | None) -> str:
    if not window:
        return ""
    return f" a {window}" if window in ("day", "week", "month") else f" in {window}"
