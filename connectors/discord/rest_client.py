"""Requests to Discord's REST API, and what its refusals mean.

Each request is made once. discord.py would sleep through rate limits and ask again by itself, behind the back of the
outbox, which has more urgent things to say meanwhile. A bucket that Discord says is used up is not asked before its
time, since asking all the same is punished (API documentation, "Rate Limits").

    DiscordRequestError
    ├── DiscordUnreachable    no answer, or one that is not Discord's
    └── DiscordRefusal        Discord says no ("JSON Error Codes")
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

import aiohttp
from discord.gateway import DiscordClientWebSocketResponse

from connectors.contract.connector_protocol import MessageRefused, TryLater
from connectors.discord.json_values import identifier, json_object
from connectors.discord.rate_limit_buckets import Buckets, seconds

UNKNOWN_CHANNEL = 10003
UNKNOWN_MESSAGE = 10008
TOO_LARGE = 40005
NO_DIRECT = 50003
NO_ACCESS = 50001
WRONG_KIND_OF_CHANNEL = 50024
NO_PERMISSION = 50013
ARCHIVED = 50083
ACKNOWLEDGED = 40060
HAS_THREAD = 160004
TOO_MANY_THREADS = 160006

MOST_INVALID = 5_000
"""Requests that Discord may refuse in ten minutes; of who has twice as many it hears no more."""
_INVALID_WITHIN = 600.0
_LARGEST_ANSWER = 32_000_000
#: Requests with a token of their own.
_BY_TOKEN = ("/interactions/", "/webhooks/")
#: Who asks, as Discord wants to be told (API documentation, "User Agent").
AGENT = "DiscordBot (https://github.com/Rapptz/discord.py, 2.7) muster"
_TIMEOUT = 30.0
_UPLOAD_TIMEOUT = 300.0


class DiscordRequestError(Exception):
    """A request was not answered as asked."""


class DiscordUnreachable(DiscordRequestError):
    """No one answered, or no one who is Discord."""


class DiscordRefusal(DiscordRequestError):
    """Discord's own no."""

    def __init__(
        self, status: int, code: int, detail: str, *, after: float | None = None, everywhere: bool = False
    ) -> None:
        super().__init__(f"{detail.rstrip('.') or 'no reason given'} (error {code or status})")
        self.status = status
        self.code = code
        self.after = after
        """Seconds that we were asked to wait."""
        self.everywhere = everywhere
        """Whether that holds for all that the bot does."""

    @property
    def passes(self) -> bool:
        """Whether the same request may be taken later."""
        return self.status in (401, 408, 429) or self.status >= 500

    @property
    def forbidden(self) -> bool:
        """Whether a person can mend it by giving the bot a permission."""
        return self.code in (NO_ACCESS, NO_PERMISSION)


def send_error(error: DiscordRequestError) -> TryLater | MessageRefused:
    """Return what a failed request means for what was to be said with it."""
    if not isinstance(error, DiscordRefusal):
        return TryLater(f"Discord cannot be reached: {error}")
    if error.passes:
        return TryLater(f"Discord says: {error}", after=error.after, limited=error.everywhere)
    if error.code == TOO_MANY_THREADS:
        return MessageRefused(
            f"Discord opens no thread: {error}. A server has at most 1,000 that are not archived. Stop agents or "
            "archive threads, then send it again from the dead letters."
        )
    return MessageRefused(f"Discord refuses this: {error}.")


