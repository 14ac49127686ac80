"""An agent host as a systemd user unit of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.hosting import systemd_unit_text
from fleet.hosting.host_command_line import environment
from fleet.hosting.kinds import NotHosted
from fleet.hosting.subprocess_runner import ask

#: Seconds for an answer of systemd; a start and a stop have their own.
_PATIENCE_S: Final = 20.0
_REACH_S: Final = 5.0

#: Beside the units, the links to those that a boot starts.
WANTS: Final = "default.target.wants"

HOW_TO_REACH: Final = (
    "Log in as this user (su and sudo do not start the user's systemd), or let it run without a login: "
    "loginctl enable-linger. Or choose another hosting in roster.yaml."
)


def folder() -> Path:
    """Return where a person's units are (systemd.unit(5), user unit search path)."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(given) if os.path.isabs(given) else Path(os.environ.get("HOME") or os.path.expanduser("~")) / ".config"
    return home / "systemd" / "user"


def systemctl(words: Sequence[str], *, limit_s: float = _PATIENCE_S) -> str:
    """Run ``systemctl --user``; what it printed.

    Raises:
        NotHosted: it refused, or is not there; the message has the command and what it said.
    """
    command = ["systemctl", "--user", *words]
    try:
        done = ask(command, limit_s)
    except FileNotFoundError:
        raise NotHosted("There is no systemd here. Choose another hosting in roster.yaml.") from None
    except subprocess.TimeoutExpired:
        raise NotHosted(f"`{' '.join(command)}` did not end in {limit_s:g} s.") from None
    if done.returncode != 0:
        said = done.stderr.strip()[:1000] or f"it ended with status {done.returncode}"
        way = f" {HOW_TO_REACH}" if "bus" in said else ""
        raise NotHosted(f"`{' '.join(command)}` failed: {said.rstrip('.')}.{way}")
    return done.stdout


def reach() -> None:
    """See whether the user's systemd answers: its program can be there where it does not run.

    Raises:
        NotHosted: it does not.
    """
    systemctl(["show-environment"], limit_s=_REACH_S)


def write(unit: str, text: str) -> bool:
    """Write a unit where systemd finds it, whole or not at all. False when it was there just so."""
    place = folder() / unit
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if place.read_text(encoding="utf-8") == text:
            return False
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.part")
    part.write_text(text, encoding="utf-8")
    part.chmod(0o644)
    part.replace(place)
    return True


def is_enabled(unit: str) -> bool:
    """Return whether a boot starts it: whether `enable` has made its link (systemd.unit(5), WantedBy=)."""
    return os.path.lexists(folder() / WANTS / unit)


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentUnit:
    """The unit of one agent."""

    agent: str
    folder: Path
    """The agent's."""
    installation: str = ""

    @property
    def name(self) -> str:
        return systemd_unit_text.agent_name(self.installation, self.agent)

    @property
    def text(self) -> str:
        """What the unit is to say."""
        return systemd_unit_text.agent_unit(
            agent=self.agent, folder=self.folder, installation=self.installation, variables=environment()
        )

    def start(self, limit_s: float) -> int:
        """Have the unit written, enabled and started; the process group of the agent host."""
        if write(self.name, self.text):
            systemctl(["daemon-reload"])
        if not is_enabled(self.name):
            systemctl(["enable", self.name])
        (self.folder / systemd_unit_text.WANTED).touch(mode=0o600)
        try:
            systemctl(["start", self.name], limit_s=limit_s + _PATIENCE_S)
            group = systemctl(["show", "--property=MainPID", "--value", self.name]).strip()
        except NotHosted:
            with contextlib.suppress(NotHosted):
                self.end()
            raise
        return int(group) if group.isdigit() else 0

    def end(self) -> None:
        """Stop the unit; neither systemd nor a boot starts it again."""
        (self.folder / systemd_unit_text.WANTED).unlink(missing_ok=True)
        if (folder() / self.name).exists():
            systemctl(["stop", self.name], limit_s=systemd_unit_text.STOP_S + _PATIENCE_S)
            with contextlib.suppress(NotHosted):
                systemctl(["reset-failed", self.name])
