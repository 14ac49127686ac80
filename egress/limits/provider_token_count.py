"""How long an input is, by the provider's own count: asked near a limit alone, and with what answers in time.

The count is asked with the account's credential and costs nothing. It is no call of the agent's, and is not held to
the agent's rate. What fails falls to the next bound (budget.limits.input_bound): no request waits for it for long.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import structlog

from egress.upstream.response_reader import UpstreamGone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from multidict import CIMultiDict

    from egress.provider_endpoints import Api
    from egress.request.body_buffer import Bodies
    from egress.upstream.connection_pool import Upstream

_log = structlog.get_logger(__name__)

#: The calls that count, by how a request is written. Chat Completions has none.
PATHS: Final[Mapping[Api, str]] = {"anthropic": "/v1/messages/count_tokens", "responses": "/v1/responses/input_tokens"}
#: An answer takes a fraction of a second; what takes longer than this is not waited for.
COUNT_S: Final = 5.0
#: Of one account, at a time.
TOGETHER: Final = 8
#: Where there is no such call, it is not asked for again for so long;
ABSENT_S: Final = 600.0
#: and where it did not answer, or there were too many, for so long.
FAILED_S: Final = 10.0
#: So many answers are remembered.
REMEMBERED: Final = 2_048
#: Of the answer.
_LONGEST: Final = 2**16


class Counter:
    """Asks the providers of all accounts."""

    def __init__(self, way: Upstream, bodies: Bodies, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._way = way
        self._bodies = bodies
        self._monotonic = monotonic
        self._known: OrderedDict[bytes, int] = OrderedDict()
        self._closed_until: dict[str, float] = {}
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._asked: dict[bytes, asyncio.Task[int | None]] = {}

    def may(self, api: Api, account: str) -> bool:
        """Return whether there is such a call, as far as is known."""
        return api in PATHS and self._closed_until.get(f"{account}/{api}", 0.0) <= self._monotonic()

    async def count(
        self, *, api: Api, account: str, upstream: str, query: str, outgoing: CIMultiDict[str], content: bytes
    ) -> int | None:
        """Return the tokens of an input, or None if the provider does not say so in time.

        Args:
            api: how the request is written.
            account: whose credential is used.
            upstream: the provider's address.
            query: of the request, which may say what kind of it it is.
            outgoing: the headers of the request, with the credential.
            content: what the count is asked with (`egress.http.request_body_policy.countable`).
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
        # Who leaves meanwhile leaves the answer to others.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Ask no more."""
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
        # Plain, so that nothing has to be decoded.
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
    # A body that is refused says nothing of the next one.
    return 0.0 if status is not None and status in {400, 413, 422} else FAILED_S


def _counted(answer: bytes) -> int | None:
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    tokens = found.get("input_tokens") if isinstance(found, dict) else None
    return tokens if type(tokens) is int and 0 < tokens < 10**12 else None
