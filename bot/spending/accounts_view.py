"""Formatting of `accounts`: each account's quota as its provider last reported it. Pure, and loads nothing heavy."""

from __future__ import annotations

from typing import Any

from bot.read_models.limits import AccountModel, AccountWindow, LimitsModel
from bot.text import markdown
from bot.text.timestamps import timestamp
from budget import amounts


def accounts_text(model: LimitsModel) -> str:
    """Return the answer of `accounts`."""
    rows = [
        (
            markdown.one_line(account.name, 30),
            markdown.one_line(window.name, 20),
            _used(window, model.at),
            _until(window, model.at),
            f"{markdown.one_line(window.status or '?', 20)}, {markdown.span(model.at - window.seen_at)} ago",
        )
        for account in model.accounts
        for window in account.windows
    ]
    parts = [markdown.table(("account", "window", "used", "resets", "seen"), rows)] if rows else []
    silent = [account.name for account in model.accounts if not account.windows]
    if silent:
        parts.append(
            f"Quota unknown: the provider has not reported any yet for {', '.join(map(markdown.one_line, silent))}."
        )
    if not parts:
        parts.append("There are no accounts in muster.yaml, and no provider has reported one.")
    parts += [f"⚠️ {markdown.one_line(each.warning, 300)}" for each in model.accounts if each.warning is not None]
    return "\n\n".join(parts)


def accounts_json(model: LimitsModel) -> list[dict[str, Any]]:
    """Return the accounts as ``accounts --json`` prints them, by name."""
    return [_account_json(each) for each in model.accounts]


def _account_json(account: AccountModel) -> dict[str, Any]:
    return {
        "account": account.name,
        "provider": account.provider,
        "state": account.state,
        "windows": [_window_json(each) for each in account.windows],
        **({} if account.warning is None else {"warning": account.warning}),
    }


def _window_json(window: AccountWindow) -> dict[str, Any]:
    return {
        "window": window.name,
        "used": None if window.used is None else round(window.used, 6),
        "limit": window.limit,
        "remaining": window.remaining,
        "reset_at": timestamp(window.resets_at),
        "window_s": window.length_s,
        "status": window.status,
        "seen_at": timestamp(window.seen_at),
        "host": window.host,
    }


def _used(window: AccountWindow, now: float) -> str:
    if window.resets_at is not None and window.resets_at <= now:
        # A report about a past window says nothing about the current one.
        return amounts.UNKNOWN
    if window.used is not None:
        return amounts.percent(window.used)
    if window.remaining is not None and window.limit:
        return amounts.percent(1 - window.remaining / window.limit)
    return amounts.UNKNOWN


def _until(window: AccountWindow, now: float) -> str:
    if window.resets_at is None:
        return amounts.UNKNOWN
    span = markdown.span(abs(window.resets_at - now))
    return f"in {span}" if window.resets_at > now else f"{span} ago"
