"""Requests to a homeserver while a fleet is set up on it (Matrix Client-Server API v1.11).

What a homeserver answers is shown to a person at a terminal, so it is cut short and freed of control characters.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit

import aiohttp

from conduit.errors import ProvisionError

Json: TypeAlias = dict[str, Any]

CLIENT = "/_matrix/client/v3"

#: Seconds for one request. Conduit and Synapse both spend about one on a password.
TIMEOUT = 30.0
#: Seconds that a homeserver may ask to wait; for more, a person comes again.
LONGEST_WAIT = 60.0
#: Times that it may ask in a row.
_PATIENCE = 5
_LARGEST_ANSWER = 1024 * 1024


class HomeserverRefusal(ProvisionError):
    """The homeserver's own no."""

    def __init__(self, status: int, code: str, detail: str, answer: Json) -> None:
        super().__init__(f"{detail or 'no reason given'} ({code})")
        self.status = status
        self.code = code
        self.answer = answer


class Homeserver:
    """One homeserver; `close` it."""

    def __init__(self, url: str, *, say: Callable[[str], None]) -> None:
        self.url = address(url)
        self.say = say
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))

    async def __aenter__(self) -> Homeserver:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()
        # Connections to TLS servers end a moment after their session.
        await asyncio.sleep(0)

    async def call(
        self, method: str, *path: str, token: str | None = None, body: Json | None = None, base: str = CLIENT
    ) -> Json:
        """Ask for JSON, waiting where the homeserver asks for it. `path` is quoted part by part.

        Raises:
            HomeserverRefusal: the answer is no.
            ProvisionError: there is no answer, or none that a homeserver gives.
        """
        for _ in range(_PATIENCE):
            try:
                return await self._once(method, path, token, body, base)
            except HomeserverRefusal as error:
                wait = _asked_to_wait(error)
                if wait is None:
                    raise
                if wait > LONGEST_WAIT:
                    raise ProvisionError(
                        f"The homeserver {self.url} wants {wait:.0f} s of rest (M_LIMIT_EXCEEDED). Nothing is lost: "
                        "run the same command again after that."
                    ) from None
                self.say(f"The homeserver asks to wait {wait:.0f} s.")
            await asyncio.sleep(wait)
        raise ProvisionError(
            f"The homeserver {self.url} asked to wait {_PATIENCE} times in a row (M_LIMIT_EXCEEDED). Nothing is lost: "
            "run the same command again later."
        )

    async def _once(self, method: str, path: tuple[str, ...], token: str | None, body: Json | None, base: str) -> Json:
        place = "/".join((self.url + base, *(quote(part, safe="") for part in path)))
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            # Where a redirect leads, neither passwords nor tokens are to follow.
            async with self._session.request(
                method, place, headers=headers, json=body, allow_redirects=False
            ) as response:
                raw = await response.content.read(_LARGEST_ANSWER + 1)
                while len(raw) <= _LARGEST_ANSWER and (more := await response.content.read(_LARGEST_ANSWER)):
                    raw += more
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            reason = "it does not answer" if isinstance(error, TimeoutError) else shown(str(error) or repr(error))
            raise ProvisionError(
                f"The homeserver {self.url} cannot be reached: {reason}. See that it runs (systemctl status "
                "muster-conduit, or docker compose ps) and that this is its address, then run the same command again."
            ) from None
        answer = _parsed(raw) if len(raw) <= _LARGEST_ANSWER else None
        if response.status == 200 and answer is not None:
            return answer
        code = answer.get("errcode") if answer is not None else None
        if response.status == 401 and answer is not None and "flows" in answer:
            raise HomeserverRefusal(401, code if isinstance(code, str) else "M_UNAUTHORIZED", _detail(answer), answer)
        if answer is None or not isinstance(code, str):
            raise ProvisionError(
                f"What answers at {self.url} is not a Matrix homeserver, or a proxy in front of it fails (status "
                f"{response.status}). Check the address and the proxy: {self.url}/_matrix/client/versions must show "
                "JSON."
            )
        raise HomeserverRefusal(response.status, shown(code), _detail(answer), answer)


def address(url: str) -> str:
    """Return the address without what is not needed.

    Raises:
        ProvisionError: it is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ProvisionError(
            f"--homeserver: not a URL: {shown(url)}. Write http:// or https:// first, like http://127.0.0.1:6167."
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ProvisionError("--homeserver: the address of a homeserver has no user, question mark or #.")
    return url.rstrip("/")


def is_open_to_listeners(url: str) -> bool:
    """Return whether secrets would cross a network in the clear."""
    parts = urlsplit(url)
    try:
        ours = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        ours = parts.hostname == "localhost"
    return parts.scheme == "http" and not ours


def shown(text: str) -> str:
    """Return a text from elsewhere, as it can be shown."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[:200])


def text_of(answer: Json, key: str) -> str:
    """Return an identifier in an answer.

    Raises:
        ProvisionError: there is none that can be used.
    """
    value = answer.get(key)
    if not isinstance(value, str) or not value or len(value) > 1024 or not value.isprintable() or " " in value:
        raise ProvisionError(f"The homeserver answered without a usable {key}; that is a fault of it, or of a proxy.")
    return value


def _detail(answer: Json) -> str:
    detail = answer.get("error")
    return shown(detail).rstrip(".") if isinstance(detail, str) else ""


def _asked_to_wait(error: HomeserverRefusal) -> float | None:
    if error.code != "M_LIMIT_EXCEEDED" and error.status != 429:
        return None
    milliseconds = error.answer.get("retry_after_ms")
    if isinstance(milliseconds, int | float) and not isinstance(milliseconds, bool) and milliseconds >= 0:
        return milliseconds / 1000
    return 5.0


def _parsed(raw: bytes) -> Json | None:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None
