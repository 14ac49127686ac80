"""Formatting of the audit log. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bot.read_models.audit import AuditProblem, AuditVerification
from bot.text.markdown import code, one_line, table
from bot.text.timestamps import timestamp
from database.queries.operations.audit_log import AuditRow

#: Faults that are shown to people; JSON has more.
_MOST_FAULTS: Final = 20


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


def verification_text(found: AuditVerification) -> str:
    """Return whether the audit log is as Muster wrote it, and where it is not."""
    signed = "no line was signed yet" if found.signed_at is None else f"last signed at {_moment(found.signed_at)}"
    begin = (
        "" if found.begins_at is None else f" Older lines expired and were deleted until {_moment(found.begins_at)}."
    )
    key = f"The key of this installation is {code(found.key)}."
    if not found.faults:
        return f"The audit log is as Muster wrote it: {found.lines} lines, {signed}.{begin} {key}"
    faults = "\n".join(f"- {_fault(each)}" for each in found.faults[:_MOST_FAULTS])
    rest = len(found.faults) + found.more_faults - _MOST_FAULTS
    more = f"\n- and {rest} more" if rest > 0 else ""
    return (
        f"**The audit log is not as Muster wrote it** ({found.lines} lines, {signed}):\n\n{faults}{more}\n\n"
        f"Compare it with a backup, and find out who can write in the register.{begin} {key}"
    )


def verification_json(found: AuditVerification) -> dict[str, Any]:
    return {
        "ok": not found.faults,
        "lines": found.lines,
        "signatures": found.signatures,
        "signed_at": timestamp(found.signed_at),
        "begins_at": timestamp(found.begins_at),
        "head": found.head,
        "key": found.key,
        "faults": [
            {"code": each.code, "line": each.seq, "at": timestamp(each.at), "key": each.key} for each in found.faults
        ],
        "more_faults": found.more_faults,
    }


def _fault(fault: AuditProblem) -> str:
    line, at = f"line {fault.seq}", _moment(fault.at)
    match fault.code:
        case "unchained":
            return f"{line} ({at}) has no digest: an earlier version of Muster wrote it, or somebody inserted it"
        case "broken":
            return f"{line} ({at}) does not follow the line before: one of them was altered, deleted, inserted or moved"
        case "anchor_missing":
            return f"{line} was signed at {at}, and is not there as it was then"
        case "anchor_unknown_key":
            hint = "if it is one of yours, repeat this with `--key`"
            return f"{line} was signed at {at} by the unknown key {code(one_line(fault.key or '', 60))}; {hint}"
        case _:
            return f"the signature of {line} ({at}) is invalid: it was altered"


def _moment(at: float | None) -> str:
    return f"{(timestamp(at) or 'unknown')[:19].replace('T', ' ')} UTC"


def _who(row: AuditRow) -> str:
    by = "" if row.through is None else f" as {one_line(row.through, 60)}"
    return f"{one_line(row.identity, 60)}{by}"


def _outcome(row: AuditRow) -> str:
    # Only the audit log says what an agent tried in vain, or why it was cut off.
    return one_line(row.detail, 160) if row.door == "egress" and row.detail else row.outcome


def arguments(row: AuditRow) -> str:
    """Return the arguments as `name=value` pairs, each value shortened."""
    return " ".join(f"{name}={one_line(str(given), 60)}" for name, given in row.arguments.items() if given is not None)
