"""What requests are expected to use: learned from those before them, by role and model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from budget.tokens import Tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a request will use, as far as one can tell beforehand."""

    expected: Tokens
    """Reserved for it: as much as most such requests use."""
    input: Tokens
    """What reading it will likely cost, whatever it answers: a request leaves only where so much is left."""
