"""What a program may choose about the requests of a forge's client."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from forge.clients.retries import DEFAULT_LIMITS, HttpLimits


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpOptions:
    """Limits, and the clock, the pause and the chance that waiting depends on."""

    limits: HttpLimits = DEFAULT_LIMITS
    tls: ssl.SSLContext | bool = True
    """What certificates are checked with; True: the system's authorities."""
    on_wait: Callable[[str], None] | None = None
    """Is told in a sentence that a request waits: a failure, or a rate limit."""
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits for some seconds."""
    clock: Callable[[], float] = time.time
    """Returns the seconds since 1970."""
    rng: Callable[[], float] = random.random
    """Returns a random number from 0 up to 1."""
