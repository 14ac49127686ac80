"""`muster install` and its reversal: start Muster when the machine starts.

The orchestrator gets a systemd user unit, and so does each agent with `hosting: systemd`. What systemd refuses is
reported with the command to run, and nothing else is reverted.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bot.config.loader import check
from bot.config.paths import Paths
from bot.setup import systemd_units
from bot.setup.boot_secrets import missing_at_boot
from bot.text.errors import UserError
from fleet.errors import FleetError
from fleet.hosting import SYSTEMD, NotHosted, systemd
from fleet.hosting.subprocess_runner import ask
from fleet.hosting.systemd_unit_text import orchestrator_name
from fleet.roster import edit

_PATIENCE_S = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The changes that were made, or would be."""

    done: Sequence[str]
    warnings: Sequence[str] = field(default_factory=tuple)


def install(paths: Paths, environ: Mapping[str, str], *, agents_too: bool, dry_run: bool) -> Report:
    """Make the machine start Muster at boot.

    Args:
        paths: the installation.
        environ: the environment that resolves references to secrets and locates the installation.
        agents_too: give every agent without a `hosting` its own unit.
        dry_run: only report what would change.

    Raises:
        UserError: nothing was changed; the message says why.
    """
    found = check(paths)
    if found.problems or found.roster is None or found.settings is None:
        first = found.problems[0] if found.problems else "it cannot be read"
        raise UserError(
            f"Muster would not start here: {first} `muster config check` lists what is wrong.", code="config.invalid"
        )
    done = []
    agents = found.roster.agents
    unsaid = [entry.name for entry in agents if entry.hosting is None]
    if agents_too and unsaid:
        agents = tuple(entry if entry.hosting else entry.model_copy(update={"hosting": SYSTEMD}) for entry in agents)
        said = "would say" if dry_run else "says now"
        done.append(f"{paths.roster_yaml} {said} `hosting: systemd` for {', '.join(unsaid)}, from its next start on.")
        if not dry_run:
            try:
                edit.set_default(paths.roster_yaml, "hosting", SYSTEMD)
            except FleetError as error:
                raise UserError(str(error), code=error.code) from error
    elif unsaid:
        done.append(
            f"Without a unit of their own, and brought back by the orchestrator where they are persistent: "
            f"{', '.join(unsaid)}. `muster install --agents` creates one for each."
        )
    try:
        wanted = {**systemd_units.of_agents(paths, agents), **systemd_units.of_orchestrator(paths, environ)}
    except NotHosted as error:
        raise UserError(str(error), code=error.code) from error
    texts, enabled = systemd_units.present(paths, orchestrator=True)
    todo = systemd_units.change(wanted, texts, enabled)
    if dry_run:
        return Report(done=[*done, *_shown(todo)], warnings=missing_at_boot(paths, found))
    paths.prepare()
    refused = systemd_units.make(todo)
    done += [f"Wrote {systemd.folder() / name}." for name in todo.write]
    done += [f"Removed {name}, because its agent no longer has a unit." for name in todo.drop]
    done += [f"Enabled {name}." for name in todo.enable if not refused]
    refused += _linger()
    name = orchestrator_name(paths.label)
    done.append(f"Start Muster with `systemctl --user start {name}` (`muster down` first, where it runs already).")
    return Report(done=done, warnings=[*refused, *missing_at_boot(paths, found)])


def uninstall(paths: Paths, *, dry_run: bool) -> Report:
    """Remove the units. Running processes continue, and the roster is not changed."""
    texts, enabled = systemd_units.present(paths, orchestrator=True)
    todo = systemd_units.change({}, texts, enabled)
    if not todo:
        return Report(done=["There are no units of this installation; nothing was changed."])
    if dry_run:
        return Report(done=_shown(todo))
    refused = systemd_units.make(todo)
    roster = check(paths).roster
    again = [entry.name for entry in (roster.agents if roster else ()) if entry.hosting == SYSTEMD]
    listed = (
        f"{paths.roster_yaml} says `hosting: systemd` for {', '.join(again)}: their units return when Muster starts."
    )
    return Report(
        done=[
            *(f"Removed {systemd.folder() / name}." for name in todo.drop),
            *([f"{listed} Delete that setting to prevent it."] if again else []),
            "Running processes continue until they are stopped: `muster down --all` stops Muster and its agents.",
            "Your services may still run while you are not logged in; `loginctl disable-linger` ends that.",
        ],
        warnings=refused,
    )


def _shown(todo: systemd_units.UnitChange) -> list[str]:
    lines = []
    for name, text in todo.write.items():
        lines += [f"# {systemd.folder() / name}", text]
    lines += [f"rm {systemd.folder() / name}" for name in todo.drop]
    lines += [" ".join(["systemctl", "--user", *words]) for words in todo.commands()]
    return [*lines, "loginctl enable-linger"] if todo.write or todo.enable else lines or ["Nothing would be changed."]


def _linger() -> list[str]:
    """Make the user's systemd run from boot, without a login (loginctl(1), enable-linger)."""
    by_hand = f"sudo loginctl enable-linger {_person()}"
    without = f"Until then Muster ends when you log out, and comes back when you log in. Run: {by_hand}"
    if shutil.which("loginctl") is None:
        return [f"There is no loginctl here. {without}"]
    try:
        done = ask(["loginctl", "enable-linger"], _PATIENCE_S)
    except subprocess.TimeoutExpired:
        return [f"`loginctl enable-linger` did not end. {without}"]
    said = done.stderr.strip()[:500] or f"it ended with status {done.returncode}"
    return [] if done.returncode == 0 else [f"`loginctl enable-linger` failed: {said.rstrip('.')}. {without}"]


def _person() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
