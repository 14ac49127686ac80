"""Which pane is wanted, and where one is. Light: nothing of tmux is imported here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedPane:
    """The pane as it is configured."""

    socket: str | None
    """A name or a path; None: tmux's default server."""
    mark: str
    """The connector's folder, by which the pane is found again."""
    session: str
    window: str
    program: Sequence[str]
    """The command line that shows the room."""
    variables: Mapping[str, str]
    """Its environment, besides what tmux adds."""
    version: str
    """Another word for each program that has to be started anew in a pane that is found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PanePlace:
    """Where the pane is."""

    pane: str
    session: str

    def __str__(self) -> str:
        return f"the tmux pane {self.pane} (session {self.session})"
