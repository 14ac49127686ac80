"""Requests to a homeserver, and what its refusals mean.

matrix-nio carries them. Its own answers are objects that may or may not be errors, and a field that its schemas do not
expect turns a whole sync into one; so the JSON is read here, and every refusal is an exception:

    HomeserverRequestError
    ├── Unreachable     no answer, or one that no homeserver gives
    └── MatrixRefusal   the homeserver says no (Client-Server API, "Standard error response")
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

from aiohttp import ClientError, ClientResponse
from nio import AsyncClient, AsyncClientConfig  # type: ignore[import-untyped]

from connectors.contract.connector_protocol import MessageRefused, SendError, TryLater

Json: TypeAlias = dict[str, Any]

CLIENT = "/_matrix/client"
MEDIA = "/_matrix/media"

#: The log-in is over: for ever, or until someone logs in again.
LOGGED_OUT = frozenset({"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_DEACTIVATED"})

#: Seconds; a homeserver that asks for more is asked again all the same.
LONGEST_WAIT = 3600.0

#: Refusals that pass, whatever their status says.
_PASSING = frozenset({"M_LIMIT_EXCEEDED", "M_RESOURCE_LIMIT_EXCEEDED", "M_USER_LIMIT_EXCEEDED"})

_SENTENCES = {
    "M_FORBIDDEN": "the homeserver does not let the bot do this: {detail}. Invite it into the room again, or raise its "
    "power level there.",
    "M_TOO_LARGE": "the homeserver finds this too large: {detail}.",
    "M_NOT_FOUND": "the homeserver does not know this room or message: {detail}.",
}


class HomeserverRequestError(Exception):
    """A request was not answered as asked."""


class HomeserverUnreachable(HomeserverRequestError):
    """No one answered, or no one who speaks Matrix."""


class MatrixRefusal(HomeserverRequestError):
    """The homeserver's own no."""

    def __init__(self, status: int, code: str, detail: str, after: float | None = None) -> None:
        super().__init__(f"{detail or 'no reason given'} ({code})")
        self.status = status
        self.code = code
        self.detail = detail.rstrip(".") or code
        self.after = after
        """Seconds that we were asked to wait."""

    @property
    def limited(self) -> bool:
        """Whether this was the rate limit."""
        return self.code == "M_LIMIT_EXCEEDED" or self.status == 429

    @property
    def passes(self) -> bool:
        """Whether the same request may be taken later."""
        return self.limited or self.status >= 500 or self.status == 408 or self.code in _PASSING | LOGGED_OUT


def send_error(error: HomeserverRequestError) -> SendError:
    """Return what a failed request means for what was to be said with it."""
    if not isinstance(error, MatrixRefusal):
        return TryLater(f"the homeserver cannot be reached: {error}")
    if error.passes:
        return TryLater(f"the homeserver says: {error}", after=error.after, limited=error.limited)
    sentence = _SENTENCES.get(error.code, "the homeserver refuses this: {detail}.")
    return MessageRefused(sentence.format(detail=error.detail))


class HomeserverClient:
    """One connection to one homeserver. Nothing is tried twice here."""

    def __init__(self, homeserver: str, *, clock: Callable[[], float]) -> None:
        # Left to itself nio sleeps through rate limits and time-outs, for ever.
        config = AsyncClientConfig(max_limit_exceeded=0, max_timeouts=0, request_timeout=30)
        self._client = AsyncClient(homeserver, config=config)
        self._clock = clock
        self.token: str | None = None
        self.answered_at: float | None = None
        """When the homeserver last answered anything, a refusal included."""

    async def call(
        self,
        method: str,
        *path: str,
        base: str = f"{CLIENT}/v3",
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        timeout: float = 30.0,
    ) -> Json:
        """Ask for JSON. `path` is quoted part by part.

        Raises:
            HomeserverUnreachable: no answer.
            MatrixRefusal: the answer is no.
        """
        data = None if body is None else json.dumps(body).encode()
        return await self._json(method, _place(base, path, query), data, "application/json", timeout)

    async def upload(self, content: bytes, name: str, media_type: str, *, timeout: float = 300.0) -> str:
        """Put a file into the media repository; its ``mxc://`` address."""
        place = _place(f"{MEDIA}/v3", ("upload",), {"filename": name})
        answer = await self._json("POST", place, content, media_type, timeout)
        address = answer.get("content_uri")
        if not isinstance(address, str):
            raise HomeserverUnreachable("it took a file without saying where it is")
        return address

    async def read(self, *path: str, base: str, limit: int, timeout: float = 120.0) -> bytes | None:
        """Return the bytes of a file; None as soon as they turn out to be more than `limit`."""
        response = await self._ask("GET", _place(base, path, None), None, "application/json", timeout)
        try:
            async with response:
                if response.status != 200:
                    raise _refusal(response, await response.read())
                if (response.content_length or 0) > limit:
                    response.close()
                    return None
                content = bytearray()
                async for chunk in response.content.iter_chunked(65_536):
                    content += chunk
                    if len(content) > limit:
                        response.close()
                        return None
                return bytes(content)
        except (ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.close()
        # Connections to TLS servers end a moment after their session.
        await asyncio.sleep(0)

    async def _json(self, method: str, place: str, data: bytes | None, media_type: str, timeout: float) -> Json:
        response = await self._ask(method, place, data, media_type, timeout)
        try:
            async with response:
                raw = await response.read()
        except (ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error
        if response.status != 200:
            raise _refusal(response, raw)
        answer = _parsed(raw)
        if answer is None:
            raise HomeserverUnreachable(
                "what answers there is not a Matrix homeserver; check the address in muster.yaml, or the proxy in front"
            )
        return answer

    async def _ask(
        self, method: str, place: str, data: bytes | None, media_type: str, timeout: float
    ) -> ClientResponse:
        headers = {"Content-Type": media_type}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            response: ClientResponse = await self._client.send(method, place, data, headers, timeout=timeout)
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            raise _unreachable(error) from error
        self.answered_at = self._clock()
        return response


def _place(base: str, path: tuple[str, ...], query: Mapping[str, str] | None) -> str:
    place = "/".join((base, *(quote(part, safe="") for part in path)))
    return f"{place}?{urlencode(query)}" if query else place


def _parsed(raw: bytes) -> Json | None:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _refusal(response: ClientResponse, raw: bytes) -> HomeserverRequestError:
    answer = _parsed(raw) or {}
    code = answer.get("errcode")
    if not isinstance(code, str):
        if response.status == 429:
            return MatrixRefusal(429, "M_LIMIT_EXCEEDED", "too many requests", _after(response, answer))
        return HomeserverUnreachable(
            f"it answered with status {response.status}, as no homeserver does; check address and proxy"
        )
    detail = answer.get("error")
    return MatrixRefusal(response.status, code, detail if isinstance(detail, str) else "", _after(response, answer))


def _after(response: ClientResponse, answer: Json) -> float | None:
    milliseconds = answer.get("retry_after_ms")
    if isinstance(milliseconds, int | float) and milliseconds >= 0:
        return min(milliseconds / 1000, LONGEST_WAIT)
    seconds = response.headers.get("Retry-After", "")
    return min(float(seconds), LONGEST_WAIT) if seconds.isdecimal() else None


def _unreachable(error: Exception) -> HomeserverUnreachable:
    if isinstance(error, TimeoutError):
        return HomeserverUnreachable("it did not answer in time")
    return HomeserverUnreachable(str(error) or type(error).__name__)
