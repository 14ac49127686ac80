"""The `budget set` and `budget clear` commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.config.limits import read_quota_window, read_window
from bot.egress_client.settings_push import HeldLimit, addressed, held_of
from bot.pacing.services import PacingServices
from bot.pacing.window_loader import spenders_of
from bot.read_models.limits import LimitLine
from bot.spending.budget_view import line_json
from bot.spending.held_limits import held_now
from bot.spending.limit_lines import line_of
from bot.spending.limits_text import overruled_words
from bot.spending.overruled_limits import look, of_scope
from bot.spending.scopes import known_scope, read_scope
from bot.text import amount_input, markdown, timestamps
from bot.text.errors import UsageError, UserError
from budget import amounts
from budget.scope_names import shown_scope
from budget.windows import window_boundaries, window_key
from core.validation_errors import suggestion
from database.queries.spending import limits_by_command, pacing_windows
from database.queries.spending.limits_by_command import BudgetRow

#: Maximum length of a window (budget.windows.window_boundaries).
_LONGEST_S = 366 * 86_400.0


async def set_budget(
    ctx: Context[PacingServices],
    scope: str,
    limit: str,
    *,
    window: str | None,
    policy: str,
    of: str | None = None,
    reset_at: str | None = None,
) -> Reply:
    services = ctx.services
    now = services.clock()
    scope = await known_scope(scope, services)
    amount, unit = amount_input.read(limit)
    if unit == "share":
        of, within = await _share_of(services, scope, of, window)
    else:
        within = "" if window is None else _window(window)
        if of is not None:
            raise UsageError("Only a share, like 20%, is of an account: leave --of out. Nothing was set.")
    resets = None if reset_at is None else await _reset(services, scope, unit, within, reset_at)
    if unit == "share" and amount >= 1 and scope == f"account:{of}" and resets is None:
        raise UsageError(
            f"All of its own window is no limit. Write a smaller share, or with --reset-at when the window {within} "
            "of this account resets. Nothing was set."
        )
    row = BudgetRow(
        scope=scope,
        unit=unit,
        window=within,
        amount=amount,
        policy=policy,
        set_by=ctx.identity,
        set_at=now,
        reset_at=resets,
        of=of,
    )
    beside = await _beside(services, row)
    await ctx.commit("set", lambda tx: limits_by_command.put(tx, row))
    note = await _pushed(services)
    note = await _passed(services, row) + note
    set_ = held_of(row)
    zone = services.settings.timezone
    anew = "" if resets is None else f" It resets at {timestamps.shown(resets, zone, now)} ({zone.key}), as you set."
    then = "" if set_.is_whole else f", then {policy}"
    governs = await _governs(services, row)
    text = f"{markdown.code(shown_scope(scope))}: {_written(set_)}{then}.{anew}{beside}{governs}{note}"
    return Reply(text, line_json(_new_line(set_, now), None))


def _new_line(limit: HeldLimit, now: float) -> LimitLine:
    """Return a limit that was just set."""
    plain = {
        "kind": limit.kind, "scope": limit.scope, "amount": limit.amount, "unit": limit.unit,
        "window": None if limit.unit == "share" else limit.window, "policy": limit.policy,
    }  # fmt: skip
    line = line_of(plain, None, {}, now)
    if limit.unit != "share":
        return line
    source: Literal["user"] | None = None if limit.reset_at is None else "user"
    return replace(line, window=limit.window, resets_at=limit.reset_at, reset_source=source)


async def _share_of(services: PacingServices, scope: str, of: str | None, window: str | None) -> tuple[str, str]:
    """Return the account and the window that a share belongs to.

    Raises:
        UsageError: there is no such account or window.
    """
    accounts = services.settings.accounts
    own = scope.removeprefix("account:") if scope.startswith("account:") else None
    if own is not None and of not in (None, own):
        raise UsageError(f"A share for the account {own} is of its own window: leave --of out. Nothing was set.")
    name = own or of
    subscriptions = [each for each, account in accounts.items() if account.kind == "subscription"]
    listed = f"there {'are' if len(subscriptions) > 1 else 'is'} {', '.join(subscriptions) or 'none'}"
    if name is None:
        raise UsageError(f"A share of which account? Write --of and its name; {listed}. Nothing was set.")
    if name not in subscriptions:
        what = "is paid by use and has no windows" if name in accounts else "is not there"
        raise UsageError(
            f"The account {name[:60]!r} {what}. Of subscriptions, {listed}.{suggestion(name, subscriptions)} Nothing "
            "was set."
        )
    known = await _quota_windows(services, name)
    if window is None:
        raise UsageError(f"A share of which window? Write --window {' or '.join(known)}. Nothing was set.")
    if window not in known:
        raise UsageError(
            f"The account {name} has no window {window[:40]!r}; there {'are' if len(known) > 1 else 'is'} "
            f"{', '.join(known)}.{suggestion(window, known)} Nothing was set."
        )
    return name, window


async def _quota_windows(services: PacingServices, account: str) -> list[str]:
    """Return the names of a subscription's windows, from muster.yaml or else from its provider."""
    written = [each.name for each in services.settings.accounts[account].windows]
    if written:
        return written
    async with services.store.read() as tx:
        told = sorted(window for whose, window in await pacing_windows.observed(tx) if whose == account)
    return told or ["5h", "7d"]


