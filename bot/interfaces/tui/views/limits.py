"""Limits with their pace, accounts with their windows, and the chart of a window."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from bot.figures.model import Figure, Panel
from bot.interfaces.tui.views.fleet import ago
from bot.interfaces.tui.views.lists import moment
from bot.interfaces.tui.widgets.row_table import Cell, TableColumn, TableShape
from bot.interfaces.tui.widgets.text_pane import TextLine
from bot.read_models.limits import AccountModel, AccountWindow, Authorization, LimitLine, LimitsModel, WindowPace
from bot.text.markdown import span
from budget import amounts
from budget.scope_names import shown_scope

#: The size of a chart.
_NARROWEST: Final = 40
_WIDEST: Final = 110
_CHART_ROWS: Final = 9
_TICKS: Final = 4
#: The highest percentage that a chart shows.
_TOP: Final = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRow:
    """A limit, with its window if it has a pace."""

    line: LimitLine
    window: WindowPace | None
    authorizations: tuple[Authorization, ...] = ()
    """Those of its scope."""


def limit_items(model: LimitsModel) -> tuple[LimitRow, ...]:
    """Return the limits in the order of `budget`."""
    return tuple(
        LimitRow(
            line=line,
            window=model.pace_of(line),
            authorizations=tuple(each for each in model.authorizations if each.scope == line.scope),
        )
        for line in model.lines
    )


def _limit_key(row: LimitRow) -> str:
    return f"{row.line.scope}/{row.line.unit}/{row.line.window}/{row.line.agent}"


def _amount(amount: float | None, unit: amounts.Unit) -> str:
    return amounts.amount(amount, unit)


def _short(amount: float | None, unit: amounts.Unit) -> str:
    """Return an amount for a narrow column; tokens need no unit."""
    return amounts.tokens(amount) if unit == "tokens" and amount is not None else _amount(amount, unit)


def _used(row: LimitRow) -> Cell:
    line = row.line
    if line.used is None:
        return (f"≥{_short(line.at_least, line.unit)}" if line.at_least is not None else amounts.UNKNOWN), "warn"
    share = line.used / line.limit if line.limit > 0 else 1.0
    return _short(line.used, line.unit), "bad" if share >= 1 else "warn" if share >= 0.8 else ""


def _share(row: LimitRow) -> float:
    line = row.line
    return (line.used or line.at_least or 0.0) / line.limit if line.limit > 0 else 1.0


def _pace(row: LimitRow, now: float) -> Cell:
    window = row.window
    if window is None:
        return "", ""
    if window.ahead is None:
        return amounts.UNKNOWN, "dim"
    if window.ahead > 0:
        return f"{_short(window.ahead, window.unit)} ahead", "warn"
    return f"{_short(-window.ahead, window.unit)} behind", "good"


def _reset(row: LimitRow, now: float) -> Cell:
    return ("never", "dim") if row.line.resets_at is None else (span(row.line.resets_at - now), "")


LIMITS: Final = TableShape[LimitRow](
    columns=(
        TableColumn(title="SCOPE", width=16, grows=2, order=lambda r: (r.line.scope,),
                    cell=lambda r, _: (r.line.scope, "")),
        TableColumn(title="USED", width=7, right=True, order=lambda r: (-_share(r),), cell=lambda r, _: _used(r)),
        TableColumn(title="OF", width=7, right=True, cell=lambda r, _: (_short(r.line.limit, r.line.unit), "")),
        TableColumn(title="%", width=5, right=True, order=lambda r: (-_share(r),),
                    cell=lambda r, _: (f"{min(999, 100 * _share(r)):.0f}", "")),
        TableColumn(title="WINDOW", width=8, rank=4, cell=lambda r, _: (r.line.window or "-", "dim")),
        TableColumn(title="RESETS IN", width=9, right=True, rank=2, cell=_reset,
                    order=lambda r: (r.line.resets_at or float("inf"),)),
        TableColumn(title="PACE", width=13, grows=1, cell=_pace),
        TableColumn(title="STATE", width=9, rank=1, order=lambda r: (r.line.state or "",),
                    cell=lambda r, _: (r.line.state or amounts.UNKNOWN, "bad" if r.line.state == "used up" else "")),
        TableColumn(title="POLICY", width=8, rank=3, cell=lambda r, _: (r.line.policy, "dim")),
    ),
    key=_limit_key,
    words=lambda r: f"{r.line.scope} {r.line.window} {r.line.policy} {r.line.state}".casefold(),
    empty="No limit is set. :budget set SCOPE sets one.",
)  # fmt: skip


def limit_text(row: LimitRow, now: float, width: int) -> list[TextLine]:
    """Return a limit in full, with the chart of its window."""
    line, window = row.line, row.window
    lines = [TextLine(f"{line.scope}: {_used(row)[0]} of {_amount(line.limit, line.unit)}", "strong")]
    if line.governed_by:
        others = "; ".join(f"{each.scope} governs {', '.join(each.agents)}" for each in line.governed_by)
        lines.append(TextLine(others, "dim"))
    lines += [TextLine(authorization_words(each, now), "accent") for each in row.authorizations]
    if window is None:
        return [*lines, TextLine("It has no pace.", "dim")]
    if window.may_use_now is not None:
        lines.append(TextLine(f"Work of normal urgency may use {_amount(window.may_use_now, window.unit)} now."))
    if (chart := chart_of(window, now, width)) is not None:
        lines.append(TextLine(chart))
    lines += [TextLine(f"{each.what} {each.name} is held from {moment(each.since)}: {each.text}", "warn")
              for each in window.holds]  # fmt: skip
    return lines


def authorization_words(each: Authorization, now: float) -> str:
    """Return one sentence: what may be spent beyond the pace, until when, and who said so."""
    by = "" if each.granted_by is None else f", by {each.granted_by}"
    left, amount = _amount(each.left, each.unit), _amount(each.amount, each.unit)
    lasts = span(max(0.0, each.until - now))
    return f"{shown_scope(each.scope)}: {left} left of {amount} authorized beyond the pace, for {lasts}{by}"


def limit_notes(model: LimitsModel, now: float) -> list[TextLine]:
    """Return why numbers are missing or incomplete."""
    lines = []
    if model.counted.source == "none":
        lines.append(TextLine("The egress does not answer, so use is unknown.", "bad"))
    if model.counted.source == "ledger":
        lines.append(
            TextLine(f"The egress does not answer. This is its ledger, {ago(model.counted.at, now)} old.", "warn")
        )
    if not model.pace_known:
        lines.append(TextLine("The pace is unknown while Muster is down.", "dim"))
    if model.problem:
        lines.append(TextLine(model.problem, "bad"))
    if model.behind:
        lines.append(TextLine(model.behind, "warn"))
    lines += [TextLine(authorization_words(each, now), "accent") for each in model.authorizations]
    if not model.spread:
        lines.append(TextLine("Limits are not spread over their windows.", "dim"))
    return lines


def chart_of(window: WindowPace, now: float, width: int) -> str | None:
    """Return the chart of a window as text, or None if there is nothing to draw."""
    begin, end, least = window.begins_at, window.resets_at, window.least
    if begin is None or end is None or least is None or window.limit <= 0 or not begin < now < end:
        return None

    def percent(amount: float) -> float:
        return min(_TOP, max(0.0, 100 * amount / window.limit))

    used = [(at - begin, percent(amount)) for at, amount in window.use if begin <= at <= now]
    band = None
    if window.band is not None:
        low, expected, high = window.band
        band = (percent(low), percent(expected), percent(high))
    step = (end - begin) / (_TICKS + 1)
    panel = Panel(
        title=window.key,
        note=f"{percent(least):.0f} % used" + ("" if window.line is None else f", line {percent(window.line):.0f} %"),
        length=end - begin,
        now=now - begin,
        used=used or [(0.0, 0.0), (now - begin, percent(least))],
        even=[(min(max(at, begin), end) - begin, percent(amount)) for at, amount in window.even],
        band=band,
        ticks=[(step * place, _tick(begin + step * place, end - begin)) for place in range(1, _TICKS + 1)],
    )
    from bot.figures.letters import window_letters  # plotext takes as long to import as Textual

    return window_letters(Figure(panels=[panel]), max(_NARROWEST, min(_WIDEST, width)), _CHART_ROWS)


def _tick(at: float, length: float) -> str:
    try:
        return time.strftime("%a %H:%M" if length > 86_400 else "%H:%M", time.localtime(at))
    except (ValueError, OverflowError, OSError):
        return "?"


# --- accounts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """A window of an account, or an account whose provider reported none."""

    account: AccountModel
    window: AccountWindow | None


def account_items(model: LimitsModel) -> tuple[AccountRow, ...]:
    """Return the windows of all accounts."""
    return tuple(
        AccountRow(account=account, window=window)
        for account in model.accounts
        for window in account.windows or (None,)
    )


def _portion(row: AccountRow) -> float | None:
    window = row.window
    if window is None or window.used is None or not window.limit:
        return None
    return window.used / window.limit


def _portion_cell(row: AccountRow) -> Cell:
    portion = _portion(row)
    if portion is None:
        return amounts.UNKNOWN, "dim"
    return f"{100 * portion:.0f} %", "bad" if portion >= 1 else "warn" if portion >= 0.8 else ""


def _account_state(row: AccountRow) -> Cell:
    state = row.account.state
    return (state or amounts.UNKNOWN), "bad" if state == "used up" else "" if state else "dim"


ACCOUNTS: Final = TableShape[AccountRow](
    columns=(
        TableColumn(title="ACCOUNT", width=14, grows=1, order=lambda r: (r.account.name,),
                    cell=lambda r, _: (r.account.name, "")),
        TableColumn(title="PROVIDER", width=10, rank=2, order=lambda r: (r.account.provider,),
                    cell=lambda r, _: (r.account.provider, "")),
        TableColumn(title="KIND", width=12, rank=3, cell=lambda r, _: (r.account.kind or "removed", "dim")),
        TableColumn(title="STATE", width=8, order=lambda r: (r.account.state or "",),
                    cell=lambda r, _: _account_state(r)),
        TableColumn(title="WINDOW", width=10, grows=1,
                    cell=lambda r, _: (r.window.name if r.window else "none reported", "")),
        TableColumn(title="USED", width=6, right=True, order=lambda r: (-(_portion(r) or 0.0),),
                    cell=lambda r, _: _portion_cell(r)),
        TableColumn(title="RESETS IN", width=9, right=True, cell=lambda r, now: (
            span(r.window.resets_at - now) if r.window and r.window.resets_at is not None else "", "")),
        TableColumn(title="SEEN", width=8, right=True, rank=1,
                    cell=lambda r, now: (ago(r.window.seen_at, now) if r.window else "", "dim")),
    ),
    key=lambda r: f"{r.account.name}/{r.window.name if r.window else ''}/{r.window.host if r.window else ''}",
    words=lambda r: f"{r.account.name} {r.account.provider} {r.window.name if r.window else ''}".casefold(),
    empty="No account is configured.",
)  # fmt: skip


def account_text(row: AccountRow, now: float) -> list[TextLine]:
    """Return an account's window in full."""
    account, window = row.account, row.window
    lines = [TextLine(f"{account.name} · {account.provider} · {account.kind or 'no longer in muster.yaml'}", "strong")]
    if account.warning:
        lines.append(TextLine(account.warning, "warn"))
    if window is None:
        return [*lines, TextLine("Its provider has not reported any window yet.", "dim")]
    lasts = "" if window.length_s is None else f" of {span(window.length_s)}"
    said = f"Window {window.name}{lasts}: {window.status or 'no status'}, seen {ago(window.seen_at, now)} ago"
    lines.append(TextLine(f"{said}{f' on {window.host}' if window.host else ''}."))
    if window.resets_at is not None:
        lines.append(TextLine(f"It resets {moment(window.resets_at)}."))
    return lines
