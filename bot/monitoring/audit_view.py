"""Formatting of `audit`. Pure."""

from __future__ import annotations

from typing import Any, Final

from bot.read_models.audit import AuditEntry, AuditModel, AuditProblem, AuditVerification
from bot.text.markdown import code, one_line, table
from bot.text.timestamps import timestamp

#: Faults that are shown to people; JSON has more.
_MOST_FAULTS: Final = 20


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


def _who(entry: AuditEntry) -> str:
    by = "" if entry.through is None else f" as {one_line(entry.through, 60)}"
    return f"{one_line(entry.identity, 60)}{by}"


def _outcome(entry: AuditEntry) -> str:
    # Only the audit log says what an agent tried in vain, or why it was cut off.
    return one_line(entry.detail, 160) if entry.door == "egress" and entry.detail else entry.outcome
