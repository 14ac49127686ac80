"""The texts that report the egress's actions and refusals to operators. Pure.

A limit crossing is reported once. All later refusals are in the audit log. The thread only shows a refusal if its
reason is new, or after a day, so that an agent's retries do not flood its thread.
"""

from __future__ import annotations

import hashlib
import re

from bot.commands.registry import TABLE
from bot.commands.syntax import command_line, from_shell
from bot.egress_client import denied_requests
from bot.text import markdown
from egress.ledger.model import EXCESS, FOR_NOW, PACE, Action
from fleet.sandbox.profiles import BUILT_IN

#: The actor of actions that no person caused.
EGRESS = "egress"
#: Seconds after which the same refusal is reported again.
AGAIN_S = 86_400.0

#: Characters of a cause that are searched for at the end of a turn.
_GIST = 60

_NUMBERS = re.compile(r"[0-9][0-9.,]*")

#: The end of a refused route's cause that names the setting to change (egress.tunnel.connect_tunnel).
_SAYS_WHERE = "the routes of its sandbox profile in muster.yaml."
#: What to do about a refused call, by the end of its cause (egress.http.proxy).
_CLOSED = {
    ": no provider's": "Base URLs end in `/anthropic` or `/openai/v1`; nothing else is served there.",
    ": not among the calls": (
        "Models are asked, listed and asked to count; agents cannot make any other call of a provider, and no "
        "setting allows one."
    ),
}

#: Not an action of the egress: a refusal that passes as the pace line advances.
PACED = "paced"

_DONE = {
    "cutoff": "🔌 Its way out is closed",
    "freeze": "❄️ It is frozen",
    "kill": "⛔ It is killed, and its conversation given up",
    "refused": "🔴 A request was refused",
    PACED: "⏳ A request was refused, for now",
    EXCESS: "⚠️ A request may pass a limit",
    "route-refused": "🚧 It wanted to reach a host that it may not",
}


def about(action: Action) -> list[str] | None:
    """Return the agents that met a limit, or None if the action is not a limit crossing."""
    if action.action != "limit":
        return None
    named = action.detail.get("agents")
    return [str(name) for name in named] if isinstance(named, list) else [action.agent]


def crossing(action: Action) -> str:
    """Return the report of a limit crossing."""
    return f"🔴 {_cause(action, 600)}"


def told(action: Action, *, profile: str | None = None) -> str | None:
    """Return the report for the agent's thread, or None if there is none, because a person gave the command.

    Args:
        action: the action.
        profile: the agent's sandbox profile, if known.
    """
    if action.by != EGRESS or action.action not in _DONE:
        return None
    if action.action == "refused" and action.result == FOR_NOW:
        # Its client waits and retries; the audit log contains the refusal.
        return None
    done = _DONE[PACED if is_of_the_pace(action) else action.action]
    return f"{done}: {_cause(action, 500)}{_way_out(action, profile)}"


def is_attempt(action: Action) -> bool:
    """Return whether an agent tried something that is closed to it regardless of its budget; it may repeat that."""
    if action.by != EGRESS or action.action not in (denied_requests.REFUSED, denied_requests.ROUTE_REFUSED):
        return False
    # Only the admission gate sets `scope`, to the budget or to None.
    return "scope" not in action.detail


def is_of_the_gate(action: Action) -> bool:
    """Return whether a budget, a cut-off, the emergency stop or a missing account refused a request."""
    return action.by == EGRESS and action.action == denied_requests.REFUSED and "scope" in action.detail


def is_of_the_pace(action: Action) -> bool:
    """Return whether a request was refused because usage is ahead of the pace, although the limit is not reached."""
    return action.by == EGRESS and action.action == denied_requests.REFUSED and action.detail.get("why") == PACE


def quotes(text: str, action: Action) -> bool:
    """Return whether `text`, the end of a turn, gives this refusal as its reason. Amounts may differ."""
    return _gist(action.cause)[:_GIST] in _gist(text)


def _gist(text: str) -> str:
    return " ".join(_NUMBERS.sub("", text).split())


def key(action: Action, launch_id: str) -> str:
    """Return the key under which an action is reported once: per agent, launch, action, reason and day."""
    day = int(action.at // AGAIN_S)
    if is_attempt(action):
        return denied_requests.key(action, launch_id, day)
    # The amount used differs each time.
    reason = hashlib.blake2s(_NUMBERS.sub("", action.cause).encode(), digest_size=8).hexdigest()
    return f"egress/{action.agent}/{launch_id}/{action.action}/{reason}/{day}"


def _cause(action: Action, width: int) -> str:
    return from_shell(markdown.one_line(action.cause, width), TABLE)


def _way_out(action: Action, profile: str | None) -> str:
    name = action.agent
    match action.action:
        case "freeze":
            return f" {command_line(f'resume {name}')} brings it back."
        case "kill":
            return f" {command_line(f'launch {name}')} starts it again."
        case "route-refused" if action.cause.endswith(_SAYS_WHERE):
            built_in = (
                profile in BUILT_IN and f" {markdown.code(str(profile))} is built in: make one that `extends` it."
            )
            then = f"{command_line('roster apply')}, and {command_line(f'restart {name}')}"
            return f"{built_in or ''} Then {then}."
        case "route-refused":
            return " It may reach the hosts under `routes` of its sandbox profile in muster.yaml."
        case "refused" if is_attempt(action):
            return next((f" {opens}" for ending, opens in _CLOSED.items() if action.cause.endswith(ending)), "")
        case "refused" if is_of_the_pace(action):
            return f" {command_line('pace')} shows how far ahead it is."
        case "refused" if action.detail.get("scope") is not None:
            return f" {command_line('budget')} shows what is left."
        case "refused" if action.cause.startswith("The egress knows no account"):
            return " Accounts are in muster.yaml, and `account` in roster.yaml names the agent's own."
    # The text of a cut-off or an emergency stop already says how to end it.
    return ""
