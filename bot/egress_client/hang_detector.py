"""An egress that is there and does not answer: for how long that is borne.

A process that is stopped, or whose loop hangs, holds its sockets: agents and commands wait for it, and no other can
take its place. What it had under way is charged then as after any crash.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import MusterError
from egress.daemon.control_client import LOOK_S, EgressControlClient
from egress.errors import EgressSilent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


#: So long it may be silent, seconds, in which it was asked so many times.
HUNG_S = 30.0
TIMES = 3
#: A call is given up after `LOOK_S` at the latest; who comes back only after so long, seconds, was held up himself.
LATE_S = 3 * LOOK_S
#: How often it is asked, seconds.
EVERY_S = 5.0


@dataclass(slots=True)
class Silence:
    """Whether an egress is silent for too long."""

    _since: float | None = None
    _missed: int = 0

    def heard(self) -> None:
        """It answered, or is not there at all."""
        self._since, self._missed = None, 0

    def missed(self, asked_at: float, now: float, hung_s: float) -> bool:
        """A call made at `asked_at` is given up now (by the same clock); whether it was silent for so long."""
        if now - asked_at > LATE_S:
            # We were not there ourselves: a machine that stalled, processes that were stopped or frozen together.
            self.heard()
            return False
        self._since = asked_at if self._since is None else self._since
        self._missed += 1
        return self._missed >= TIMES and now - self._since >= hung_s


async def watch(
    find: Callable[[], Awaitable[EgressControlClient | None]],
    end: Callable[[float], Awaitable[None]],
    *,
    hung_s: Callable[[], float],
    every_s: float = EVERY_S,
) -> None:
    """Ask the egress again and again whether it is there, until cancelled.

    Args:
        find: the one that runs.
        end: ends a silent one, that was silent for so many seconds; raises nothing.
        hung_s: for how long it may be silent.
        every_s: between two calls.
    """
    silence = Silence()
    while True:
        # A machine that slept did not wait: this clock stands still with it.
        asked_at = time.monotonic()
        try:
            client = await find()
            if client is not None:
                await client.status(timeout_s=min(LOOK_S, hung_s() / TIMES))
            silence.heard()
        except EgressSilent:
            if silence.missed(asked_at, time.monotonic(), hung_s()):
                await end(hung_s())
                silence.heard()
            continue
        except (MusterError, OSError):
            # It ended, or is ending: whoever keeps it sees to that. Or we have no files left to ask with.
            silence.heard()
        await asyncio.sleep(every_s)
