"""The token count of an input, as the provider counts it.

The egress asks for it only near a limit, and waits only briefly. The count uses the account's credential and costs
nothing. It is not a call of the agent, so the agent's rate limit does not apply. If it fails, the next bound applies
(budget.limits.input_bound): no request waits for it for long.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from multidict import CIMultiDict

from egress.provider_endpoints import Api
from egress.request.body_buffer import Bodies
from egress.upstream.connection_pool import Upstream
from egress.upstream.response_reader import UpstreamGone

_log = structlog.get_logger(__name__)

#: The counting endpoints, by request format. Chat Completions has none.
PATHS: Final[Mapping[Api, str]] = {"anthropic": "/v1/messages/count_tokens", "responses": "/v1/responses/input_tokens"}
#: How long to wait for an answer, which usually takes a fraction of a second.
COUNT_S: Final = 5.0
#: The number of concurrent counts of one account.
TOGETHER: Final = 8
#: How long to skip an endpoint that does not exist.
ABSENT_S: Final = 600.0
#: How long to skip an endpoint after a failure or too many requests.
FAILED_S: Final = 10.0
#: The number of cached counts.
REMEMBERED: Final = 2_048
#: The longest answer, in bytes.
_LONGEST: Final = 2**16


class Counter:
    """Client for the counting endpoints of all accounts' providers."""

    def __init__(self, way: Upstream, bodies: Bodies, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._way = way
        self._bodies = bodies
        self._monotonic = monotonic
        self._known: OrderedDict[bytes, int] = OrderedDict()
        self._closed_until: dict[str, float] = {}
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._asked: dict[bytes, asyncio.Task[int | None]] = {}

    def may(self, api: Api, account: str) -> bool:
        """Return whether the counting endpoint may be called now, as far as is known."""
        return api in PATHS and self._closed_until.get(f"{account}/{api}", 0.0) <= self._monotonic()

    async def count(
        self, *, api: Api, account: str, upstream: str, query: str, outgoing: CIMultiDict[str], content: bytes
    ) -> int | None:
        """Return the tokens of an input, or None if the provider does not report them in time.

        Args:
            api: the format of the request.
            account: the account whose credential is used.
            upstream: the provider's address.
            query: the request's query string, which may select its variant.
            outgoing: the headers of the request, with the credential.
            content: the body of the count (`egress.http.request_body_policy.countable`).
        """
        digest = hashlib.sha256(f"{account}/{api}/".encode() + content).digest()
        if (known := self._known.get(digest)) is not None:
            self._known.move_to_end(digest)
            return known
        if not self.may(api, account):
            return None
        task = self._asked.get(digest)
        if task is None:
            url = upstream.rstrip("/") + PATHS[api] + query
            task = asyncio.create_task(self._ask(api, account, url, outgoing.copy(), content, digest))
            self._asked[digest] = task
            task.add_done_callback(lambda _: self._asked.pop(digest, None))
        # Other callers may wait for the same answer, so a canceled caller must not cancel the task.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel all running counts."""
        for task in list(self._asked.values()):
            task.cancel()
        if self._asked:
            await asyncio.wait(self._asked.values())

    async def _ask(
        self, api: Api, account: str, url: str, outgoing: CIMultiDict[str], content: bytes, digest: bytes
    ) -> int | None:
        status = None
        try:
            async with asyncio.timeout(COUNT_S), self._turns.setdefault(account, asyncio.Semaphore(TOGETHER)):
                status, answer = await self._answer(url, outgoing, content)
        except (TimeoutError, UpstreamGone, OSError, ValueError) as error:
            _log.info("count not to be had", account=account, error=str(error) or type(error).__name__)
        counted = _counted(answer) if status == 200 else None
        if counted is None:
            absent = status in {404, 405, 501}
            self._closed_until[f"{account}/{api}"] = self._monotonic() + (ABSENT_S if absent else _pause(status))
            return None
        self._known[digest] = counted
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return counted

    async def _answer(self, url: str, outgoing: CIMultiDict[str], content: bytes) -> tuple[int, bytes]:
        # An unencoded answer needs no decoding.
        outgoing["Accept-Encoding"] = "identity"
        outgoing["Accept"] = "application/json"
        response = await self._way.send("POST", url, outgoing, self._bodies.made(content))
        try:
            answer = b""
            while piece := response.read_nowait() or await response.readany():
                answer += piece
                if len(answer) > _LONGEST:
                    raise ValueError("the answer is too long")
            return response.status, answer
        finally:
            response.abort()


def _pause(status: int | None) -> float:
    # A refused body does not predict how the next one fares.
    return 0.0 if status is not None and status in {400, 413, 422} else FAILED_S


def _counted(answer: bytes) -> int | None:
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    tokens = found.get("input_tokens") if isinstance(found, dict) else None
    return tokens if type(tokens) is int and 0 < tokens < 10**12 else None
