"""Calls that use no tokens: lists of models, and counting what a request would be read as.

They cost nothing, so that no budget bounds them, and there is no row of the ledger for each. What bounds them is a
pace of each agent's own (a token bucket), without which one agent could spend the account's requests per minute, which
providers count for these, too, and the time of this process. What they tell of an account's quota is kept as that of
any other response.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final

from egress import provider_endpoints
from egress.http import error_responses, header_filter
from egress.http.error_responses import ErrorResponse
from egress.request import content_encoding
from egress.upstream import rate_limit_headers
from egress.upstream.response_reader import UpstreamGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import CIMultiDict

    from egress.http.response_writer import ResponseWriter
    from egress.limits.admission_interface import Cut, Gatekeeper
    from egress.request.body_buffer import Body
    from egress.settings import AccountSettings
    from egress.upstream.connection_pool import Upstream
    from egress.upstream.response_reader import Response

#: So many calls an agent may make at once. Claude Code counts each of its tools by itself when it is asked for its
#: context, dozens at a time.
BURST: Final = 60
#: And so many a second for ever: about what Anthropic allows the smallest of accounts (100 a minute; its documentation,
#: "Token counting").
PER_SECOND: Final = 2.0
#: Bytes of a body: whole conversations are counted, but providers take no larger ones (Anthropic documentation,
#: "Request size limits").
LONGEST: Final = 32 * 2**20


class CallRateLimiter:
    """Of one agent: what it may still ask now, and what it has asked."""

    __slots__ = ("_at", "_clock", "_left", "held_back", "passed")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds, from anywhere."""
        self._clock = clock
        self._left = float(BURST)
        self._at = clock()
        self.passed = 0
        """Since this egress listens for the agent."""
        self.held_back = 0

    def take(self) -> int | None:
        """Let one call pass; or else after how many seconds the next one may."""
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
    """Send a call on and its response back, unless the agent is cut off meanwhile. The provider's status, if any.

    Raises:
        Refusal: the provider is not to be had.
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
    """Pass the content on, decoded: what is masked in it has to be read. Content that comes at once keeps a length."""
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
