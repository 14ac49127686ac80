"""One HTTP client for all forges: it bounds, masks, waits and repeats; it knows no forge's routes."""

from __future__ import annotations

import json
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import structlog
from pydantic import TypeAdapter, ValidationError
from yarl import URL

from core import backoff, validation_errors
from core.secret_values import SecretValues
from forge.clients.address import ForgeAddress
from forge.clients.http_options import HttpOptions
from forge.clients.retries import said_at, wait_asked
from forge.model.errors import ForgeAway, ForgeError, ForgeMissing, ForgeRefused, shown_body

T = TypeVar("T")
Json: TypeAlias = Mapping[str, object]
_log = structlog.get_logger(__name__)

USER_AGENT = "muster"
#: Names under which a JSON error has its sentence.
_SENTENCES = ("message", "error", "errors")


@dataclass(frozen=True, slots=True)
class ForgeResponse:
    """What a forge said, bounded in size."""

    request: str
    """Method and path, for messages; without the query."""
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    is_cut: bool = False
    """Whether the body was longer."""


class ResponseTooLarge(ForgeError):
    """A response was larger than Muster reads."""

    code = "forge.too_large"

    def __init__(self, message: str, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.headers = headers


@dataclass(frozen=True, slots=True)
class ForgeLogin:
    """How Muster introduces itself: the token is sent in a header, and appears nowhere else."""

    token: str = field(repr=False)
    scheme: str
    """The word before the token in the header: ``token`` or ``Bearer``."""

    def __post_init__(self) -> None:
        """Refuse what cannot be a header.

        Raises:
            ForgeError: the token is empty or has other characters than a token.
        """
        if not self.token.isascii() or not self.token.isprintable() or not self.token or " " in self.token:
            raise ForgeError(
                "The forge's token is empty, or has a space, a line end or another character that no token has. "
                "Copy it again from the forge's settings."
            )


class ForgeHttp:
    """The connections to one forge; `close` them."""

    def __init__(
        self,
        address: ForgeAddress,
        api_url: str,
        login: ForgeLogin,
        *,
        headers: Mapping[str, str],
        options: HttpOptions,
    ) -> None:
        """Prepare the connections; nothing is sent yet.

        Args:
            address: the forge's.
            api_url: where its API begins, without a slash at the end.
            login: who asks.
            headers: sent with each request.
            options: limits, and what waiting depends on.
        """
        self.address = address
        self.limits = options.limits
        self.said_at: float | None = None
        """The time of the newest response by the forge's clock, in seconds since 1970; None: unknown."""
        self._options = options
        self._api_url = api_url
        self._headers = {
            **headers,
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            "Authorization": f"{login.scheme} {login.token}",
        }
        self._secrets = SecretValues([login.token], shortest=1)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        accept: str | None = None,
        needs: str = "",
        expected: Collection[int] = (),
        cut_at: int | None = None,
    ) -> ForgeResponse:
        """Read something. It is repeated after failures and rate limits, within bounds.

        Args:
            path: what comes after the API's address, as `path_of` makes it.
            query: what comes after the question mark.
            accept: the media type, if it is not the usual one.
            needs: the permission that the token needs, for the message of a refusal.
            expected: statuses to return instead of raising.
            cut_at: the bytes after which a longer body is cut; without it a body that is too large is an error.

        Raises:
            ForgeAway: the forge does not respond, or cannot now.
            ForgeRefused: it says no.
            ForgeError: what it says is too large or compressed.
        """
        failures, waited = 0, 0.0
        while True:
            asked: float | None = None
            try:
                response = await self._once("GET", path, query=query, accept=accept, cut_at=cut_at)
                asked = wait_asked(response.status, response.headers, self._options.clock())
                if asked is None and response.status in expected:
                    return response
                if asked is None and response.status < 500:
                    return self._checked(response, needs)
                problem = self._away(response, asked)
            except ForgeAway as error:
                problem = error
            if asked is not None:
                seconds, waited = asked, waited + asked
                if waited > self.limits.longest_wait_s:
                    raise problem
            else:
                failures += 1
                if failures >= self.limits.attempts:
                    raise problem
                seconds = backoff.pause(
                    failures,
                    first=self.limits.first_pause_s,
                    longest=self.limits.longest_pause_s,
                    rng=self._options.rng,
                )
            self.tell(f"{problem} Muster asks again in {seconds:.0f} s.")
            await self._options.pause(seconds)

    async def send(self, method: str, path: str, body: Json, *, needs: str = "") -> ForgeResponse:
        """Write something, once: after a failure nobody knows whether it was done.

        Raises:
            ForgeAway: the forge does not respond, or cannot now. It may have been done, unless `retry_after` is set.
            ForgeRefused: it says no.
            ForgeError: what it says is too large or compressed.
        """
        response = await self._once(method, path, body=body)
        asked = wait_asked(response.status, response.headers, self._options.clock())
        if asked is not None or response.status >= 500:
            raise self._away(response, asked)
        return self._checked(response, needs)

    def parsed(self, adapter: TypeAdapter[T], response: ForgeResponse) -> T:
        """Return the value that a response holds as JSON.

        Raises:
            ForgeError: it holds none; the message says what was expected and found.
        """
        try:
            return adapter.validate_json(response.body)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
        if detail["type"] == "json_invalid":
            raise ForgeError(
                f"{self._forge} gave no JSON to {response.request}, but: {self.masked(response.body)!r}. Check that "
                f"{self.address.url} is the address of the forge's start page, and check the proxy in front of it."
            )
        place = ".".join(str(part) for part in detail["loc"]) or "the whole"
        said = shown_body(self._secrets.masked_text(validation_errors.message(detail, None)))
        raise ForgeError(
            f"{self._forge} gave something unexpected to {response.request}: {place}: {said} This version of the "
            "forge may be one that Muster does not know."
        )

    def masked(self, body: bytes) -> str:
        """Return the beginning of a body as it can be shown, with our token masked."""
        return shown_body(self._secrets.masked(body[:20_000]).decode("utf-8", "replace"))

    async def close(self) -> None:
        """Close the connections. Requests after it fail."""
        session, self._session, self._closed = self._session, None, True
        if session is not None:
            await session.close()

    @property
    def _forge(self) -> str:
        return f"The forge {self.address.host}"

    def tell(self, sentence: str) -> None:
        """Log something that slows Muster down or is left out, and tell the caller."""
        _log.warning("forge.trouble", forge=self.address.host, why=sentence)
        if self._options.on_wait is not None:
            self._options.on_wait(sentence)

    async def _once(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        accept: str | None = None,
        cut_at: int | None = None,
    ) -> ForgeResponse:
        request = f"{method} {path}"
        url = URL(f"{self._api_url}{path}" + (f"?{urlencode(query)}" if query else ""), encoded=True)
        headers = dict(self._headers) if accept is None else {**self._headers, "Accept": accept}
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        most = self.limits.response_bytes if cut_at is None else cut_at
        try:
            async with self._connections().request(
                method, url, data=content, headers=headers, allow_redirects=False
            ) as response:
                raw = bytearray()
                async for chunk in response.content.iter_chunked(65_536):
                    raw += chunk
                    if len(raw) > most:
                        break
                status, got = response.status, response.headers.copy()
                self.said_at = said_at(got)
        except aiohttp.ClientConnectorCertificateError as error:
            raise ForgeError(
                f"The certificate of {self.address.host} cannot be verified: {_reason(error)}. Nothing was sent. "
                "Name the forge's certificate authority in `forge: ca_file`, or renew the certificate."
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ForgeAway(self._unreached(method, request, error)) from None
        if got.get("Content-Encoding", "identity").lower() not in ("", "identity"):
            raise ForgeError(
                f"{self._forge} compressed its response to {request}, which Muster did not ask for. Look at the proxy "
                "in front of it."
            )
        if len(raw) > most and cut_at is None:
            raise ResponseTooLarge(
                f"{self._forge} gave more than {most:,} bytes to {request}. Nothing of it was used.", got
            )
        return ForgeResponse(request, status, got, bytes(raw[:most]), len(raw) > most)

    def _connections(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ForgeError(f"The connections to {self.address.host} are closed.")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._options.tls),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self.limits.request_s),
                trust_env=False,
            )
        return self._session

    def _unreached(self, method: str, request: str, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            why = f"did not respond to {request} within {self.limits.request_s:.0f} s."
        else:
            why = f"cannot be reached for {request}: {self._secrets.masked_text(_reason(error))}."
        return f"{self._forge} {why}" + (" Nobody knows whether it was done." if method != "GET" else "")

    def _away(self, response: ForgeResponse, asked: float | None) -> ForgeAway:
        said = self._said(response)
        if asked is not None:
            return ForgeAway(
                f"{self._forge} limits requests ({response.status}) and asks to wait {asked:.0f} s.{said}",
                retry_after=asked,
            )
        unsure = "" if response.request.startswith("GET ") else " Nobody knows whether it was done."
        return ForgeAway(f"{self._forge} failed at {response.request} ({response.status}).{said}{unsure}")

    def _checked(self, response: ForgeResponse, needs: str) -> ForgeResponse:
        status = response.status
        if 200 <= status < 300:
            return response
        body = self.masked(response.body)
        if 300 <= status < 400:
            raise ForgeRefused(
                f"{self._forge} redirects {response.request} ({status}). Muster follows no redirect, since its token "
                "would go along. The repository may have a new name, or the forge a new address: configure that.",
                status=status,
                body=body,
            )
        said, kind = self._said(response), ForgeRefused
        if status == 401:
            hint = " It does not accept the token: it expired, was revoked, or belongs to another forge."
        elif status in (404, 410):
            kind, hint = ForgeMissing, " It does not exist, or the token may not see it." + _needed(response, needs)
        else:
            hint = _needed(response, needs) if status == 403 else ""
        raise kind(f"{self._forge} refused {response.request} ({status}).{said}{hint}", status=status, body=body)

    def _said(self, response: ForgeResponse) -> str:
        """Return what an error says, after a space; empty if it says nothing."""
        text = self.masked(response.body)
        try:
            error = json.loads(response.body)
        except (ValueError, RecursionError):
            error = None
        if isinstance(error, dict):
            words = [error[name] for name in _SENTENCES if error.get(name)]
            parts = [each if isinstance(each, str) else json.dumps(each) for each in words]
            text = shown_body(self._secrets.masked_text("; ".join(parts))) or text
        return f" It says: {text!r}." if text else ""


def _needed(response: ForgeResponse, needs: str) -> str:
    """Return what a token may lack, after a space. GitHub says it in headers, Gitea in its sentence."""
    permissions = response.headers.get("X-Accepted-GitHub-Permissions") or response.headers.get(
        "X-Accepted-OAuth-Scopes"
    )
    wanted = shown_body(permissions) if permissions else needs
    return f" The token needs: {wanted}." if wanted else ""


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError) and isinstance(
        error.certificate_error, ssl.SSLCertVerificationError
    ):
        return error.certificate_error.verify_message
    return shown_body(str(error) or type(error).__name__).rstrip(".")


def path_of(*parts: str | int) -> str:
    """Return a path, with each part quoted.

    Raises:
        ForgeError: a part would change the path.
    """
    for part in parts:
        if part in ("", ".", ".."):
            raise ForgeError(f"{part!r} cannot be part of an address at the forge. Write the name itself.")
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)
