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
from bot.views import some
from budget import windows
from budget.scopes import Scope
from egress.apis import PROVIDERS
from fleet.names import is_agent_name
from fleet.problems import closest, suggestion
from fleet.sandbox import profiles
from register.queries import agents, budgets
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
    limits = limits_of(services.settings, budgeted, given)
    return limits if services.pace is None else await services.pace.enforced(limits)


async def set_budget(ctx: Context, scope: str, limit: str, *, window: str | None, policy: str) -> Reply:
    services = ctx.services
    scope = await _known(_scope(scope), services)
    amount, unit = amounts.read(limit)
    within = "" if window is None else _window(window)
    row = BudgetRow(
        scope=scope,
        unit=unit,
        window=within,
        amount=amount,
        policy=policy,
        set_by=ctx.identity,
        set_at=services.clock(),
    )
    beside = await _beside(services, row)
    await ctx.commit("set", lambda tx: budgets.put(tx, row))
    note = await _pushed(services)
    text = f"{rendering.code(scope)}: {amounts.amount(amount, unit)}{amounts.per(within)}, then {policy}.{beside}{note}"
    return Reply(text, _json(_limit_of(row), None, services.clock()))


async def _beside(services: Services, row: BudgetRow) -> str:
    """What is to be said of the other limits of its scope: those that go on holding, and those of files that do not."""
    async with services.store.read() as tx:
        given = [each for each in await budgets.every(tx) if each.scope == row.scope]
    others = [each for each in given if (each.unit, each.window) != (row.unit, row.window)]
    if others:
        ways = {f"budget clear {row.scope} --window {each.window or 'none'}" for each in others}
        # Of the same window, in another unit, it would take this one along.
        ways = {f"budget clear {row.scope}"} if row.window in {each.window for each in others} else ways
        holds = "Both hold now" if len(others) == 1 else "All hold now"
        listed = _listed([_limit_of(each) for each in others])
        return f" {holds}: beside it {listed}, until {' and '.join(map(command_line, sorted(ways)))}."
    if given:
        return ""
    kind, scope = addressed(row.scope)
    filed = [each.model_dump() for each in await holding(services) if (each.kind, each.scope) == (kind, scope)]
    return f" It holds instead of what the files say of it ({_listed(filed)})." if filed else ""


def _listed(limits: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{amounts.amount(each['amount'], each['unit'])}{amounts.per(each['window'])}" for each in limits)


async def clear_budget(ctx: Context, scope: str, *, window: str | None) -> Reply:
    services = ctx.services
    scope = _scope(scope)
    within = None if window is None else "" if window.strip().casefold() == "none" else _window(window)
    gone = await ctx.commit("clear", lambda tx: budgets.clear(tx, scope, within))
    kind, inner = addressed(scope)
    left = [each.model_dump() for each in await holding(services) if (each.kind, each.scope) == (kind, inner)]
    async with services.store.read() as tx:
        given = any(each.scope == scope for each in await budgets.every(tx))
    if not gone:
        holds = ""
        if left and given:
            holds = f" What was set there: {_listed(left)}."
        elif left:
            holds = " What holds there is written in a file; change it there, or set another."
        which = "" if within is None else " in this window"
        raise UserError(f"No limit was set by command for {rendering.code(scope)}{which}.{holds}")
    note = await _pushed(services)
    again = "No limit of its own holds there any more."
    if left:
        again = f"{'There holds still' if given else 'What the files say of it holds again'}: {_listed(left)}."
    return Reply(f"{rendering.code(scope)}: taken back. {again}{note}", {"scope": scope, "cleared": gone})


async def _pushed(services: Services) -> str:
    """Tell the egress. A sentence when it does not hear of it now."""
    if services.outlet is None or await services.outlet.push():
        return ""
    return " ⚠️ The egress does not answer now; it is told as soon as it does, and until then what held before holds."


def _window(text: str) -> str:
    try:
        return read_window(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _scope(scope: str) -> str:
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
        near = closest(scope, [EACH_AGENT, "host"])
        meant = f" Did you mean {near or f'agent:{scope}'}?" if near or is_agent_name(scope) else ""
        raise UsageError(f"{scope[:60]!r} is no scope of a budget; there are {_SCOPES}.{meant}")
    return str(found)


async def _known(scope: str, services: Services) -> str:
    """The same scope, if what it names is there: a limit on a name that nobody has would look as if it held.

    Raises:
        UsageError: nothing is called so; what is.
    """
    if scope == EACH_AGENT:
        return scope
    found = Scope.parse(scope)
    there: Sequence[str]
    match found.sort:
        case "account":
            there = list(services.settings.accounts)
        case "provider":
            there = list(PROVIDERS)
        case "profile":
            there = [*profiles.BUILT_IN, *services.settings.sandboxes]
        case "agent":
            there = await _agents(services)
        case _:
            return scope
    if found.name in there:
        return scope
    listed = some(there) or "none"
    first = ""
    if found.sort == "agent" and is_agent_name(found.name):
        first = f" One that is to come is written into the roster first: {command_line(f'add {found.name}')}."
    raise UsageError(
        f"There is no {found.sort} {found.name[:60]!r}; there {'are' if len(there) > 1 else 'is'} {listed}."
        f"{suggestion(found.name, there)}{first} Nothing was set."
    )


async def _agents(services: Services) -> list[str]:
    """Who is in the roster, or was launched without being in it."""
    async with services.store.read() as tx:
        names = {row.name for row in await agents.every(tx)}
    latest = services.lookout.roster
    await latest.refresh()
    return sorted(names | (latest.names or frozenset()))


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
    # Nobody writes a fraction of a token: programs get whole numbers of them, from whichever side they come.
    amount = int(limit["amount"]) if limit["unit"] == "tokens" else limit["amount"]
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
            f"{amounts.amount(each['limit'], each['unit'])}{amounts.per(each['window'])}",
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
