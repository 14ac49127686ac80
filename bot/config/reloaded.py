"""The result of a reload of muster.yaml."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Reloaded:
    """The result of a reload."""

    changed: tuple[str, ...] = ()
    """The changes that took effect, as phrases."""
    waiting: tuple[str, ...] = ()
    """The keys that take effect only after a restart."""
    problem: str | None = None
    """The reason why the file was rejected."""
    notes: tuple[str, ...] = ()
    """Actions that the changes require, as sentences."""

    def text(self) -> str:
        """Return the result as text for people; empty if nothing changed."""
        lines = []
        if self.problem is not None:
            lines.append(f"✖ muster.yaml was not applied, and the earlier settings stay in effect: {self.problem}")
        if self.changed:
            lines.append(f"muster.yaml was applied: {'; '.join(self.changed)}.")
        if self.waiting:
            lines.append(f"What it says of {', '.join(self.waiting)} holds once Muster is started again.")
        return "\n\n".join([*lines, *(f"⚠️ {note}" for note in self.notes)])
