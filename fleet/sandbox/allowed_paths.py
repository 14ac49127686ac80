"""Where an agent may work."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path

from fleet.errors import FleetError
from fleet.program_lookup import SYSTEM
from fleet.sandbox.profiles import Shown

#: Below these no one works, and they are never shown as a whole.
_NOT_BELOW = (*SYSTEM, *map(Path, ("/etc", "/proc", "/sys", "/dev", "/run", "/boot")))
#: Nothing of these is shown: processes, devices, and the sockets of whatever else runs here.
_NEVER_SHOWN = tuple(map(Path, ("/proc", "/sys", "/dev", "/run", "/boot")))
#: Folder in Muster's state with the workspaces that it makes itself.
_OWN = "workspaces"


def check_workspace(workspace: Path, hidden: Sequence[Path]) -> None:
    """Refuse a workspace that would show, or hand over, more than a project.

    Args:
        hidden: Muster's own folders.

    Raises:
        FleetError: why, and what to do.
    """
    place = workspace.resolve()
    way_out = "Give the agent a folder of its own, such as a clone of the project."
    if place == Path("/"):
        raise FleetError(
            f"An agent cannot have the whole file system as its workspace. {way_out}", code="workspace.forbidden"
        )
    for folder in _NOT_BELOW:
        if place.is_relative_to(folder) or place.is_relative_to(folder.resolve()):
            raise FleetError(
                f"The workspace {workspace} lies in the system's folder {folder}. {way_out}", code="workspace.forbidden"
            )
    person = _person()
    if person.is_relative_to(place):
        raise FleetError(
            f"The workspace {workspace} is, or holds, your home folder {person}. {way_out}", code="workspace.forbidden"
        )
    folders = [folder.resolve() for folder in hidden]
    for folder in folders:
        if folder.is_relative_to(place):
            raise FleetError(
                f"The workspace {workspace} holds Muster's own folder {folder}. {way_out}", code="workspace.forbidden"
            )
    around = [folder for folder in folders if place.is_relative_to(folder)]
    if around:
        below = place.relative_to(max(around, key=lambda folder: len(folder.parts))).parts
        if len(below) < 2 or below[0] != _OWN:
            raise FleetError(
                f"The workspace {workspace} lies in Muster's own folder {around[0]}. {way_out}",
                code="workspace.forbidden",
            )
    for program in {Path(__file__).resolve().parents[2], Path(sys.prefix).resolve()}:
        if program.is_relative_to(place):
            raise FleetError(
                f"The workspace {workspace} holds the very programs that Muster runs from ({program}): an agent could "
                f"change them and get out of its sandbox. {way_out}",
                code="workspace.forbidden",
            )


def check_mount(shown: Shown, hidden: Sequence[Path]) -> Path:
    """Refuse to show what would open more than itself. Returns where it really is.

    Args:
        shown: as the profile says it.
        hidden: Muster's own folders.

    Raises:
        FleetError: why, and what to do.
    """
    way_out = "Leave it out of the sandbox profile's mounts, or name a folder of its own."
    try:
        place = shown.source.resolve(strict=True)
    except (OSError, RuntimeError):
        raise FleetError(
            f"The mount {shown.source} of the sandbox profile is not there. {way_out}", code="sandbox.mount_missing"
        ) from None
    if place == Path("/"):
        raise FleetError(
            f"The whole file system cannot be shown in a sandbox. {way_out}", code="sandbox.mount_forbidden"
        )
    for folder in _NEVER_SHOWN:
        if place.is_relative_to(folder) or folder.is_relative_to(place):
            raise FleetError(
                f"The mount {shown.source} lies in the system's folder {folder}. {way_out}",
                code="sandbox.mount_forbidden",
            )
    if place.is_socket():
        raise FleetError(
            f"The mount {shown.source} is a socket, a way around the sandbox. {way_out}", code="sandbox.mount_forbidden"
        )
    person = _person()
    if person.is_relative_to(place):
        raise FleetError(
            f"The mount {shown.source} is, or holds, your home folder {person}. {way_out}",
            code="sandbox.mount_forbidden",
        )
    for folder in (each.resolve() for each in hidden):
        if folder.is_relative_to(place) or place.is_relative_to(folder):
            raise FleetError(
                f"The mount {shown.source} holds, or lies in, Muster's own folder {folder}. {way_out}",
                code="sandbox.mount_forbidden",
            )
    if shown.writable:
        check_workspace(place, hidden)
    return place


def _person() -> Path:
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir).resolve()
    except KeyError:
        return Path.home().resolve()
