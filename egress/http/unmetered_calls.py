"""Calls that use no tokens: listing models, and counting the tokens of a request.

They cost nothing, so no budget bounds them, and they have no ledger rows. A rate limit for each agent (a token bucket)
bounds them instead. Without it, one agent could use up the account's requests per minute, which providers count for
these calls, too, and this process's time. Quotas in their responses are kept as for any other response.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from multidict import CIMultiDict

from egress import provider_endpoints
from egress.http import error_responses, header_filter
from egress.http.error_responses import ErrorResponse
from egress.http.response_writer import ResponseWriter
from egress.limits.admission_interface import Cut, Gatekeeper
from egress.request import content_encoding
from egress.request.body_buffer import Body
from egress.settings import AccountSettings
from egress.upstream import rate_limit_headers
from egress.upstream.connection_pool import Upstream
from egress.upstream.response_reader import Response, UpstreamGone

#: The number of calls that an agent may make at once. For its context report, Claude Code counts each of its tools
#: separately, dozens at a time.
BURST: Final = 60
#: The sustained number of calls per second: about Anthropic's limit for the smallest accounts (100 a minute; its
#: documentation, "Token counting").
PER_SECOND: Final = 2.0
#: The maximum body in bytes: whole conversations are counted, but providers accept no larger bodies (Anthropic
#: documentation, "Request size limits").
LONGEST: Final = 32 * 2**20


class CallRateLimiter:
    """The rate limit of one agent, with counts of its calls."""

    __slots__ = ("_at", "_clock", "_left", "held_back", "passed")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds, from any starting point."""
        self._clock = clock
        self._left = float(BURST)
        self._at = clock()
        self.passed = 0
        """Since this egress listens for the agent."""
        self.held_back = 0

    def take(self) -> int | None:
        """Let one call pass and return None, or return the seconds until the next call may pass."""
        now = self._clock()
        self._left = min(float(BURST), self._left + max(0.0, now - self._at) * PER_SECOND)
        self._at = now
        if self._left < 1:
            self.held_back += 1
            return max(1, math.ceil((1 - self._left) / PER_SECOND))
        self._left -= 1
        self.passed += 1
        return None


async def carry(
    *,
    agent: str,
    gate: Gatekeeper,
    way: Upstream,
    account: AccountSettings,
    method: str,
    url: str,
    outgoing: CIMultiDict[str],
    body: Body,
    answer: ResponseWriter,
    clock: Callable[[], float] = time.time,
) -> int | None:
    """Forward a call and its response, unless the agent is cut off meanwhile; return the provider's status, if any.

    Raises:
        ErrorResponse: the provider cannot be reached.
        ConnectionError: the client is gone.
    """
    task = asyncio.current_task()
    response: Response | None = None
    ended = False

    def cut(why: Cut) -> None:
        nonlocal ended
        ended = True
        if response is not None:
            response.abort()
        api = provider_endpoints.PROVIDERS[account.provider].api
        answer.last_word(error_responses.status_of(api, 403), error_responses.body(api, 403, why.reason))
        if task is not None:
            task.cancel()

    unwatch = gate.watch(agent, cut)
    try:
        response = await way.send(method, url, outgoing, body)
        gate.observe(rate_limit_headers.observe(account.provider, account.name, response.headers, clock()))
        await _pass(response, answer, headless=method == "HEAD")
    except asyncio.CancelledError:
        if not ended:
            raise
    except (UpstreamGone, content_encoding.BadEncoding) as broken:
        raise ErrorResponse(502, str(broken)) from None
    finally:
        unwatch()
        if response is not None:
            response.abort()
    return None if response is None else response.status


async def _pass(response: Response, answer: ResponseWriter, *, headless: bool) -> None:
    """Forward the content, decoded so that secrets can be masked. Content that arrives at once keeps a length."""
    passing = header_filter.returning(response.raw_headers, decoded=True)
    if headless or response.status in {204, 304}:
        answer.begin(response.status, passing, length=response.length)
        answer.end()
        return
    decoder = content_encoding.decoder(response.headers.get("content-encoding"))
    newest = b""
    while content := response.read_nowait() or await response.readany():
        for piece in decoder.feed(content):
            if newest:
                if not answer.begun:
                    answer.begin(response.status, passing, length=None)
                answer.write(newest)
                await answer.drained()
            newest = piece
    for piece in decoder.end():
        newest += piece
    if not answer.begun:
        answer.begin(response.status, passing, length=len(newest))
    answer.end(newest)
