"""Which kind of workspace a folder means for an agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.workspace import repositories

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.workspace.clones import Clone
    from fleet.workspace.repositories import Repository


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """Where an agent works."""

    place: Path
    readonly: tuple[Path, ...] = ()
    """What it has to see beside it."""
    instructions: str = ""
    """What it should know of it."""


def source(named: Path, *, clone: bool | None, own: Path) -> Repository | None:
    """The repository that an agent gets a clone of; None: it works in the folder that was named.

    Args:
        named: the folder that its roster entry or its launch names.
        clone: what its roster entry says; None: nothing.
        own: the folder that Muster would give it if nobody named one.
    """
    if clone is False:
        return None
    # What lies among Muster's workspaces is agents' ground already, and may be shared by them.
    if named.resolve().is_relative_to(own.parent.resolve()):
        return None
    return repositories.find(named)


def settle(clone: Clone, repository: Repository, *, sandboxed: bool) -> Settled:
    """Make the clone if it is not there.

    Raises:
        FleetError: it cannot be made.
    """
    readonly = clone.prepare(repository, sandboxed=sandboxed)
    told = (
        f"Your workspace {clone.place} is a git clone of the operator's repository, on your branch {clone.branch}. "
        "Commit your work on that branch: its commits are taken over into the operator's repository by themselves, and "
        "nothing else is. There is no need to push. `git fetch origin` brings what is committed there."
    )
    return Settled(place=clone.place, readonly=readonly, instructions=told)
