"""Reports of denied requests that inform an agent's thread without flooding it. Pure.

Each forbidden host, and each kind of forbidden request, is reported at most once a day. Of the new ones within ten
minutes, the first few are reported individually, and the rest in one line afterwards. The audit log contains all.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from bot.commands.syntax import command_line
from egress.ledger.model import Action

#: The actions that count as attempts.
REFUSED, ROUTE_REFUSED = "refused", "route-refused"
#: Seconds of attempts that one line summarizes.
WINDOW_S = 600.0
#: Subjects per agent that are reported individually in that time.
TOLD = 3
#: Rows and subjects to remember per agent in that time. The egress writes about 20 rows a minute at most.
_MOST_ROWS, _MOST_SUBJECTS = 2_000, 500

_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._*-]+)(?::[0-9]+)?:?\s")


def subject(action: Action) -> str:
    """Return the subject of an attempt: the host, or the kind of request."""
    if action.action == ROUTE_REFUSED:
        found = _HOST.match(action.cause)
        return "an address" if found is None else found["host"].lower()
    return action.cause.rpartition(": ")[2][:80]


@dataclass(slots=True)
class _Window:
    until: float
    launch_id: str
    #: By row id, so that a row read twice counts once: its subject, and the number of attempts in it.
    rows: dict[str, tuple[str, int]] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)


@dataclass(slots=True)
class DeniedRequests:
    """The attempts of all agents. They are in memory only, so a restart loses what is not summarized yet."""

    _windows: dict[str, _Window] = field(default_factory=dict)
    _known: OrderedDict[tuple[str, str, str], None] = field(default_factory=OrderedDict)
    """The reported subjects by agent and launch; the oldest are forgotten."""

    def meet(self, action: Action, launch_id: str) -> bool:
        """Record an attempt, and return whether to report it individually; the same row gives the same answer."""
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
        """Yield agent, key and text of each summary that is due, and close its window."""
        for agent, window in [each for each in self._windows.items() if each[1].until <= now]:
            del self._windows[agent]
            if (text := self._summed(agent, window)) is not None:
                yield agent, f"egress/{agent}/{window.launch_id}/attempts/{window.until:.3f}", text

    def _summed(self, agent: str, window: _Window) -> str | None:
        subjects = {about for about, _ in window.rows.values() if about}
        if not [about for about in sorted(subjects) if self._is_new(agent, window.launch_id, about)]:
            # The thread has already been informed of all of these.
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
    """Return the key under which an attempt is reported once: per agent, launch, action, subject and day."""
    about = hashlib.blake2s(subject(action).encode(), digest_size=8).hexdigest()
    return f"egress/{action.agent}/{launch_id}/{action.action}/{about}/{day}"
