"""The systemd units of an installation: comparison with the desired units, and the changes.

Only the roster decides which agents have a unit (`hosting: systemd`). An added agent gets a unit. The unit of an agent
that was removed or has another hosting is disabled and deleted, so that no boot starts it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bot.config.paths import Paths
from bot.egress_client.process import command
from fleet.hosting import SYSTEMD, NotHosted, systemd, systemd_unit_text
from fleet.hosting.host_command_line import environment
from fleet.hosting.systemd import AgentUnit
from fleet.roster.schema import AgentEntry

#: Variables that locate the installation and tmux's default server for an orchestrator that systemd starts.
_PLACES = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "TMUX_TMPDIR")


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitChange:
    """The changes from the present units to the desired ones; false if there are none."""

    write: Mapping[str, str]
    """Missing or outdated units, with their new text."""
    enable: tuple[str, ...]
    """Units to enable at boot."""
    drop: tuple[str, ...]
    """Units to remove."""

    def __bool__(self) -> bool:
        return bool(self.write or self.enable or self.drop)

    def commands(self) -> list[list[str]]:
        """Return the `systemctl --user` calls in order. Write files before them, and delete files before the reload."""
        return [
            *([["disable", *self.drop]] if self.drop else []),
            *([["daemon-reload"]] if self.write or self.drop else []),
            *([["enable", *self.enable]] if self.enable else []),
        ]


def change(wanted: Mapping[str, str], present: Mapping[str, str], enabled: Collection[str]) -> UnitChange:
    """Compare the units and return the changes.

    Args:
        wanted: the desired units, with their text.
        present: the existing units of this installation.
        enabled: the units that start at boot.
    """
    return UnitChange(
        write={name: text for name, text in wanted.items() if present.get(name) != text},
        enable=tuple(name for name in wanted if name not in enabled),
        drop=tuple(name for name in present if name not in wanted),
    )


def of_agents(paths: Paths, agents: Iterable[AgentEntry]) -> dict[str, str]:
    """Return the desired units for the agents of a roster."""
    made = [
        AgentUnit(agent=entry.name, folder=paths.agent_folder(entry.name), installation=paths.label)
        for entry in agents
        if entry.hosting == SYSTEMD
    ]
    return {unit.name: unit.text for unit in made}


def of_orchestrator(paths: Paths, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the units of the orchestrator and of the egress."""
    variables = {**environment(environ), **{name: environ[name] for name in _PLACES if environ.get(name)}}
    if paths.home is not None:
        variables["MUSTER_HOME"] = str(paths.home)
    text = systemd_unit_text.orchestrator_unit(folder=paths.state, secrets=secrets_of(paths), variables=variables)
    egress = systemd_unit_text.egress_unit(
        installation=paths.label,
        command=command(paths),
        folder=paths.state,
        secrets=secrets_of(paths),
        variables=environment(environ),
    )
    return {systemd_unit_text.orchestrator_name(paths.label): text, systemd_unit_text.egress_name(paths.label): egress}


def secrets_of(paths: Paths) -> Path:
    """Return the file from which systemd sets the orchestrator's variables, for references ``env:NAME``."""
    return paths.config / "secrets.env"


def present(paths: Paths, *, orchestrator: bool) -> tuple[dict[str, str], frozenset[str]]:
    """Return the existing units of this installation, and which of them are enabled at boot.

    Args:
        paths: the installation.
        orchestrator: include the units of the orchestrator and of the egress.
    """
    folder = systemd.folder()
    texts: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            ours = orchestrator and path.name in {
                systemd_unit_text.orchestrator_name(paths.label), systemd_unit_text.egress_name(paths.label)
            }  # fmt: skip
            if ours or systemd_unit_text.agent_of(paths.label, path.name) is not None:
                with contextlib.suppress(OSError):
                    texts[path.name] = path.read_text(encoding="utf-8", errors="replace")
    return texts, frozenset(filter(systemd.is_enabled, texts))


def make(todo: UnitChange) -> list[str]:
    """Apply the changes as far as possible; return each failure with the command to run."""
    refused: list[str] = []
    for name, text in todo.write.items():
        try:
            systemd.write(name, text)
        except OSError as error:
            refused.append(f"The unit {systemd.folder() / name} cannot be written: {error.strerror}.")
    for words in todo.commands():
        if words[0] == "daemon-reload":
            _delete(todo.drop, refused)
        try:
            systemd.systemctl(words)
        except NotHosted as error:
            command = " ".join(["systemctl", "--user", *words])
            refused.append(f"{error} When that is fixed, run: {command}")
    return refused


def _delete(names: Iterable[str], refused: list[str]) -> None:
    folder = systemd.folder()
    for name in names:
        try:
            (folder / name).unlink(missing_ok=True)
            # The link that `disable` could not remove.
            (folder / systemd.WANTS / name).unlink(missing_ok=True)
        except OSError as error:
            refused.append(f"The unit {folder / name} cannot be deleted: {error.strerror}. Delete it.")


def settle(paths: Paths, agents: Iterable[AgentEntry]) -> list[str]:
    """Bring the agents' units in line with the roster; return what to do for each failure."""
    try:
        wanted = of_agents(paths, agents)
    except NotHosted as error:
        return [str(error)]
    texts, enabled = present(paths, orchestrator=False)
    todo = change(wanted, texts, enabled)
    return make(todo) if todo else []
