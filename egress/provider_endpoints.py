"""The provider calls that are allowed: which paths are metered and which are free. No other path passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Provider: TypeAlias = Literal["anthropic", "openai"]
Api: TypeAlias = Literal["anthropic", "responses", "chat"]
"""The format of requests and responses: Anthropic Messages, OpenAI Responses, OpenAI Chat Completions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One API call of a provider."""

    api: Api
    metered: bool
    """Whether it uses paid tokens. An unmetered call costs nothing, and passes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderFacts:
    """Built-in facts about a provider."""

    upstream: str
    """The default address, if an account sets none."""
    hosts: tuple[str, ...]
    """Host names of its metered API: a CONNECT to one is intercepted."""
    api: Api
    """The format of error responses to requests that are no operation."""
    operations: Mapping[tuple[str, str], Operation]
    """Operations by method and path, relative to the provider's root."""


_ANTHROPIC = {
    ("POST", "/v1/messages"): Operation(api="anthropic", metered=True),
    ("POST", "/v1/messages/count_tokens"): Operation(api="anthropic", metered=False),
    ("GET", "/v1/models"): Operation(api="anthropic", metered=False),
    ("HEAD", "/"): Operation(api="anthropic", metered=False),
    ("GET", "/"): Operation(api="anthropic", metered=False),
}
_OPENAI = {
    ("POST", "/v1/responses"): Operation(api="responses", metered=True),
    ("POST", "/v1/chat/completions"): Operation(api="chat", metered=True),
    ("GET", "/v1/models"): Operation(api="responses", metered=False),
}

PROVIDERS: Mapping[Provider, ProviderFacts] = {
    "anthropic": ProviderFacts(
        upstream="https://api.anthropic.com", hosts=("api.anthropic.com",), api="anthropic", operations=_ANTHROPIC
    ),
    "openai": ProviderFacts(
        upstream="https://api.openai.com", hosts=("api.openai.com",), api="responses", operations=_OPENAI
    ),
}

_MODELS = "/v1/models/"


def operation(provider: Provider, method: str, path: str) -> Operation | None:
    """Return the operation of a request, or None if it is not allowed.

    Args:
        provider: the provider that receives the request.
        method: as received.
        path: as received, without the query and still percent-encoded: a path that needs decoding is no operation.
    """
    found = PROVIDERS[provider].operations.get((method, path))
    if found is None and method == "GET" and path.startswith(_MODELS):
        # A single path segment, without `..`, so that it cannot leave the models' path.
        name = path.removeprefix(_MODELS)
        if name and all(sign.isalnum() or sign in "._:-" for sign in name) and name.strip("."):
            return PROVIDERS[provider].operations[("GET", "/v1/models")]
    return found