class DiscordClient:
    """One connection to one API."""

    def __init__(
        self,
        api: str,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.api = api
        self.token: str | None = None
        self.answered_at: float | None = None
        """When Discord last answered anything, a refusal included."""
        self.its_time: float | None = None
        """What time it was then by Discord's clock, to the second."""
        self._clock = clock
        self._steady = steady
        self._buckets = Buckets()
        self._everything_until = 0.0
        self._invalid: deque[float] = deque(maxlen=MOST_INVALID)
        self.unauthorized = asyncio.Event()
        """Whether Discord has said that it does not know the token."""
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP session, made when it is first used.

        Raises:
            DiscordUnreachable: it was closed; what was still to be said is said over another wire.
        """
        if self._closed:
            raise DiscordUnreachable("the connection to it has just been given up")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                ws_response_class=DiscordClientWebSocketResponse,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": AGENT},
            )
        return self._session

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        file: tuple[str, str, bytes] | None = None,
        part: str = "",
    ) -> Any:
        """Ask for JSON; None where the answer has no content.

        Args:
            method: of HTTP.
            path: what comes after the API's address, with its ids in it.
            body: JSON to send.
            query: what comes after the question mark.
            file: name, media type and content of a file to send with the body.
            part: what is asked has a limit of its own beside that of the bucket, under this name.

        Raises:
            DiscordUnreachable: no answer.
            DiscordRefusal: the answer is no, or would be, so soon after the last one.
        """
        bucket = _bucket(method, path)
        own = f"{bucket} {part}" if part else bucket
        self._check(path, bucket, own)
        headers = {"Authorization": f"Bot {self.token}"} if self.token is not None else {}
        data: Any = None
        if file is not None:
            form = aiohttp.FormData(quote_fields=False)
            form.add_field("payload_json", json.dumps(body), content_type="application/json")
            form.add_field("files[0]", file[2], filename=file[0], content_type=file[1])
            data = form
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body), "application/json"
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT if file is None else _UPLOAD_TIMEOUT)
        try:
            async with self.session.request(
                method, self.api + path, data=data, params=query, headers=headers, timeout=timeout
            ) as response:
                raw = bytearray()
                async for chunk in response.content.iter_chunked(65_536):
                    raw += chunk
                    if len(raw) > _LARGEST_ANSWER:
                        raise DiscordUnreachable("its answer is larger than any of Discord's")
        except BaseException as error:
            for name in {bucket, own}:
                self._buckets.lost(name)
            if isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
                raise _unreachable(error) from error
            raise
        self.answered_at = self._clock()
        self.its_time = _date(response.headers.get("Date")) or self.its_time
        self._buckets.answered(bucket, response.headers, self._steady())
        if own != bucket:
            self._buckets.lost(own)  # headers say nothing of it
        if 200 <= response.status < 300:
            return _answer(raw) if raw else None
        answer = _parsed(raw)
        if not answer and response.status not in (413, 429) and response.status < 500:
            # A proxy's no, or that of a page which asks whether one is human, is not Discord's.
            raise DiscordUnreachable(f"what answers there with status {response.status} is not Discord")
        refusal = _refusal(response.status, response.headers, answer)
        self._mind(refusal, path)
        if refusal.status == 429 and refusal.after is not None:
            if refusal.everywhere:
                self._everything_until = self._steady() + refusal.after
            else:
                # Headers speak of the bucket alone: where that has something left, it is the other limit.
                which = bucket if response.headers.get("X-RateLimit-Remaining") == "0" else own
                self._buckets.refused(which, refusal.after, self._steady())
        raise refusal

    async def send_message(
        self, path: str, *, body: Any, method: str = "POST", file: tuple[str, str, bytes] | None = None
    ) -> str:
        """Send a message, or a change of one. Return its id.

        Raises:
            DiscordUnreachable: no answer, or one without an id.
            DiscordRefusal: as `call`.
        """
        number = identifier(json_object(await self.call(method, path, body=body, file=file)).get("id"))
        if number is None:
            raise DiscordUnreachable("it took a message without saying under which id")
        return number

    async def read(self, url: str, *, limit: int) -> bytes | None:
        """Return the bytes of a file, asked for without our token; None as soon as they turn out to be more than
        `limit`.

        Raises:
            DiscordUnreachable: no answer.
            DiscordRefusal: it is gone.
        """
        try:
            timeout = aiohttp.ClientTimeout(total=120)
            async with self.session.get(url, timeout=timeout, allow_redirects=False) as response:
                if response.status != 200:
                    raise DiscordRefusal(response.status, 0, "the file is not there")
                content = bytearray()
                async for chunk in response.content.iter_chunked(65_536):
                    content += chunk
                    if len(content) > limit:
                        return None
                return bytes(content)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error

    async def close(self) -> None:
        """Let go of the connections."""
        session, self._session, self._closed = self._session, None, True
        if session is not None:
            await session.close()

    async def __aenter__(self) -> DiscordClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _mind(self, refusal: DiscordRefusal, path: str) -> None:
        """Count what Discord counts as an invalid request ("Rate Limits"), and note when it knows us no more."""
        if refusal.status == 401 and not path.startswith(_BY_TOKEN):
            self.unauthorized.set()
        if refusal.status in (401, 403, 429):
            self._invalid.append(self._steady())

    def _check(self, path: str, bucket: str, own: str) -> None:
        now = self._steady()
        if len(self._invalid) == MOST_INVALID and now - self._invalid[0] < _INVALID_WITHIN:
            after = _INVALID_WITHIN - (now - self._invalid[0])
            raise DiscordRefusal(
                429, 0, "so much was refused that Discord would shut us out", after=after, everywhere=True
            )
        # Answers to interactions do not count ("Receiving and Responding": the bot's global limit does not hold).
        if self._everything_until > now and not path.startswith(_BY_TOKEN):
            raise DiscordRefusal(429, 0, "too many requests", after=self._everything_until - now, everywhere=True)
        for name in (bucket,) if own == bucket else (own, bucket):
            wait = self._buckets.take(name, now)
            if wait is not None:
                if name != own:
                    self._buckets.lost(own)
                raise DiscordRefusal(429, 0, "too many requests in this channel", after=wait)


def _bucket(method: str, path: str) -> str:
    """Within what a rate limit holds: the kind of request, and the channel ("Rate Limits", top-level resources)."""
    head, _, tail = path.removeprefix("/").partition("/")
    major, _, rest = tail.partition("/")
    kind = re.sub(r"reactions/.*", "reactions", re.sub(r"[0-9]{17,20}", "id", rest))
    return f"{method} {head}/{major}/{kind}"


def _refusal(status: int, headers: Mapping[str, str], answer: dict[str, Any]) -> DiscordRefusal:
    code, detail = answer.get("code"), answer.get("message")
    after = seconds(answer.get("retry_after")) or seconds(headers.get("Retry-After"))
    # A refusal without `Via` comes from in front of Discord, and holds for the address that we have.
    everywhere = status == 429 and (answer.get("global") is True or "Via" not in headers)
    return DiscordRefusal(
        status,
        code if isinstance(code, int) else 0,
        detail if isinstance(detail, str) else f"status {status}",
        after=after,
        everywhere=everywhere,
    )


def _date(value: str | None) -> float | None:
    try:
        return None if value is None else parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None


def _answer(raw: bytes | bytearray) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise DiscordUnreachable(
            "what answers there is not Discord; check `api` in muster.yaml, or the proxy"
        ) from None


def _parsed(raw: bytes | bytearray) -> dict[str, Any]:
    try:
        return json_object(json.loads(raw))
    except (ValueError, RecursionError):
        return {}


def _unreachable(error: Exception) -> DiscordUnreachable:
    if isinstance(error, TimeoutError):
        return DiscordUnreachable("it did not answer in time")
    return DiscordUnreachable(str(error) or type(error).__name__)
