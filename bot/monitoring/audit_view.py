"""Formatting of the audit log. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bot.text.markdown import one_line, table
from bot.text.timestamps import timestamp
from database.queries.operations.audit_log import AuditRow


def text(rows: Sequence[AuditRow], *, limit: int) -> str:
    """Return a table, oldest row first."""
    if not rows:
        return "Nothing was done in that time."
    lines = [
        [(timestamp(row.at) or "")[:19].replace("T", " "), _who(row), row.door,
         one_line(f"{row.action} {arguments(row)}", 80), _outcome(row)]
        for row in rows
    ]  # fmt: skip
    shown = table(["at (UTC)", "who", "door", "what", "result"], lines)
    return shown if len(rows) < limit else f"{shown}\n\nThere may be more: ask for a shorter time with `--since`."


def as_json(rows: Sequence[AuditRow]) -> list[dict[str, Any]]:
    return [
        {
            "at": timestamp(row.at),
            "identity": row.identity,
            "through": row.through,
            "door": row.door,
            "connector": row.connector,
            "conversation": row.conversation,
            "action": row.action,
            "arguments": dict(row.arguments),
            "outcome": row.outcome,
            "detail": row.detail,
        }
        for row in rows
    ]


def _who(row: AuditRow) -> str:
    by = "" if row.through is None else f" as {one_line(row.through, 60)}"
    return f"{one_line(row.identity, 60)}{by}"


def _outcome(row: AuditRow) -> str:
    # Only the audit log says what an agent tried in vain, or why it was cut off.
    return one_line(row.detail, 160) if row.door == "egress" and row.detail else row.outcome


def arguments(row: AuditRow) -> str:
    """Return the arguments as `name=value` pairs, each value shortened."""
    return " ".join(f"{name}={one_line(str(given), 60)}" for name, given in row.arguments.items() if given is not None)