async def _reset(services: PacingServices, scope: str, unit: str, window: str, text: str) -> float:
    """Return when a provider's window resets, as a person says.

    Raises:
        UsageError: the time is impossible, or the limit has no such window.
    """
    if unit != "share" or not scope.startswith("account:"):
        raise UsageError(
            "--reset-at says when the window of a subscription resets: of account:NAME, with a share such as "
            "100%. Muster's own windows follow the clock. Nothing was set."
        )
    now, zone = services.clock(), services.settings.timezone
    at = timestamps.read(text, zone)
    if at <= now:
        raise UsageError(
            f"{timestamps.shown(at, zone, now)} is in the past: it is {timestamps.shown(now, zone, now)} ({zone.key}) "
            "now. Write when the window resets next. Nothing was set."
        )
    length = next(
        (each.length_s for each in services.settings.accounts[scope.partition(":")[2]].windows if each.name == window),
        window_boundaries.length_of(window.partition("_")[0]),
    )
    if length is not None and at > now + length:
        raise UsageError(
            f"{timestamps.shown(at, zone, now)} is beyond the window: it is {markdown.span(length)} long, so it resets "
            f"by {timestamps.shown(now + length, zone, now)} ({zone.key}) at the latest. Nothing was set."
        )
    if at > now + _LONGEST_S:
        raise UsageError(
            f"{timestamps.shown(at, zone, now)} is more than a year away, and no window is that long. Nothing was set."
        )
    return at


async def _passed(services: PacingServices, row: BudgetRow) -> str:
    """Return a warning if the limit was already used up when it was set."""
    used = 0.0
    if row.unit == "share":
        snapshot = await services.pace.snapshot()
        standing = snapshot.standings.get(window_key.of_share(row.scope, row.of, row.window))
        used = 0.0 if standing is None else standing.window.known_use or 0.0
    elif services.egress_client is not None and (standings := await services.egress_client.standing()) is not None:
        kind, scope = addressed(row.scope)
        of = (kind, scope, row.unit, row.window or None)
        used = max(
            (
                each["used"]
                for each in standings["limits"]
                if (each["kind"], each["scope"], each["unit"], each["window"] or None) == of and not each.get("account")
            ),
            default=0.0,
        )
    if used < row.amount:
        return ""
    verb = "are" if row.unit == "tokens" else "is"
    return f" ⚠️ It is passed already: {amounts.amount(used, row.unit)} {verb} used."


async def _governs(services: PacingServices, row: BudgetRow) -> str:
    """Return sentences about agents for which another limit governs, or applies as well."""
    said = [overruled_words(each) for each in of_scope(await look(services, await held_now(services)), row.scope)]
    async with services.store.read() as tx:
        spender = (await spenders_of(tx, services, services.settings)).get(row.scope.removeprefix("agent:"))
    if row.scope.startswith("agent:") and spender is not None and spender.budget is not None and not said:
        said.append(f"It holds at once, beside the {amounts.tokens(spender.budget)} tokens of its launch's `--budget`.")
    return "".join(f" {each}" for each in said)


