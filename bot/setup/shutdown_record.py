"""The agents that `muster down --all` stopped, as a record for the next `muster up`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write(path: Path, names: Sequence[str]) -> None:
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def read(path: Path) -> frozenset[str]:
    """Return their names; empty if there is no record."""
    try:
        return frozenset(path.read_text(encoding="utf-8").split())
    except (OSError, ValueError):
        return frozenset()
