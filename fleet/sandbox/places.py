"""Where an agent may work."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.programs import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Below these nobody works, and they are never shown as a whole.
_NOT_BELOW = (*SYSTEM, *map(Path, ("/etc", "/proc", "/sys", "/dev", "/run", "/boot")))
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
        raise FleetError(f"An agent cannot have the whole file system as its workspace. {way_out}")
    for folder in _NOT_BELOW:
        if place.is_relative_to(folder) or place.is_relative_to(folder.resolve()):
            raise FleetError(f"The workspace {workspace} lies in the system's folder {folder}. {way_out}")
    person = _person()
    if person.is_relative_to(place):
        raise FleetError(f"The workspace {workspace} is, or holds, your home folder {person}. {way_out}")
    folders = [folder.resolve() for folder in hidden]
    for folder in folders:
        if folder.is_relative_to(place):
            raise FleetError(f"The workspace {workspace} holds Muster's own folder {folder}. {way_out}")
    around = [folder for folder in folders if place.is_relative_to(folder)]
    if around:
        below = place.relative_to(max(around, key=lambda folder: len(folder.parts))).parts
        if len(below) < 2 or below[0] != _OWN:
            raise FleetError(f"The workspace {workspace} lies in Muster's own folder {around[0]}. {way_out}")
    for program in {Path(__file__).resolve().parents[2], Path(sys.prefix).resolve()}:
        if program.is_relative_to(place):
            raise FleetError(
                f"The workspace {workspace} holds the very programs that Muster runs from ({program}): an agent could "
                f"change them and get out of its sandbox. {way_out}"
            )


def _person() -> Path:
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir).resolve()
    except KeyError:
        return Path.home().resolve()
