"""The target of a request: a provider and a path. Pure and strict.

A target that two programs could read differently is refused, so that no request passes here as free and arrives as
another one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from egress.provider_endpoints import PROVIDERS, Provider

LONGEST: Final = 8_000

_PLAIN = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*")
_QUERY = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@%/?\[\]{}|^`\"<>\\]*")
#: Encoded characters that only a decoding program sees: controls, slash, backslash, dot, percent, hash, question mark.
_HIDDEN = re.compile(r"%(?:[01][0-9a-f]|7f|2f|5c|2e|25|23|3f|(?![0-9a-f]{2}))", re.IGNORECASE)


class BadTarget(ValueError):
    """The request target is not acceptable. The message says why."""


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """The parsed target of a request."""

    provider: Provider | None
    """The provider; None: this egress does not lead there."""
    path: str
    """The path from the provider's root, as received."""
    query: str
    """The query as received, with the question mark; empty if there is none."""


def read(raw: str, *, provider: Provider | None = None) -> RequestTarget:
    """Parse the target of a request in origin form (RFC 9112, section 3.2.1).

    Args:
        raw: as received, without the token of a port listener.
        provider: the provider whose host the agent addressed (an intercepted connection); None: the first path segment.

    Raises:
        BadTarget: it is not in origin form, or is ambiguous.
    """
    if not raw.startswith("/"):
        raise BadTarget(
            "only requests in origin form (GET /path) are taken here; this is no forward proxy for http://."
        )
    if len(raw) > LONGEST:
        raise BadTarget(f"the path is longer than {LONGEST} characters.")
    path, mark, query = raw.partition("?")
    if "#" in raw:
        raise BadTarget("a request target must not have a fragment (#).")
    if not _PLAIN.fullmatch(path) or not _QUERY.fullmatch(query):
        raise BadTarget("the path has signs that must be percent-encoded.")
    if "//" in path or _HIDDEN.search(path):
        raise BadTarget("the path has empty segments, or hides slashes, dots or controls by percent-encoding.")
    if "/." in path and any(segment in {".", ".."} for segment in path.split("/")):
        raise BadTarget("the path climbs ('.' or '..').")
    if provider is not None:
        return RequestTarget(provider, path, mark + query)
    for known in PROVIDERS:
        if path.startswith(f"/{known}") and path[len(known) + 1 : len(known) + 2] in {"", "/"}:
            return RequestTarget(known, path[len(known) + 1 :] or "/", mark + query)
    return RequestTarget(None, path, mark + query)
