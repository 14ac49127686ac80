"""Which headers pass, either way. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress.provider_endpoints import Provider

#: Meant for one connection alone (RFC 9110, 7.6.1, and those that proxies know besides).
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
#: Never from the agent to a provider: said again by the egress, or whose account it is, or where the request came from.
_NOT_OUT: Final = HOP_BY_HOP | {
    "host",
    "content-length",
    "accept-encoding",
    # The web server has decoded the body.
    "content-encoding",
    "expect",
    "cookie",
    "cookie2",
    "forwarded",
    "via",
    "x-real-ip",
    "openai-organization",
    "openai-project",
    # In these, some servers look for the path, the host or the method before they look at the request line.
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
#: Never from a provider to the agent.
_NOT_BACK: Final = frozenset(
    name.encode()
    for name in HOP_BY_HOP | {"set-cookie", "set-cookie2", "alt-svc", "content-length", "location", "clear-site-data"}
)

#: An OAuth token of a subscription with Anthropic, which goes where no API key goes.
_OAUTH: Final = "sk-ant-oat"


def goes_as_key(provider: Provider, credential: str) -> bool:
    """Return whether a provider that tells them apart is given it as an API key, and answers as to one: without the
    windows of a subscription."""
    return provider == "anthropic" and not credential.startswith(_OAUTH)


def outgoing(
    came: Iterable[tuple[str, str]],
    *,
    provider: Provider,
    credential: str | None,
    own: bool = False,
) -> CIMultiDict[str]:
    """Return what goes to the provider.

    Args:
        came: as the agent sent them.
        provider: whose way it is to be told a credential.
        credential: the account's; None: it has none.
        own: the agent's own credential passes instead.

    Raises:
        ValueError: a header cannot be sent on. The message names it, never its value.
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
            # Undecodable bytes came as surrogates.
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
    """Return what goes back to the agent, but for the length.

    Args:
        came: as the provider sent them.
        decoded: the content goes on without the encoding that it came with.
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
    """Headers that Connection declares to be meant for this connection alone."""
    return {part.strip().lower() for name, value in pairs if name.lower() == "connection" for part in value.split(",")}


def _printable(name: str) -> str:
    return name if name.isascii() and name.isprintable() and len(name) < 60 else "(unreadable)"
