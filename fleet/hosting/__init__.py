"""Where agent hosts run: as processes of their own, in tmux sessions, or as systemd user units.

Which of them it is, is data: `hosting` of a roster entry, and of the specification that an agent host is started from
(`fleet.control.host_spec`). Whichever it is, the lock says whether the agent host runs, its socket what it does, and
the markers what belongs to it; a hosting only starts it, and takes away what was made around it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from fleet.control.host_spec import AgentSpec
from fleet.errors import FleetError
from fleet.hosting import systemd
from fleet.hosting.detached import Detached
from fleet.hosting.kinds import DEFAULT, HOSTINGS, PROCESS, SYSTEMD, TMUX, Barred, NotHosted, Stuck
from fleet.hosting.systemd import AgentUnit
from fleet.hosting.tmux import TmuxSession

__all__ = [
    "DEFAULT",
    "HOSTINGS",
    "PROCESS",
    "SYSTEMD",
    "TMUX",
    "Barred",
    "Hosting",
    "NotHosted",
    "Stuck",
    "check",
    "of",
]

#: For each hosting that needs a program: the program, and how to get it.
_NEEDS: Final = {
    TMUX: ("tmux", "Install the package tmux"),
    SYSTEMD: ("systemctl", "systemd is how some machines are run, and nothing to install on the others"),
}


class Hosting(Protocol):
    """What an agent host runs in."""

    def start(self, limit_s: float) -> int:
        """Start it, within so many seconds, from the specification in its folder; its process group.

        Raises:
            NotHosted: it was not started; the message says why, and what to do.
            Stuck: it was started, and did not get as far as it should in that time.
        """

    def end(self) -> None:
        """Take away what was made around an agent host that is gone, so that nothing brings it back.

        Raises:
            NotHosted: something is left of it.
        """


def of(spec: AgentSpec) -> Hosting:
    """Return what the agent host of this specification runs in."""
    folder = Path(spec.folder)
    if spec.hosting == TMUX:
        return TmuxSession(agent=spec.agent, folder=folder, socket=spec.tmux_socket or None, viewer=spec.viewer)
    if spec.hosting == SYSTEMD:
        return AgentUnit(agent=spec.agent, folder=folder, installation=spec.installation)
    return Detached(folder=folder)


def check(
    agent: str,
    kind: str,
    which: Callable[[str], str | None] = shutil.which,
    reach: Callable[[], object] = systemd.reach,
) -> None:
    """See whether the machine has what a hosting needs. Blocking.

    Raises:
        FleetError: it has not; the message says what to do.
    """
    program, way = _NEEDS.get(kind, ("", ""))
    if program and which(program) is None:
        raise FleetError(
            f"{agent} is to run in {kind}, and there is no {program} here. {way}, or give {agent} another hosting in "
            f"roster.yaml: {', '.join(each for each in HOSTINGS if each != kind)}.",
            code="hosting.unavailable",
        )
    if kind == SYSTEMD:
        reach()
