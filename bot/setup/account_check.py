"""Whether a provider takes a key: one request that lists models, and costs no tokens.

A server's text is never shown, since it could repeat the key.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from core.secret_references import Reference, Unresolved
from egress.http.header_filter import goes_as_key
from egress.provider_endpoints import PROVIDERS

#: Seconds to wait for an answer.
_PATIENCE: Final = 5.0
_TITLES: Final = {"anthropic": "Anthropic", "openai": "OpenAI"}


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountAnswer:
    """A provider's answer to a key."""

    accepted: bool | None
    """None if unknown."""
    answered: str | None = None
    """A sentence without its end; None if there was no key to ask with."""


def check(
    provider: Literal["anthropic", "openai"],
    credential: Reference,
    environ: Mapping[str, str],
    *,
    base_url: str | None = None,
) -> AccountAnswer:
    """Ask a provider whether it takes a key. Blocks for seconds."""
    try:
        key = credential.resolve(environ)
    except Unresolved:
        return AccountAnswer(accepted=None)
    place = (base_url or PROVIDERS[provider].upstream).rstrip("/").removesuffix("/v1")
    headers = {"User-Agent": "muster", "Accept": "application/json"}
    if provider == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
        if goes_as_key(provider, key):
            headers["x-api-key"] = key
        else:
            # The token of a subscription (`claude setup-token`).
            headers |= {"Authorization": f"Bearer {key}", "anthropic-beta": "oauth-2025-04-20"}
    else:
        headers["Authorization"] = f"Bearer {key}"
    whose = _TITLES[provider] if base_url is None else place
    try:
        status = _ask(place, "/v1/models?limit=1" if provider == "anthropic" else "/v1/models", headers)
    except ValueError:
        return AccountAnswer(accepted=False, answered="it holds characters that no key has")
    except (OSError, http.client.HTTPException) as error:
        return AccountAnswer(accepted=None, answered=f"{whose} does not answer ({type(error).__name__})")
    if status == 401:
        return AccountAnswer(accepted=False, answered=f"{whose} refuses it (401)")
    if status == 200:
        return AccountAnswer(accepted=True, answered=f"{whose} takes it")
    # A key may be limited to some endpoints (403), and a gateway need not list its models.
    return AccountAnswer(accepted=None, answered=f"{whose} answers {status}, which does not say whether it is valid")


def _ask(place: str, path: str, headers: Mapping[str, str]) -> int:
    parts = urlsplit(place)
    made = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    with closing(made(parts.hostname or "", parts.port, timeout=_PATIENCE)) as connection:
        connection.request("GET", f"{parts.path.rstrip('/')}{path}", headers=dict(headers))
        return connection.getresponse().status
