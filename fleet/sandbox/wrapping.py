"""From a prepared runtime to its command line inside the sandbox, by the sandbox profile's kind."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet import programs
from fleet.errors import FleetError, RuntimeMissing
from fleet.sandbox import bubblewrap, limits
from fleet.sandbox.bubblewrap import Mount
from fleet.sandbox.places import check_mount, check_workspace
from fleet.sandbox.profiles import BUILT_IN, DEFAULT
from fleet.sandbox.system import system
from fleet.way import PORT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.runtimes import Prepared
    from fleet.sandbox.profiles import Profile
    from fleet.way import Way

RELAY: Final = Path(__file__).with_name("relay.py")
_CGROUP: Final = Path(__file__).with_name("cgroup.py")


def wrap(
    prepared: Prepared,
    *,
    workspace: Path,
    home: Path,
    hidden: Sequence[Path],
    doors: Sequence[Path] = (),
    profile: Profile = BUILT_IN[DEFAULT],
    way: Way | None = None,
) -> tuple[str, ...]:
    """The command line that runs a runtime in its sandbox. The workspace has the same path inside as outside.

    Args:
        prepared: the runtime.
        workspace: may be written in.
        home: the agent's own, likewise.
        hidden: Muster's own folders: whatever else is shown, they are not.
        doors: sockets of Muster's that are this agent's alone; of the folders that they lie in nothing else is shown.
        profile: what kind of sandbox, what is seen there besides, and how much it may use.
        way: the only way out; None: it has the host's network.

    Raises:
        FleetError: the sandbox is not there, or would show what an agent may not have.
    """
    check_workspace(workspace, hidden)
    if profile.kind == "bubblewrap":
        return _bubblewrap(prepared, workspace, home, hidden, doors, profile, way)
    raise FleetError(
        f"The sandbox profile {profile.name} is of the kind {profile.kind}, which this version cannot start."
    )


def _bubblewrap(
    prepared: Prepared,
    workspace: Path,
    home: Path,
    hidden: Sequence[Path],
    doors: Sequence[Path],
    profile: Profile,
    way: Way | None,
) -> tuple[str, ...]:
    program = shutil.which("bwrap")
    if program is None:
        raise RuntimeMissing("bubblewrap is not installed: there is no program bwrap on the PATH.")
    further = [
        Mount("writable" if shown.writable else "readonly", shown.place, check_mount(shown, hidden))
        for shown in profile.mounts
    ]
    first = _first(profile, way)
    shown_of_way = _of_way(way)
    outer = bubblewrap.command_line(
        program,
        (*first, *prepared.command),
        system=system(),
        readonly=(*prepared.readonly, *(_relay() if first else ())),
        hidden=hidden,
        workspace=Mount("writable", workspace, workspace.resolve()),
        home=Mount("writable", home, home.resolve()),
        locked=[*_locked(prepared.locked, home), *(Mount("readonly", door) for door in (*doors, *shown_of_way))],
        further=further,
        root=os.geteuid() == 0,
        network=way is None,
    )
    return (*_bounded(profile), *outer)


def _first(profile: Profile, way: Way | None) -> tuple[str, ...]:
    """The first process inside, which becomes the runtime; empty where nothing is to be done before."""
    bounds = limits.words(profile.memory, profile.pids, release=os.uname().release)
    if way is None and not bounds:
        return ()
    socket = "-" if way is None or way.socket is None else str(way.socket)
    # The interpreter alone: nothing of Muster's, and nothing of a workspace's, is imported.
    return (str(_interpreter()), "-I", "-S", str(RELAY), socket, str(PORT), *bounds, "--")


def _bounded(profile: Profile) -> tuple[str, ...]:
    """What runs a sandbox within bounds for all of it; empty where it has none."""
    named = (("memory", profile.memory), ("pids", profile.pids))
    words = [f"{name}={value}" for name, value in named if value is not None]
    return (str(_interpreter()), "-I", "-S", str(_CGROUP), *words, "--") if words else ()


def _of_way(way: Way | None) -> tuple[Path, ...]:
    """What of the way is seen inside: the socket's folder, since the socket may be made anew, and certificates.

    Raises:
        FleetError: the folder is not there.
    """
    if way is None:
        return ()
    if way.socket is None:
        raise FleetError("The agent's way out has no socket, and nothing else leads out of a sandbox. Try again.")
    folder = way.socket.parent
    if folder.is_symlink() or not folder.is_dir():
        raise FleetError(f"The agent's way out of its sandbox is not there: {folder} is no folder. Try again.")
    return (folder, *(file for file in (way.ca_file, way.bundle_file) if file is not None and file.parent != folder))


def _relay() -> tuple[Path, ...]:
    """What a sandbox must show for the first process to run."""
    of_the_system = any(_interpreter().is_relative_to(folder) for folder in programs.SYSTEM)
    return (RELAY,) if of_the_system else (*programs.python_paths(), RELAY)


def _interpreter() -> Path:
    return Path(sys.executable).resolve()


def _locked(paths: Sequence[Path], home: Path) -> list[Mount]:
    """Each part unchangeable, and its folders mounted on themselves: what is mounted cannot be moved out of the way."""
    folders = dict.fromkeys(
        folder for path in paths for folder in reversed(path.parents) if folder != home and folder.is_relative_to(home)
    )
    return [
        *(Mount("writable", folder, folder.resolve()) for folder in folders),
        *(Mount("readonly", path, path.resolve()) for path in paths),
    ]
