"""Detection of an egress that runs but does not answer.

A stopped process, or one whose event loop hangs, keeps its sockets. Agents and commands wait for it, and no other
egress can start. Once it is killed, its running requests are charged as after any crash.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from core.errors import MusterError
from egress.daemon.control_client import LOOK_S, EgressControlClient
from egress.errors import EgressSilent

#: An egress hangs if it is silent for so many seconds and misses so many calls.
HUNG_S = 30.0
TIMES = 3
#: A call times out after `LOOK_S` at the latest. If it takes longer than this, in seconds, this process itself stalled.
LATE_S = 3 * LOOK_S
#: Seconds between calls.
EVERY_S = 5.0


@dataclass(slots=True)
class HangDetector:
    """The duration of an egress's silence."""

    _since: float | None = None
    _missed: int = 0

    def heard(self) -> None:
        """Reset the silence: the egress answered, or does not run."""
        self._since, self._missed = None, 0

    def missed(self, asked_at: float, now: float, hung_s: float) -> bool:
        """Record a call that timed out, and return whether the egress has been silent for too long.

        Args:
            asked_at: when the call was made.
            now: when it timed out, by the same clock.
            hung_s: the longest silence to tolerate, in seconds.
        """
        if now - asked_at > LATE_S:
            # This process stalled as well: the machine hung, or all processes were stopped together.
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
) -> None:
    """Call the egress repeatedly and end it if it hangs, until cancelled.

    Args:
        find: returns the client of the running egress.
        end: ends an egress that was silent for so many seconds; must not raise.
        hung_s: returns the longest silence to tolerate, in seconds.
    """
    silence = HangDetector()
    while True:
        # This clock stops while the machine sleeps, so sleep does not count as silence.
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
            # It has ended or is ending, which its supervisor handles. Or this process has no file descriptors left.
            silence.heard()
        await asyncio.sleep(EVERY_S)
