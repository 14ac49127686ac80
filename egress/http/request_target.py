"""What a request asks for: which provider's which path. Pure, and strict: what two programs could read in two ways is
refused, so that nothing passes here as harmless and arrives as something else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from egress.provider_endpoints import PROVIDERS, Provider

LONGEST: Final = 8_000

_PLAIN = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*")
_QUERY = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@%/?\[\]{}|^`\"<>\\]*")
#: Percent-encoded, these are seen only by who decodes: controls, slash, backslash, dot, percent, hash, question mark.
_HIDDEN = re.compile(r"%(?:[01][0-9a-f]|7f|2f|5c|2e|25|23|3f|(?![0-9a-f]{2}))", re.IGNORECASE)


class BadTarget(ValueError):
    """A request target that is refused as it stands. The message says why."""


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """Where a request wants to go."""

    provider: Provider | None
    """None: nothing that this egress leads to."""
    path: str
    """From the provider's root on, as it came."""
    query: str
    """As it came, with the question mark; empty: there is none."""


def read(raw: str, *, provider: Provider | None = None) -> RequestTarget:
    """Read the target of a request in origin form (RFC 9112, 3.2.1).

    Args:
        raw: as it came, without the token of a port listener.
        provider: whose host the agent believes to talk to (an intercepted connection); None: the first segment says it.

    Raises:
        BadTarget: it is not in origin form, or could be read in more ways than one.
    """
    if not raw.startswith("/"):
        raise BadTarget(
            "only requests in origin form (GET /path) are taken here; this is no forward proxy for http://."
        )
    if len(raw) > LONGEST:
        raise BadTarget(f"the path is longer than {LONGEST} characters.")
    path, mark, query = raw.partition("?")
    if "#" in raw:
        raise BadTarget("a request target has no fragment (#).")
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
