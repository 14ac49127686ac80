"""Accounts with what their providers reported. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from bot.config.schema import Account
from bot.read_models.limits import AccountModel, AccountWindow, WindowPace
from budget.windows import window_key
from database.queries.spending.usage_ledger import QuotaRow

#: The status with which a provider refuses requests (egress.upstream.rate_limit_headers).
_REFUSES: Final = "rejected"


def accounts_of(
    accounts: Mapping[str, Account],
    quotas: Sequence[QuotaRow],
    paces: Mapping[str, WindowPace],
    warnings: Mapping[str, str],
    now: float,
) -> tuple[AccountModel, ...]:
    """Return all accounts by name: those in muster.yaml, and those of which a provider reported something.

    Args:
        accounts: the accounts in muster.yaml.
        quotas: what providers reported last, by account and window.
        paces: the windows by key.
        warnings: why a credential is not safe, by account.
        now: seconds since the epoch.
    """
    rows: dict[str, list[QuotaRow]] = {name: [] for name in accounts}
    for row in quotas:
        rows.setdefault(row.account, []).append(row)
    return tuple(
        _account(name, accounts.get(name), rows[name], paces, warnings.get(name), now) for name in sorted(rows)
    )


def _account(
    name: str,
    account: Account | None,
    rows: Sequence[QuotaRow],
    paces: Mapping[str, WindowPace],
    warning: str | None,
    now: float,
) -> AccountModel:
    windows = tuple(_window(name, row, paces) for row in rows)
    return AccountModel(
        name=name,
        provider=rows[0].provider if account is None else account.provider,
        kind=None if account is None else account.kind,
        state=_state(windows, paces, now),
        windows=windows,
        warning=warning,
    )


def _window(account: str, row: QuotaRow, paces: Mapping[str, WindowPace]) -> AccountWindow:
    key = window_key.of_quota(account, row.window)
    return AccountWindow(
        name=row.window,
        used=row.used,
        limit=row.amount,
        remaining=row.remaining,
        resets_at=row.reset_at,
        length_s=row.window_s,
        status=row.status,
        seen_at=row.seen_at,
        host=row.host,
        pace=key if key in paces else None,
    )


def _state(
    windows: Sequence[AccountWindow], paces: Mapping[str, WindowPace], now: float
) -> Literal["open", "used up"] | None:
    # A report about a past window says nothing about the current one.
    current = [each for each in windows if each.resets_at is None or each.resets_at > now]
    paced = [paces[each.pace] for each in windows if each.pace is not None]
    if any(each.status == _REFUSES for each in current) or any(each.state == "used up" for each in paced):
        return "used up"
    return "open" if current else None
