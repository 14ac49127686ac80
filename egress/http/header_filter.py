"""Which headers pass, in either direction. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from multidict import CIMultiDict

from egress.provider_endpoints import Provider

#: Headers for a single connection (RFC 9110, section 7.6.1, and others that proxies know).
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "proxy-authentication-info",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)
#: Headers that never pass from the agent to a provider: the egress sets them itself, or they identify an account or the
#: request's origin.
_NOT_OUT: Final = HOP_BY_HOP | {
    "host",
    "content-length",
    "accept-encoding",
    # The body is already decoded.
    "content-encoding",
    "expect",
    "cookie",
    "cookie2",
    "forwarded",
    "via",
    "x-real-ip",
    "openai-organization",
    "openai-project",
    # Some servers read the path, the host or the method from these before the request line.
    "x-original-url",
    "x-original-host",
    "x-original-uri",
    "x-rewrite-url",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
}
_CREDENTIALS: Final = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key"})
#: Headers that never pass from a provider to the agent.
_NOT_BACK: Final = frozenset(
    name.encode()
    for name in HOP_BY_HOP | {"set-cookie", "set-cookie2", "alt-svc", "content-length", "location", "clear-site-data"}
)

#: The prefix of an OAuth token of an Anthropic subscription, which does not go into the API key's header.
_OAUTH: Final = "sk-ant-oat"


def goes_as_key(provider: Provider, credential: str) -> bool:
    """Return whether the credential is sent to this provider as an API key. The provider then omits the windows of a
    subscription."""
    return provider == "anthropic" and not credential.startswith(_OAUTH)


def outgoing(
    came: Iterable[tuple[str, str]],
    *,
    provider: Provider,
    credential: str | None,
    own: bool = False,
) -> CIMultiDict[str]:
    """Return the headers for the provider.

    Args:
        came: the headers as the agent sent them.
        provider: determines the header of the credential.
        credential: the account's credential; None: it has none.
        own: whether the agent's own credential passes instead.

    Raises:
        ValueError: a header cannot be forwarded. The message names it, never its value.
    """
    pairs = list(came)
    named = _named(pairs)
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in pairs:
        low = name.lower()
        if low in _NOT_OUT or low in named or low.startswith(("x-forwarded", "proxy-")):
            continue
        if low in _CREDENTIALS and not own:
            continue
        try:
            value.encode()
        except UnicodeEncodeError:
            # Undecodable bytes were read as surrogates.
            raise ValueError(f"the header {_printable(name)} is not text (UTF-8).") from None
        headers.add(name, value)
    headers["Accept-Encoding"] = "identity"
    if credential is not None and not own:
        if goes_as_key(provider, credential):
            headers["x-api-key"] = credential
        else:
            headers["Authorization"] = f"Bearer {credential}"
    return headers


def returning(came: Iterable[tuple[bytes, bytes]], *, decoded: bool) -> list[tuple[bytes, bytes]]:
    """Return the headers for the agent, without the length.

    Args:
        came: the headers as the provider sent them.
        decoded: whether the content is forwarded without its content encoding.
    """
    pairs = list(came)
    named = {
        part.strip().lower() for name, value in pairs if name.lower() == b"connection" for part in value.split(b",")
    }
    kept = []
    for name, value in pairs:
        low = name.lower()
        if low in _NOT_BACK or low in named or (decoded and low == b"content-encoding"):
            continue
        kept.append((name, value))
    return kept


def _named(pairs: list[tuple[str, str]]) -> set[str]:
    """Return the headers that Connection declares as specific to this connection."""
    return {part.strip().lower() for name, value in pairs if name.lower() == "connection" for part in value.split(",")}


def _printable(name: str) -> str:
    return name if name.isascii() and name.isprintable() and len(name) < 60 else "(unreadable)"
