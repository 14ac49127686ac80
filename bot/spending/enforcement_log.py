"""What was done to limits and because of them, from the audit: by commands, by the egress, and by Muster. Pure.

It imports nothing heavy, so that the log can be shown without the orchestrator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from bot.read_models.limits import MOST_ENFORCEMENTS, Enforcement
from egress.ledger.model import EXCESS, PACE

_DOOR: Final = "egress"
#: The actor of a pause (`bot.pacing.runaway_guard`).
_MUSTER: Final = "muster"
_COMMANDS: Final = {"budget set": "budget_set", "budget clear": "budget_cleared", "budget authorize": "authorized"}
_ESTOP: Final = {"estop": "estop", "estop-clear": "estop_over"}
_ACTIONS: Final = {
    "limit": "used_up", "cutoff": "cut_off", "restore": "restored", "freeze": "frozen", "kill": "killed",
    "refused": "refused", EXCESS: "ran_alone",
}  # fmt: skip
#: The actions to read from the audit.
ACTIONS: Final = (*_COMMANDS, *_ESTOP, *_ACTIONS)
#: Causes of a cut-off or an opening that only belong to the end or the start of an agent.
_PASSING: Final = re.compile(r"(to (freeze|kill|stop) it|started again)$")
#: Seconds within which the same emergency stop is recorded by the command and by the egress.
_SAME_STOP_S: Final = 60.0
_REPEATED: Final = ("refused", "held_by_pace")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditedAction:
    """A line of the audit, or an action of the egress that is not in it yet."""

    at: float
    identity: str
    door: str
    action: str
    arguments: Mapping[str, Any]
    outcome: str = "done"
    why: str | None = None


def enforcements(rows: Iterable[AuditedAction]) -> tuple[Enforcement, ...]:
    """Return the log, the newest first.

    Args:
        rows: those with `ACTIONS`, the newest first.
    """
    found: list[Enforcement] = []
    repeated: dict[tuple[str, str | None, str | None], int] = {}
    for row in rows:
        made = _of(row)
        if made is None or (made.kind in _ESTOP.values() and _is_told(made, found)):
            continue
        same = made.kind, made.agent, made.scope
        if made.kind in _REPEATED and same in repeated:
            latest = found[repeated[same]]
            last = latest.at if latest.last_at is None else latest.last_at
            found[repeated[same]] = replace(latest, at=made.at, last_at=last, times=latest.times + 1)
            continue
        repeated[same] = len(found)
        found.append(made)
    return tuple(found[:MOST_ENFORCEMENTS])


def _is_told(made: Enforcement, found: list[Enforcement]) -> bool:
    """Return whether the same stop is in the log, with the person if one is known."""
    for place, each in enumerate(found):
        if each.kind == made.kind and abs(each.at - made.at) <= _SAME_STOP_S:
            if each.by == _DOOR:
                found[place] = made
            return True
    return False


def _of(row: AuditedAction) -> Enforcement | None:
    arguments = row.arguments
    agent, scope = _text(arguments.get("agent")), _text(arguments.get("scope"))
    if row.door != _DOOR:
        kind = _COMMANDS.get(row.action)
        if row.action == "estop":
            kind = "estop_over" if arguments.get("clear") else "estop"
        # Cut-offs by command are in the egress's own lines.
        if kind is None or row.outcome != "done":
            return None
        agent = scope.removeprefix("agent:") if scope is not None and scope.startswith("agent:") else None
        return Enforcement(at=row.at, kind=kind, by=row.identity, agent=agent, scope=scope, why=row.why)  # type: ignore[arg-type]
    why = row.why
    kind = _ACTIONS.get(row.action) or _ESTOP.get(row.action)
    if row.action == "cutoff" and row.identity == _MUSTER:
        kind = "paused"
    if row.action == "refused":
        if scope is None:
            # An agent tried what is closed to it regardless of its budget, or an earlier version wrote the line.
            return None
        kind = "held_by_pace" if arguments.get("why") == PACE else "refused"
    if kind is None or (why is not None and _PASSING.search(why)):
        return None
    if row.action in ("freeze", "kill") and row.identity != _DOOR:
        return None
    agent = None if row.action in _ESTOP or agent == "*" else agent
    return Enforcement(at=row.at, kind=kind, by=row.identity, agent=agent, scope=scope, why=why)  # type: ignore[arg-type]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
