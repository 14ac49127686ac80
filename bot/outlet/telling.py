"""What operators are told of what the egress did to an agent, and of what it let it not do. Pure.

A crossing is told once. Each refusal after it is in the audit, and in the thread only when the reason is another one,
or a day has passed: an agent that tries on and on must not fill its own thread.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from bot import rendering
from bot.commands.lines import command_line, from_shell
from bot.commands.table import TABLE
from egress.entries import FOR_NOW

if TYPE_CHECKING:
    from egress.entries import Action

#: Who acts when no person does.
EGRESS = "egress"
#: The same refusal is told again after so many seconds.
AGAIN_S = 86_400.0

_NUMBERS = re.compile(r"[0-9][0-9.,]*")

_DONE = {
    "cutoff": "🔌 Its way out is closed",
    "freeze": "❄️ It is frozen",
    "kill": "⛔ It is killed, and its conversation given up",
    "refused": "🔴 A request was refused",
    "route-refused": "🚧 It wanted to reach a host that it may not",
}


def about(action: Action) -> list[str] | None:
    """The agents that met a limit with this; None: it is no crossing."""
    if action.action != "limit":
        return None
    named = action.detail.get("agents")
    return [str(name) for name in named] if isinstance(named, list) else [action.agent]


def crossing(action: Action) -> str:
    """What those are told."""
    return f"🔴 {_cause(action, 600)}"


def told(action: Action) -> str | None:
    """What is said in the agent's thread; None: nothing, since whoever did it was answered."""
    if action.by != EGRESS or action.action not in _DONE:
        return None
    if action.action == "refused" and action.result == FOR_NOW:
        # Its client waits and asks again by itself; the audit has it.
        return None
    return f"{_DONE[action.action]}: {_cause(action, 500)}{_way_out(action)}"


def key(action: Action, launch_id: str) -> str:
    """Under which it is told once: the same agent, launch, action and reason, and the same day."""
    # How much of it is used is another number each time.
    reason = hashlib.blake2s(_NUMBERS.sub("", action.cause).encode(), digest_size=8).hexdigest()
    return f"egress/{action.agent}/{launch_id}/{action.action}/{reason}/{int(action.at // AGAIN_S)}"


def _cause(action: Action, width: int) -> str:
    return from_shell(rendering.one_line(action.cause, width), TABLE)


def _way_out(action: Action) -> str:
    name = action.agent
    match action.action:
        case "freeze":
            return f" {command_line(f'resume {name}')} brings it back."
        case "kill":
            return f" {command_line(f'launch {name}')} starts it anew."
        case "route-refused" if "muster.yaml" in action.cause:
            return ""
        case "route-refused":
            return " Routes are listed in its sandbox profile, in muster.yaml."
        case "refused" if "budget" not in action.cause:
            # A cut-off or the emergency stop, which says itself what ends it.
            return ""
    return f" {command_line('budget')} shows what is left."
