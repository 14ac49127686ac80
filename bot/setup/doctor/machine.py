"""The machine: Python, programs, the sandbox and the agents' runtimes."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.config.loader import Check
from bot.setup import node_version
from bot.setup.doctor.finding import PATIENCE, DoctorFinding
from fleet import program_lookup, runtimes
from fleet.hosting import SYSTEMD
from fleet.sandbox import process_limits, profiles, selection
from fleet.sandbox.profiles import SandboxProfile

#: Minimum versions for clones of hostile workspaces (fleet.workspace.sandboxed_git), for tmux sessions
#: (fleet.hosting.tmux), and for most runtimes.
_GIT: Final = (2, 30)
_TMUX: Final = (3, 0)
_NODE: Final = (20, 0)


def python(version: tuple[int, ...]) -> DoctorFinding:
    shown = ".".join(map(str, version))
    if version >= (3, 11):
        return DoctorFinding(name="Python", state="ok", found=shown)
    return DoctorFinding(name="Python", state="wrong", found=shown, way="Install Python 3.11 or newer.")


@dataclass(frozen=True, slots=True)
class _Program:
    name: str
    arguments: tuple[str, ...]
    costs: str
    way: str
    least: tuple[int, ...] = ()


_PROGRAMS = (
    _Program(
        "git",
        ("--version",),
        "Agents have no repositories to work in.",
        "Install the package git, 2.30 or newer.",
        _GIT,
    ),
    _Program(
        "tmux",
        ("-V",),
        "No agent can have hosting: tmux, so `muster attach` has nothing to show; `muster watch` works without it.",
        "Install the package tmux, 3.0 or newer.",
        _TMUX,
    ),
    _Program(
        "podman",
        ("--version",),
        "No containers as sandboxes; bubblewrap works without it.",
        "Install the package podman, or Docker.",
    ),
    _Program(
        "node",
        ("--version",),
        "Claude Code, Codex and pi do not run; opencode and the built-in agent do.",
        "Install Node.js 22 or newer (20 is enough for Claude Code and Codex).",
        _NODE,
    ),
    _Program("npm", ("--version",), "Agents' programs cannot be installed from here.", "It comes with Node.js."),
)


def installed(which: Callable[[str], str | None]) -> Iterator[DoctorFinding]:
    for program in _PROGRAMS:
        place = which(program.name)
        if place is None and program.name == "podman":
            place = which("docker")
        if place is None:
            yield DoctorFinding(
                name=program.name, state="missing", found="not found", costs=program.costs, way=program.way
            )
            continue
        said = version_of([place, *program.arguments])
        numbers = tuple(map(int, re.findall(r"\d+", said or "")[:3]))
        if said is None:
            yield DoctorFinding(
                name=program.name,
                state="wrong" if program.name == "git" else "missing",
                found=f"{place} does not answer",
                costs=program.costs,
                way=program.way,
            )
        elif numbers < program.least:
            yield DoctorFinding(name=program.name, state="missing", found=said, costs=program.costs, way=program.way)
        else:
            yield DoctorFinding(name=program.name, state="ok", found=said)


def version_of(command: Sequence[str]) -> str | None:
    """Return the first line of a program's output, or None if it fails."""
    try:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    line = "".join(sign for sign in lines[0] if sign.isprintable())[:80] if lines else ""
    return line if done.returncode == 0 and line else None


def bubblewrap(found: selection.Availability, *, sizes_tmpfs: bool = True) -> DoctorFinding:
    if found.works and not sizes_tmpfs:
        return DoctorFinding(
            name="bubblewrap",
            state="missing",
            found="works here, but cannot limit files in memory",
            costs="An agent may fill half of this machine's memory with files in each of /tmp, /var/tmp and /dev/shm.",
            way="Install bubblewrap 0.8 or newer, without its set-user-ID bit.",
        )
    if found.works:
        return DoctorFinding(name="bubblewrap", state="ok", found="works here")
    return DoctorFinding(
        name="bubblewrap",
        state="missing",
        found="does not work here",
        costs="Agents have no sandbox: each needs `sandbox: none`, and could then control Muster.",
        way=found.reason,
    )


def containers(
    checked: Check, tried: Callable[[SandboxProfile], selection.Availability] = selection.container_available
) -> Iterator[DoctorFinding]:
    """Try each sandbox profile that is a container, as an agent's start does."""
    for profile in _profiles(checked, "container"):
        found = tried(profile)
        yield DoctorFinding(
            name=f"sandbox {profile.name}",
            state="ok" if found.works else "wrong",
            found="works here" if found.works else "does not work here",
            costs="Agents of this sandbox profile do not start.",
            way=found.reason,
        )


def _profiles(checked: Check, kind: str) -> list[SandboxProfile]:
    if checked.settings is None:
        return []
    try:
        known = profiles.merged({name: each.written() for name, each in checked.settings.sandboxes.items()})
    except profiles.ProfileProblem:
        return []  # said of the configuration
    return [profile for profile in known.values() if profile.kind == kind]


def limits_of_profiles(
    checked: Check, *, root: bool, release: str, controllers: frozenset[str]
) -> Iterator[DoctorFinding]:
    """Find the limits of sandbox profiles that this machine cannot enforce.

    Args:
        checked: the configuration.
        root: whether Muster runs as root.
        release: the release of the kernel.
        controllers: the controllers of control groups version 2 (`control_group_controllers`).
    """
    agents = checked.roster.agents if checked.roster else ()
    for profile in _profiles(checked, "bubblewrap"):
        hostings = {entry.hosting for entry in agents if (entry.sandbox or profiles.DEFAULT) == profile.name}
        grouped = hostings == {SYSTEMD} and {"memory", "pids"} <= controllers
        for each in process_limits.unheld(profile.memory, profile.pids, release=release, root=root, grouped=grouped):
            yield DoctorFinding(
                name=f"sandboxes.{profile.name}.{each.key}",
                state="missing" if each.at_all else "wrong",
                found="holds in part" if each.at_all else "does not hold here",
                costs=each.what,
                way=each.way,
            )


def control_group_controllers() -> frozenset[str]:
    """Return the controllers of control groups version 2 on this machine; empty if there are none."""
    try:
        return frozenset(Path("/sys/fs/cgroup/cgroup.controllers").read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return frozenset()


def of_agents(which: Callable[[str], str | None]) -> Iterator[DoctorFinding]:
    for runtime in runtimes.RUNTIMES.values():
        if runtime.name in ("sim", "custom"):
            continue
        missing = []
        for name in (runtime.program, *runtime.needs.values()):
            try:
                program_lookup.find(name, which)
            except program_lookup.ProgramNotFound as error:
                missing.append(error.name)
        old = None if missing else node_version.too_old(runtime, which)
        if old is not None:
            yield DoctorFinding(
                name=runtime.name,
                state="missing",
                found=str(which(runtime.program)),
                costs=f"No agents on {runtime.title}.",
                way=old,
            )
        elif not missing:
            yield DoctorFinding(name=runtime.name, state="ok", found=str(which(runtime.program)))
        else:
            yield DoctorFinding(
                name=runtime.name,
                state="missing",
                found=f"{' and '.join(dict.fromkeys(missing))} not found",
                costs=f"No agents on {runtime.title}.",
                way=runtime.install,
            )


def keyring() -> DoctorFinding:
    if importlib.util.find_spec("keyring") is not None:
        return DoctorFinding(name="keyring", state="ok", found="installed")
    return DoctorFinding(
        name="keyring",
        state="missing",
        found="not installed",
        costs="No keyring:NAME in muster.yaml; env: and file: work.",
        way="pip install 'muster-fleet[keyring]'",
    )
