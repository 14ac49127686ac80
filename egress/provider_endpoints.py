"""The calls that there are: which of a provider's paths are metered, which are harmless, and no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Provider: TypeAlias = Literal["anthropic", "openai"]
Api: TypeAlias = Literal["anthropic", "responses", "chat"]
"""How requests and responses are written: Anthropic Messages, OpenAI Responses, OpenAI Chat Completions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One call of a provider's."""

    api: Api
    metered: bool
    """It uses tokens that somebody pays. What is not metered costs nothing, and passes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderFacts:
    """What is known of a provider beforehand."""

    upstream: str
    """Where it is reached when an account does not say otherwise."""
    hosts: tuple[str, ...]
    """Names under which its metered interface is reached: a CONNECT to one is intercepted."""
    api: Api
    """In whose shape it is refused what is no operation at all."""
    operations: Mapping[tuple[str, str], Operation]
    """By method and path. A path is written from the provider's root on."""


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
    """Return which call this is; None: none that is let through.

    Args:
        provider: whose.
        method: as it came.
        path: as it came, without the query, still percent-encoded: a path that needs decoding is no operation.
    """
    found = PROVIDERS[provider].operations.get((method, path))
    if found is None and method == "GET" and path.startswith(_MODELS):
        # One model by its name: a single segment, and nothing that climbs.
        name = path.removeprefix(_MODELS)
        if name and all(sign.isalnum() or sign in "._:-" for sign in name) and name.strip("."):
            return PROVIDERS[provider].operations[("GET", "/v1/models")]
    return found
