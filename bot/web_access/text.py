"""What people read about browsers that log in. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bot.text import markdown
from bot.web_access.model import BrowserLogin, WebSession


def question(login: BrowserLogin, *, control: bool) -> str:
    """Return what a person must know before they log in a browser."""
    what = "can then give commands as you" if control else "then shows you everything that you may see"
    return (
        f"{login.browser[0].upper()}{login.browser[1:]} at {markdown.code(login.address)} shows this code, and {what}. "
        "Confirm only if that browser is in front of you. If somebody sent you the code, "
        "decline."
    )


def sessions_text(sessions: Sequence[WebSession], now: float) -> str:
    """Return the sessions as a table."""
    if not sessions:
        return "No browser is logged in."
    rows = [
        [
            markdown.code(each.id),
            markdown.code(each.identity),
            "control" if each.control else "watch",
            each.browser,
            markdown.code(each.address),
            f"{markdown.span(now - each.seen_at)} ago",
            f"in {markdown.span(each.expires_at - now)}",
        ]
        for each in sessions
    ]
    return markdown.table(["id", "who", "may", "browser", "address", "used", "ends"], rows)


def sessions_as_json(
    sessions: Sequence[WebSession], timestamp: Callable[[float | None], str | None]
) -> list[dict[str, Any]]:
    """Return the sessions for programs."""
    return [
        {
            "id": each.id,
            "identity": each.identity,
            "control": each.control,
            "pushes": each.pushes,
            "browser": each.browser,
            "address": each.address,
            "opened_at": timestamp(each.opened_at),
            "seen_at": timestamp(each.seen_at),
            "expires_at": timestamp(each.expires_at),
        }
        for each in sessions
    ]
