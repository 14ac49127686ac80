"""What the doctor says of one thing that it looked at."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final, Literal

State = Literal["ok", "missing", "wrong", "unknown"]

#: Seconds for an answer of a program or a server.
PATIENCE: Final = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorFinding:
    """One thing that was looked at."""

    name: str
    state: State
    """ok; missing, where Muster does without; wrong, where it does not; unknown, where it could not be told."""
    found: str
    costs: str = ""
    """What does not work without it."""
    way: str = ""
    """How to get it."""

    def to_json(self) -> dict[str, str]:
        """As ``--json`` prints it."""
        return dataclasses.asdict(self)
