"""From a prepared runtime to its command line inside the sandbox."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from fleet.errors import RuntimeMissing
from fleet.sandbox import bubblewrap
from fleet.sandbox.bubblewrap import Mount
from fleet.sandbox.places import check_workspace
from fleet.sandbox.system import system

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet.runtimes import Prepared


def wrap(
    prepared: Prepared, *, workspace: Path, home: Path, hidden: Sequence[Path], doors: Sequence[Path] = ()
) -> tuple[str, ...]:
    """The command line that runs a runtime in bubblewrap. The workspace has the same path inside as outside.

    Args:
        workspace: may be written in.
        home: the agent's own, likewise.
        hidden: Muster's own folders: whatever else is shown, they are not.
        doors: sockets of Muster's that are this agent's alone; of the folders that they lie in nothing else is shown.

    Raises:
        FleetError: bubblewrap is not there, or the workspace is none that an agent may have.
    """
    check_workspace(workspace, hidden)
    program = shutil.which("bwrap")
    if program is None:
        raise RuntimeMissing("bubblewrap is not installed: there is no program bwrap on the PATH.")
    return bubblewrap.command_line(
        program,
        prepared.command,
        system=system(),
        readonly=prepared.readonly,
        hidden=hidden,
        workspace=Mount("writable", workspace, workspace.resolve()),
        home=Mount("writable", home, home.resolve()),
        locked=[*_locked(prepared.locked, home), *(Mount("readonly", door) for door in doors)],
        root=os.geteuid() == 0,
    )


def _locked(paths: Sequence[Path], home: Path) -> list[Mount]:
    """Each part unchangeable, and its folders mounted on themselves: what is mounted cannot be moved out of the way."""
    folders = dict.fromkeys(
        folder for path in paths for folder in reversed(path.parents) if folder != home and folder.is_relative_to(home)
    )
    return [
        *(Mount("writable", folder, folder.resolve()) for folder in folders),
        *(Mount("readonly", path, path.resolve()) for path in paths),
    ]
