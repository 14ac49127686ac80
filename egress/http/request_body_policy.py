"""What a request asks for, and how it is changed on its way.

Only the members of the outermost object are parsed (egress.http.json_members). A change is a splice, and every other
byte stays as the client wrote it. What costs more than tokens is refused (egress.http.unmetered_costs).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from budget.limits.input_bound import Contents
from egress.http.json_members import members, scan
from egress.http.unbounded_contents import adds, compacts, fresh_look, previous_of, refers
from egress.http.unmetered_costs import (
    MOST_SEARCHES,
    RequestNotAllowed,
    check_name,
    refuse,
    searches_web,
    tools_of_provider,
    tools_of_responses,
)
from egress.provider_endpoints import Api
from egress.usage import document_assembly

LEAST_THINKING = 1_024
"""The smallest thinking budget, which must be less than max_tokens (Anthropic documentation, "Extended thinking")."""
_LEAST = {"anthropic": 1, "responses": 16, "chat": 1}
"""The smallest bounds on output that the providers accept."""
_MOST_CHOICES = 128
_LONGEST_MODEL = 200

_BOUNDS: dict[Api, tuple[str, ...]] = {
    "anthropic": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "chat": ("max_completion_tokens", "max_tokens"),
}
_CHANGING = frozenset({"stream", "stream_options", "thinking", "max_tool_calls"}.union(*_BOUNDS.values()))
READ_FIELDS = frozenset(
    {
        *("previous_response_id", "conversation", "context_management", "tool_choice", "functions", "cache_control"),
        *("output_format", "output_config", "response_format", "text"),
        *("model", "stream", "max_tokens", "max_output_tokens", "max_completion_tokens", "n", "stream_options"),
        *("thinking", "tools", "background", "prompt", "fallbacks", "mcp_servers", "container", "service_tier"),
        *("speed", "web_search_options", "input", "messages", "max_tool_calls"),
    }
)


# Not frozen, since that triples the cost of creating one for each request.
@dataclass(kw_only=True, slots=True)
class RequestPolicy:
    """What one request asks for."""

    api: Api
    model: str | None
    stream: bool
    max_tokens: int | None
    """The bound on output that it sets, over all choices; None: it sets none."""
    choices: int = 1
    """Chat Completions: the number of answers that it asks for, each up to the bound."""
    include_usage: bool = False
    """Chat Completions: whether it asks for the usage chunk itself."""
    stream_options: Mapping[str, Any] | None = None
    thinking: Mapping[str, Any] | None = None
    assembles: bool = False
    """Whether it asks for a document that can be assembled from a stream (egress.usage.document_assembly)."""
    contents: Contents = field(default_factory=Contents)
    searches: int = 0
    """How often the provider may search the web for it."""
    most_calls: int | None = None
    """Responses: the bound to insert on calls of provider-run tools; None: no change."""
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """The positions of the values that may change, in bytes."""
    inside: int = 0
    """The position at which to insert a first member of the outermost object."""
    empty: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class BodySplice:
    """A splice: `text` replaces the body from `start` to `end`."""

    start: int
    end: int
    text: bytes


def read(api: Api, body: bytes, *, server_tools: bool = False, premium: bool = False) -> RequestPolicy:
    """Parse a metered request.

    Args:
        api: the format of the request.
        body: the whole body.
        server_tools: whether to allow provider-run tools, which are billed by call or time.
        premium: whether to allow service tiers with other prices.

    Raises:
        RequestNotAllowed: it cannot be parsed, or asks for something that cannot be metered.
    """
    look = fresh_look()
    values, spans, inside = members(body, look, read=READ_FIELDS, changing=_CHANGING)
    for key in values:
        check_name(key, READ_FIELDS)
    model = values.get("model")
    if model is not None and not (isinstance(model, str) and len(model) <= _LONGEST_MODEL and model.isprintable()):
        raise RequestNotAllowed(f"model: a name of at most {_LONGEST_MODEL} characters is required.")
    stream = values.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise RequestNotAllowed("stream: true or false is required.")
    options = _object(values, "stream_options") if api == "chat" else None
    wants_usage = (options or {}).get("include_usage")
    if wants_usage is not None and not isinstance(wants_usage, bool):
        raise RequestNotAllowed("stream_options.include_usage: true or false is required.")
    choices = (_whole(values, "n") or 1) if api == "chat" else 1
    if choices > _MOST_CHOICES:
        raise RequestNotAllowed(f"n: at most {_MOST_CHOICES} is allowed.")
    bounds = [bound for key in _BOUNDS[api] if (bound := _whole(values, key)) is not None]
    refuse(api, values, server_tools=server_tools, premium=premium)
    calls = None
    if api == "responses" and not server_tools and any(map(searches_web, tools_of_responses(values))):
        calls = _whole(values, "max_tool_calls")
        calls = MOST_SEARCHES if calls is None or calls > MOST_SEARCHES else None
    own_tools, rereads, searches = tools_of_provider(api, values)
    contents = Contents(
        pictures=look.pictures,
        own_tools=own_tools,
        added=adds(values),
        hidden=look.hidden or refers(api, values),
        previous=previous_of(api, values),
        rereads=rereads or compacts(values),
        caches=api != "anthropic" or look.caches or bool(values.get("cache_control")),
    )
    return RequestPolicy(
        api=api,
        model=model,
        contents=contents,
        searches=searches,
        stream=bool(stream),
        max_tokens=max(bounds) * choices if bounds else None,
        choices=choices,
        include_usage=bool(wants_usage),
        stream_options=options,
        thinking=_object(values, "thinking") if api == "anthropic" else None,
        assembles=not stream and document_assembly.is_known(api, values, values.get("tools")),
        most_calls=calls,
        spans=spans,
        inside=inside,
        empty=not values,
    )


def edits(
    asking: RequestPolicy, max_tokens: int | None, include_usage: bool, *, as_stream: bool = False
) -> tuple[BodySplice, ...]:
    """Return the necessary changes, in the order of their positions.

    Args:
        asking: the parsed request.
        max_tokens: the required bound on output, over all choices; None: the request's own suffices.
        include_usage: whether a Chat Completions stream must report its usage.
        as_stream: whether to ask for a stream although the client asked for a document.

    Raises:
        RequestNotAllowed: the provider does not accept such a small bound. The error may be sent as a refusal.
    """
    changes: dict[str, str] = {}
    if max_tokens is not None:
        changes.update(_bounded(asking, max_tokens))
    if asking.most_calls is not None:
        changes["max_tool_calls"] = str(asking.most_calls)
    if as_stream:
        changes["stream"] = "true"
    if include_usage and asking.api == "chat" and (asking.stream or as_stream) and not asking.include_usage:
        changes["stream_options"] = json.dumps({**(asking.stream_options or {}), "include_usage": True})
    found = [
        BodySplice(start=asking.spans[key][0], end=asking.spans[key][1], text=text.encode())
        for key, text in changes.items()
        if key in asking.spans
    ]
    added = ",".join(f'"{key}":{text}' for key, text in changes.items() if key not in asking.spans)
    if added:
        comma = "" if asking.empty else ","
        found.append(BodySplice(start=asking.inside, end=asking.inside, text=f"{added}{comma}".encode()))
    return tuple(sorted(found, key=lambda edit: edit.start))


def rewrite(
    body: bytes, asking: RequestPolicy, max_tokens: int | None, include_usage: bool, *, as_stream: bool = False
) -> bytes:
    """Return the body with its `edits`, or the same object if there are none.

    Raises:
        RequestNotAllowed: see `edits`.
    """
    changes = edits(asking, max_tokens, include_usage, as_stream=as_stream)
    if not changes:
        return body
    parts: list[bytes | memoryview] = []
    place = 0
    view = memoryview(body)
    for edit in changes:
        parts += [view[place : edit.start], edit.text]
        place = edit.end
    return b"".join([*parts, view[place:]])


#: The members that the providers' counting endpoints accept (Anthropic API reference, "Count tokens in a Message";
#: OpenAI API reference, "Get input token counts"). They reject all others.
_COUNTED: Mapping[Api, frozenset[str]] = {
    "anthropic": frozenset(
        {
            *("model", "messages", "system", "tools", "tool_choice", "thinking", "cache_control", "context_management"),
            *("output_config", "output_format", "mcp_servers"),
        }
    ),
    "responses": frozenset(
        {
            *("model", "input", "instructions", "tools", "tool_choice", "reasoning", "text", "truncation"),
            *("parallel_tool_calls", "previous_response_id", "conversation"),
        }
    ),
    "chat": frozenset(),
}


def countable(api: Api, body: bytes) -> bytes:
    """Return the body for a provider's token count: the members that affect the input, unchanged.

    Raises:
        RequestNotAllowed: the request cannot be parsed.
    """
    text = body.decode("utf-8")
    kept = [
        f'"{key}":{text[start:end]}'
        for key, (start, end) in scan(text, fresh_look(), read=READ_FIELDS)[1].items()
        if key in _COUNTED[api]
    ]
    return f"{{{','.join(kept)}}}".encode()


def _bounded(asking: RequestPolicy, max_tokens: int) -> dict[str, str]:
    """Return the members that enforce the bound."""
    if asking.max_tokens is not None and asking.max_tokens <= max_tokens:
        return {}
    each = max_tokens // asking.choices
    if each < _LEAST[asking.api]:
        raise RequestNotAllowed(
            f"only {max(0, max_tokens)} tokens of output are left; this request needs at least "
            f"{_LEAST[asking.api] * asking.choices}.",
            status=403,
        )
    standing = [key for key in _BOUNDS[asking.api] if key in asking.spans]
    changes = {key: str(each) for key in standing or _BOUNDS[asking.api][:1]}
    budget = (asking.thinking or {}).get("budget_tokens")
    if isinstance(budget, int) and not isinstance(budget, bool) and budget >= each:
        if each <= LEAST_THINKING:
            raise RequestNotAllowed(
                f"only {each} tokens of output are left, and thinking needs more than {LEAST_THINKING}; "
                "without thinking the request would pass.",
                status=403,
            )
        # Leave a quarter for the answer, if there is enough.
        narrower = {**(asking.thinking or {}), "budget_tokens": max(LEAST_THINKING, each - each // 4)}
        changes["thinking"] = json.dumps(narrower)
    return changes


def _whole(values: Mapping[str, Any], key: str) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RequestNotAllowed(f"{key}: a whole number of at least 1 is required.")
    return value


def _object(values: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    value = values.get(key)
    if value is not None and not isinstance(value, dict):
        raise RequestNotAllowed(f"{key}: an object is required.")
    return value
