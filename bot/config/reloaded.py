"""What happened to muster.yaml when it was read again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Reloaded:
    """What happened to the file."""

    changed: tuple[str, ...] = ()
    """What holds now that did not: a phrase each."""
    waiting: tuple[str, ...] = ()
    """The keys that hold after a restart alone."""
    problem: str | None = None
    """Why nothing was taken up."""
    notes: tuple[str, ...] = ()
    """What is to be done about what was: a sentence each."""

    def text(self) -> str:
        """For people; empty when there is nothing to say."""
        lines = []
        if self.problem is not None:
            lines.append(f"✖ muster.yaml was not taken up, and what held before holds: {self.problem}")
        if self.changed:
            lines.append(f"muster.yaml was taken up: {'; '.join(self.changed)}.")
        if self.waiting:
            lines.append(f"What it says of {', '.join(self.waiting)} holds once Muster is started again.")
        return "\n\n".join([*lines, *(f"⚠️ {note}" for note in self.notes)])
