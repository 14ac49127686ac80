"""Formatting of `audit`. Pure."""

from __future__ import annotations

from typing import Any

from bot.read_models.audit import AuditEntry, AuditModel
from bot.text.markdown import one_line, table
from bot.text.timestamps import timestamp


def audit_text(model: AuditModel) -> str:
    """Return a table, oldest entry first."""
    if not model.entries:
        return "Nothing was done in that time."
    rows = [
        [(timestamp(each.at) or "")[:19].replace("T", " "), _who(each), each.door,
         one_line(f"{each.action} {each.arguments}", 80), _outcome(each)]
        for each in reversed(model.entries)
    ]  # fmt: skip
    shown = table(["at (UTC)", "who", "door", "what", "result"], rows)
    return shown if model.before is None else f"{shown}\n\nThere are more: ask for a shorter time with `--since`."


def audit_json(model: AuditModel) -> list[dict[str, Any]]:
    """Return what ``audit --json`` prints, oldest entry first."""
    return [
        {
            "at": timestamp(each.at),
            "identity": each.identity,
            "through": each.through,
            "door": each.door,
            "connector": each.connector,
            "conversation": each.conversation,
            "action": each.action,
            "arguments": dict(each.values or {}),
            "outcome": each.outcome,
            "detail": each.detail,
        }
        for each in reversed(model.entries)
    ]


def _who(entry: AuditEntry) -> str:
    by = "" if entry.through is None else f" as {one_line(entry.through, 60)}"
    return f"{one_line(entry.identity, 60)}{by}"


def _outcome(entry: AuditEntry) -> str:
    # Only the audit log says what an agent tried in vain, or why it was cut off.
    return one_line(entry.detail, 160) if entry.door == "egress" and entry.detail else entry.outcome
