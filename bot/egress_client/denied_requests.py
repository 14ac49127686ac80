"""What an agent tried in vain, so that its thread hears of it and is not filled by it. Pure.

Each host that it may not reach, and each kind of request that is closed to agents, is told by itself once a day. Of
what is new within ten minutes a few are told so, and the rest in one line when those are over. All of it is in the
audit.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.commands.syntax import command_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.ledger.model import Action

#: The actions that are attempts.
REFUSED, ROUTE_REFUSED = "refused", "route-refused"
#: So long is summed up in one line, seconds.
WINDOW_S = 600.0
#: Of an agent, so many subjects are told by themselves in that time.
TOLD = 3
#: What is remembered of an agent within it: the egress writes down no more than some 20 rows a minute.
_MOST_ROWS, _MOST_SUBJECTS = 2_000, 500

_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._*-]+)(?::[0-9]+)?:?\s")


def subject(action: Action) -> str:
    """Return what it is about: the host, or what kind of request."""
    if action.action == ROUTE_REFUSED:
        found = _HOST.match(action.cause)
        return "an address" if found is None else found["host"].lower()
    return action.cause.rpartition(": ")[2][:80]


@dataclass(slots=True)
class _Window:
    until: float
    launch_id: str
    #: By the id of the row, so that one that is read again counts once: its subject, and for how many it stands.
    rows: dict[str, tuple[str, int]] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Attempts:
    """Those of all agents. Kept in memory alone: a restart forgets what it had not summed up yet."""

    _windows: dict[str, _Window] = field(default_factory=dict)
    _known: OrderedDict[tuple[str, str, str], None] = field(default_factory=OrderedDict)
    """What was told of which launch; as much as fits."""

    def meet(self, action: Action, launch_id: str) -> bool:
        """Take an attempt in. Whether it is one to be told by itself; asked again of the same row, the same is said."""
        window = self._windows.get(action.agent)
        if window is None:
            window = self._windows[action.agent] = _Window(until=action.at + WINDOW_S, launch_id=launch_id)
        about = subject(action)
        listed = action.detail.get("attempts")
        further = isinstance(listed, int) and not isinstance(listed, bool)
        alone = not further and (about in window.named or len(window.named) < TOLD)
        if alone and about not in window.named:
            window.named.append(about)
        if not alone and len(window.rows) < _MOST_ROWS:
            window.rows[action.id] = ("" if further else about, listed if further else 1)  # type: ignore[assignment]
        return alone

    def due(self, now: float) -> Iterator[tuple[str, str, str]]:
        """Agent, key and sentence of what is to be summed up now; it is over with that."""
        for agent, window in [each for each in self._windows.items() if each[1].until <= now]:
            del self._windows[agent]
            if (text := self._summed(agent, window)) is not None:
                yield agent, f"egress/{agent}/{window.launch_id}/attempts/{window.until:.3f}", text

    def _summed(self, agent: str, window: _Window) -> str | None:
        subjects = {about for about, _ in window.rows.values() if about}
        if not [about for about in sorted(subjects) if self._is_new(agent, window.launch_id, about)]:
            # Nothing but more of what its thread has read already.
            return None
        count = sum(number for _, number in window.rows.values())
        return (
            f"🚧 {count:,} more of its attempts {'was' if count == 1 else 'were'} refused within ten minutes "
            f"({_some(len(subjects))}); {command_line('audit')} lists them."
        )

    def _is_new(self, agent: str, launch_id: str, about: str) -> bool:
        key = agent, launch_id, about
        if key in self._known:
            return False
        self._known[key] = None
        while len(self._known) > _MOST_SUBJECTS:
            self._known.popitem(last=False)
        return True


def _some(subjects: int) -> str:
    return "one host or kind of request" if subjects == 1 else f"{subjects} hosts or kinds of requests"


def key(action: Action, launch_id: str, day: int) -> str:
    """Under which an attempt is told once: the same agent, launch and subject, and the same day."""
    about = hashlib.blake2s(subject(action).encode(), digest_size=8).hexdigest()
    return f"egress/{action.agent}/{launch_id}/{action.action}/{about}/{day}"
