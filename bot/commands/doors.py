"""The doors through which commands come in. The audit names them, and a command lists those that it accepts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, TypeAlias, get_args

Door: TypeAlias = Literal["chat", "cli", "tui", "gateway", "web", "tools", "dispatch", "up"]
"""``tools``: an agent's. ``dispatch`` and ``up``: Muster itself, for a task and at its start."""

EVERYWHERE: Final[frozenset[Door]] = frozenset(get_args(Door))
#: The doors that lead through the gateway's socket, which only the person who runs Muster can open. A program there
#: says itself what it is, so a command accepts all of them or none.
AT_HOME: Final[frozenset[Door]] = frozenset({"cli", "tui", "gateway"})

#: Those that people know, as they are called in a sentence.
_CALLED: Final[dict[str, str]] = {
    "chat": "in chat",
    "cli": "in a shell",
    "tui": "in the terminal's dashboard",
    "gateway": "over the gateway",
    "web": "in a browser",
    "tools": "by an agent",
}


def checked(doors: Collection[Door]) -> frozenset[Door]:
    """Return the doors of a declaration.

    Raises:
        ValueError: there are none, one is unknown, or only some of those of the gateway are among them.
    """
    found = frozenset(doors)
    if not found or found - EVERYWHERE:
        raise ValueError(f"doors are some of {sorted(EVERYWHERE)}, not {sorted(found)}")
    if found & AT_HOME not in (AT_HOME, frozenset()):
        raise ValueError(f"the gateway cannot tell {sorted(AT_HOME)} apart: allow all of them or none")
    return found


def called(door: str) -> str:
    """Return where a person is, as a sentence says it."""
    return _CALLED.get(door, f"by {door}")


def listed(doors: frozenset[Door]) -> str:
    """Return where people can give a command."""
    places = [words for door, words in _CALLED.items() if door in doors and door != "tools"]
    return places[0] if len(places) == 1 else f"{', '.join(places[:-1])} or {places[-1]}"
