"""What Muster knows of a clone, out of the agent's reach."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from fleet.workspace import untrusted_files
from fleet.workspace.branch_update import Held

NAME: Final = "workspace.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class CloneRecord:
    """What is known of a clone that was made."""

    source: Path
    """The folder of the repository that it is a clone of."""
    sandboxed: bool
    """An agent worked there that could not act as the person: what it left is not to be opened outside of a sandbox."""
    base: str | None
    """The commit at which its branch began; None: the repository had none."""
    fetched: str | None = None
    """The commit at which its branch was when it was fetched last."""
    held: Held = ""
    """Why the person's branch is not there yet."""
    began_on: str | None = None
    """The branch that was checked out in the repository; None: none was, or an earlier version of Muster made it."""

    @property
    def last(self) -> str | None:
        """Where the branch was when Muster looked last."""
        return self.fetched or self.base

    def save(self, folder: Path) -> None:
        """Write it into an agent's private folder."""
        known = {**asdict(self), "source": str(self.source)}
        untrusted_files.put(folder / NAME, json.dumps(known).encode())


def load(folder: Path) -> CloneRecord | None:
    """Return what an agent's private folder says of its clone; None: it has none."""
    try:
        known = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    values = {name: known[name] for name in CloneRecord.__dataclass_fields__ if name in known}
    return CloneRecord(**{**values, "source": Path(known["source"])})
