"""The finding of one check of the doctor."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final, Literal

State = Literal["ok", "missing", "wrong", "unknown"]

#: Seconds to wait for an answer of a program or a server.
PATIENCE: Final = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorFinding:
    """The finding of one check."""

    name: str
    state: State
    """ok; missing, if Muster works without it; wrong, if it does not; unknown, if the check was not possible."""
    found: str
    costs: str = ""
    """The consequence if it is missing or wrong."""
    way: str = ""
    """The remedy."""

    def to_json(self) -> dict[str, str]:
        """Return the finding as ``--json`` prints it."""
        return dataclasses.asdict(self)
