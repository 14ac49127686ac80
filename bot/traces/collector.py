"""Requests to a collector of traces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar

from bot.traces import otlp
from core.errors import MusterError

#: Seconds for a whole exchange: a slow collector holds up nothing but traces.
LIMIT_S: Final = 15.0
#: Bytes of an answer that are read.
_ANSWER: Final = 65_536
#: A collector may ask for a pause of so many seconds at most.
_LONGEST_PAUSE: Final = 300.0
#: The request itself is wrong, so that sending it again is of no use.
_UNUSABLE: Final = frozenset({400, 413, 422})


class CollectorAway(MusterError):
    """The collector did not take the spans, and may take them later."""

    def __init__(self, reason: str, *, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s
        """How long the collector asks to wait; None: it does not."""


@dataclass(frozen=True, slots=True)
class Collector:
    endpoint: str
    headers: Mapping[str, str]

    async def send(self, body: bytes, spans: int) -> int:
        """Send a request with so many spans. Return how many of them the collector did not take and never will.

        Raises:
            CollectorAway: none of them were taken; they can be sent again.
        """
        headers = {"User-Agent": "muster", **self.headers, "Content-Type": otlp.CONTENT_TYPE}
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=LIMIT_S), cookie_jar=DummyCookieJar()) as session,
                # A redirect would send the headers to an address that the operator did not choose.
                session.post(self.endpoint, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                status, after = answer.status, answer.headers.get("Retry-After")
                content = await answer.content.read(_ANSWER) if status < 300 else b""
        except TimeoutError:
            raise CollectorAway(f"it did not answer within {LIMIT_S:.0f} seconds") from None
        except (ClientError, OSError, ValueError) as error:
            # The text of an error may repeat a header.
            raise CollectorAway(f"no connection ({type(error).__name__})") from None
        if status < 300:
            return max(0, min(otlp.rejected(content), spans))
        if status in _UNUSABLE:
            return spans
        raise CollectorAway(f"it answered {status}", pause_s=_seconds(after))


def _seconds(value: str | None) -> float | None:
    """Return the pause of a Retry-After in seconds, or None if there is none. A date in it is not read."""
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return min(max(0.0, seconds), _LONGEST_PAUSE) if math.isfinite(seconds) else None