async def _beside(services: PacingServices, row: BudgetRow) -> str:
    """Return a sentence about other limits of the scope: those still in force, or those of files that no longer are."""
    async with services.store.read() as tx:
        given = [each for each in await limits_by_command.every(tx) if each.scope == row.scope]
    scope = shown_scope(row.scope)
    others = [each for each in given if (each.unit, each.window) != (row.unit, row.window)]
    if held_of(row).is_whole:
        return ""
    if others:
        ways = {f"budget clear {scope} --window {each.window or 'none'}" for each in others}
        # Clearing by window would also remove the new limit, which has another unit.
        ways = {f"budget clear {scope}"} if row.window in {each.window for each in others} else ways
        holds = "Both limits apply" if len(others) == 1 else "All limits apply"
        listed = _listed(map(held_of, others))
        return f" {holds}: beside it {listed}, until {' and '.join(map(command_line, sorted(ways)))}."
    if given:
        return ""
    kind, scope = addressed(row.scope)
    filed = [each for each in await held_now(services) if (each.kind, each.scope) == (kind, scope)]
    return f" It replaces what the files set for it ({_listed(filed)})." if filed else ""


def _listed(limits: Iterable[HeldLimit]) -> str:
    return ", ".join(map(_written, limits))


def _written(limit: HeldLimit) -> str:
    if limit.unit == "share":
        return f"{amounts.percent(limit.amount)} of the window {limit.window} of {limit.of}"
    return f"{amounts.amount(limit.amount, limit.unit)}{amounts.per(limit.window)}"


async def clear_budget(ctx: Context[PacingServices], scope: str, *, window: str | None) -> Reply:
    services = ctx.services
    scope = read_scope(scope)
    within = None if window is None else "" if window.strip().casefold() == "none" else _any_window(window)
    gone = await ctx.commit("clear", lambda tx: limits_by_command.clear(tx, scope, within))
    if not gone:
        raise await _nothing_set(services, scope, within)
    left, given = await _left(services, scope)
    note = await _pushed(services)
    again = "The scope no longer has a limit of its own."
    if left:
        again = f"{'What applies now' if given else 'What the files set for it applies again'}: {_listed(left)}."
    return Reply(f"{markdown.code(shown_scope(scope))}: taken back. {again}{note}", {"scope": scope, "cleared": gone})


async def check_clear(services: PacingServices, scope: str, *, window: str | None) -> None:
    """Check that there is a limit to remove.

    Raises:
        UserError: no limit was set for this scope by command.
    """
    scope = read_scope(scope)
    within = None if window is None else "" if window.strip().casefold() == "none" else _any_window(window)
    async with services.store.read() as tx:
        there = [each for each in await limits_by_command.every(tx) if each.scope == scope]
    if not any(within is None or (each.window or "") == within for each in there):
        raise await _nothing_set(services, scope, within)


async def _left(services: PacingServices, scope: str) -> tuple[list[HeldLimit], bool]:
    """Return the limits in force for a scope, and whether any of them was set by command."""
    kind, inner = addressed(scope)
    left = [each for each in await held_now(services) if (each.kind, each.scope) == (kind, inner)]
    async with services.store.read() as tx:
        return left, any(each.scope == scope for each in await limits_by_command.every(tx))


async def _nothing_set(services: PacingServices, scope: str, within: str | None) -> UserError:
    left, given = await _left(services, scope)
    holds = ""
    if left and given:
        holds = f" What was set there: {_listed(left)}."
    elif left:
        holds = " The limit there is set in a file; change it there, or set another."
    which = "" if within is None else " in this window"
    return UserError(f"No limit was set by command for {markdown.code(shown_scope(scope))}{which}.{holds}")


async def _pushed(services: PacingServices) -> str:
    """Send the limits to the egress and notify pacing. Return a warning if the egress does not answer."""
    await services.pace.redraw()
    services.pace.tell()
    if services.egress_client is None or await services.egress_client.push():
        return ""
    return (
        " ⚠️ The egress does not answer now. The change takes effect once it answers; until then, the earlier settings "
        "apply."
    )


def _any_window(text: str) -> str:
    try:
        return _window(text)
    except UsageError as error:
        try:
            return read_quota_window(text)
        except ValueError:
            raise error from None


def _window(text: str) -> str:
    try:
        return read_window(text)
    except ValueError as error:
        raise UsageError(str(error)) from None
