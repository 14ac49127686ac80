"""How much an agent may write at the forge in one run. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

WRITES_A_MINUTE: Final = 6
WRITES_IN_ALL: Final = 100
_MINUTE: Final = 60.0


def refusal(written_at: Sequence[float], now: float) -> str | None:
    """Return why a run may not write at the moment, as a sentence that says when again; None if it may.

    Args:
        written_at: when the run wrote so far, in seconds since the epoch.
        now: the same clock's time.
    """
    if len(written_at) >= WRITES_IN_ALL:
        return (
            f"This run has written {WRITES_IN_ALL} times, which is the most. Nothing was done. If people need to know "
            "more, put it into the summary of signal_done."
        )
    recent = sorted(at for at in written_at if now - at < _MINUTE)
    if len(recent) >= WRITES_A_MINUTE:
        wait = max(1, math.ceil(recent[-WRITES_A_MINUTE] + _MINUTE - now))
        return f"More than {WRITES_A_MINUTE} writes in a minute. Nothing was done; try again in {wait} seconds."
    return None
