"""What a request asks for, and how it is changed on its way.

Only the members of the outermost object are parsed, each with its position. A change is a splice, and every other byte
stays as the client wrote it. A body that two JSON parsers could read differently is refused: a duplicate member, an
encoding other than UTF-8, an invalid number.

Requests with unmetered costs are refused, too (`_REFUSED`, `_passes_anthropic`, `_passes_responses`):

| what | why |
| --- | --- |
| Responses `background` | continues to generate, and to bill, after the response has ended |
| Responses `prompt` | a template at the provider, whose tools are not visible here |
| Anthropic `fallbacks` | other models, each with its own bound on output |
| Anthropic `mcp_servers`, `container` | work on other servers, billed by time, which bypasses the routes |
| tools that the provider runs | billed by call or by time, not by token |
| `service_tier` priority and the like, Anthropic `speed` fast | billed at prices that are not known |

The last three rows can be allowed per account (`server_tools`, `premium`). Bounded web search passes, because Claude
Code and Codex use it by default. Anthropic's needs a `max_uses` of at most MOST_SEARCHES. OpenAI's needs a
`max_tool_calls` of at most that, which is inserted if the client sets none or more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any

from budget.limits.input_bound import Contents
from core.errors import MusterError
from egress.http.unbounded_contents import Look, TwiceError, adds, compacts, fresh_look, previous_of, refers
from egress.provider_endpoints import Api
from egress.usage import document_assembly

MOST_SEARCHES = 10
"""The maximum number of web searches in one response. Both providers charge about a cent for each."""
MOST_PARTS = 1_000_000
"""The maximum number of values in a body: no conversation has more, and each uses memory."""
LEAST_THINKING = 1_024
"""The smallest thinking budget, which must be less than max_tokens (Anthropic documentation, "Extended thinking")."""
_LEAST = {"anthropic": 1, "responses": 16, "chat": 1}
"""The smallest bounds on output that the providers accept."""
_MOST_CHOICES = 128
_LONGEST_MODEL = 200
_CHECKED_BYTES = 256 * 1024

_SPACE = re.compile(r"[ \t\n\r]*")
_SPACES = frozenset(" \t\n\r")
#: The members of a tool that decide whether the provider runs it.
_READ_OF_TOOLS = frozenset({"type", "tools", "environment", "max_uses"})
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
_TIERS = frozenset({None, "auto", "default", "standard", "standard_only", "flex"})


class RequestNotAllowed(MusterError):
    """The request is not allowed to leave. The message says why, and what to do."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        """400: it is malformed. 403: it is refused."""


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
    values, spans, inside = _members(body, look)
    for key in values:
        _check_name(key, READ_FIELDS)
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
    _refuse(api, values, server_tools=server_tools, premium=premium)
    calls = None
    if api == "responses" and not server_tools and any(map(_searches, _tools_of_responses(values))):
        calls = _whole(values, "max_tool_calls")
        calls = MOST_SEARCHES if calls is None or calls > MOST_SEARCHES else None
    own_tools, rereads, searches = _own_tools(api, values)
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


def _own_tools(api: Api, values: Mapping[str, Any]) -> tuple[int, bool, int]:
    """Return how many tools the provider describes, whether it runs one of them, and how often it may search the
    web."""
    tools = _tools_of_responses(values) if api == "responses" else _each(values.get("tools"), "tools")
    own = [tool for tool in tools if tool.get("type") not in {None, "custom", "function"}]
    run = [tool for tool in own if not _runs_at_client(api, tool)]
    searches = 0
    for tool in run:
        uses = tool.get("max_uses")
        searches += uses if isinstance(uses, int) and not isinstance(uses, bool) else MOST_SEARCHES
    elsewhere = any(values.get(key) for key in _SERVER_SIDE[api])
    return len(own), bool(run) or elsewhere, min(searches, MOST_SEARCHES)


def _runs_at_client(api: Api, tool: Mapping[str, Any]) -> bool:
    kind = str(tool.get("type"))
    if api == "anthropic":
        return _CLIENT_RUN.fullmatch(kind) is not None
    return api == "responses" and kind != "tool_search" and _passes_responses(tool) and not _searches(tool)


def _check_name(key: str, read: Container[str]) -> None:
    """Refuse ambiguous names. Some providers ignore the case of names (Go's encoding/json, with Unicode folding) or
    stop at a NUL."""
    if key not in read and (key.casefold() in read or not key.isprintable()):
        raise RequestNotAllowed(f"the member {key[:60]!a} may be taken for another; write it as it is known.")


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
        for key, (start, end) in _scan(text, fresh_look())[1].items()
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


# Parsing the outermost object


#: Members whose contents are not interpreted: the provider resolves duplicate names there.
_UNREAD = frozenset({"messages", "instructions", "system"})
_PLAIN = JSONDecoder()


def _members(body: bytes, look: Look) -> tuple[dict[str, Any], dict[str, tuple[int, int]], int]:
    """Return the interpreted members, the positions of those that may change, and where to insert a first one."""
    if len(body) > _CHECKED_BYTES and sum(map(body.count, (b",", b"[", b"{"))) > MOST_PARTS:
        raise RequestNotAllowed(f"the body has more than {MOST_PARTS:,} values; send fewer.", status=413)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestNotAllowed(f"the body is not UTF-8: {error.reason} at byte {error.start}.") from None
    try:
        values, places, inside = _scan(text, look)
    except JSONDecodeError as error:
        raise RequestNotAllowed(f"the body is not JSON: {error.msg} at character {error.pos}.") from None
    except TwiceError:
        raise RequestNotAllowed(
            "a member is in an object twice; which one counts is not defined. Send it once."
        ) from None
    except RecursionError:
        raise RequestNotAllowed("the body is nested too deeply.") from None
    except ValueError as error:
        raise RequestNotAllowed(f"the body is not JSON: {str(error)[:200]}.") from None
    return values, _in_bytes(text, places), inside


def _scan(text: str, look: Look) -> tuple[dict[str, Any], dict[str, tuple[int, int]], int]:
    place = _after_space(text, 0)
    if text[place : place + 1] != "{":
        raise RequestNotAllowed("the body is not a JSON object.")
    inside = place + 1
    values: dict[str, Any] = {}
    places: dict[str, tuple[int, int]] = {}
    place = _after_space(text, inside)
    closed = text[place : place + 1] == "}"
    while not closed:
        if text[place : place + 1] != '"':
            raise JSONDecodeError("a member's name in double quotes is expected", text, place)
        key, place = _PLAIN.raw_decode(text, place)
        if key in values:
            raise RequestNotAllowed(
                f"the member {key[:60]!r} is there twice; which one counts is not defined. Send it once."
            )
        place = _after_space(text, place)
        if text[place : place + 1] != ":":
            raise JSONDecodeError("a colon is expected", text, place)
        start = _after_space(text, place + 1)
        try:
            value, place = (look.loosely if key in _UNREAD else look.strictly).raw_decode(text, start)
        except StopIteration as stop:
            raise JSONDecodeError("a value is expected", text, stop.value) from None
        values[key] = value if key in READ_FIELDS and key != "messages" else None
        places[key] = (start, place)
        place = _after_space(text, place)
        closed = text[place : place + 1] == "}"
        if not closed:
            if text[place : place + 1] != ",":
                raise JSONDecodeError("a comma or the end of the object is expected", text, place)
            place = _after_space(text, place + 1)
    if _after_space(text, place + 1) != len(text):
        raise JSONDecodeError("nothing is expected after the object", text, place + 1)
    return values, places, len(text[:inside].encode())


def _after_space(text: str, place: int) -> int:
    if text[place : place + 1] not in _SPACES:
        return place
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _in_bytes(text: str, places: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    kept = {key: span for key, span in places.items() if key in _CHANGING}
    if text.isascii():
        return kept
    return {key: (len(text[:start].encode()), len(text[:end].encode())) for key, (start, end) in kept.items()}


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


# Requests that cannot be metered

_REFUSED: Mapping[Api, tuple[tuple[str, str], ...]] = {
    "anthropic": (("fallbacks", "other models would answer, with bounds of their own. Leave it out."),),
    "responses": (
        ("background", "a response in the background goes on where it is not metered. Leave it out, or say false."),
        ("prompt", "what a stored prompt asks for is not seen here. Send its text as instructions and input."),
    ),
    "chat": (),
}
_SERVER_SIDE: Mapping[Api, tuple[str, ...]] = {
    "anthropic": ("mcp_servers", "container"),
    "responses": (),
    "chat": ("web_search_options",),
}
_HOW = "Leave it out; or allow tools that the provider runs for this account (server_tools)."
_CLIENT_RUN = re.compile(r"(?:bash|text_editor|computer|computer_toolset|browser_toolset|memory)_\d{8}")
_SEARCHES = re.compile(r"tool_search_tool_[a-z0-9_]{1,40}")
_WEB_SEARCH = re.compile(r"web_search_\d{8}")
_RESPONSES_CLIENT_RUN = frozenset(
    {"function", "custom", "local_shell", "apply_patch", "tool_search", "computer", "computer_use_preview"}
)


def _refuse(api: Api, values: Mapping[str, Any], *, server_tools: bool, premium: bool) -> None:
    for key, why in _REFUSED[api]:
        if values.get(key):
            raise RequestNotAllowed(f"{key}: {why}", status=403)
    if not premium:
        for key, usual in (("service_tier", _TIERS), ("speed", frozenset({None, "standard"}))):
            value = values.get(key)
            if not (value is None or isinstance(value, str)) or value not in usual:
                raise RequestNotAllowed(
                    f"{key}: {str(value)[:40]!r} is billed at other prices. Leave it out; or allow it for this account "
                    "(premium).",
                    status=403,
                )
    if server_tools:
        return
    for key in _SERVER_SIDE[api]:
        if values.get(key) not in (None, [], False):
            raise RequestNotAllowed(f"{key}: what the provider runs is not billed by token. {_HOW}", status=403)
    if api == "anthropic":
        _check(_each(values.get("tools"), "tools"), _passes_anthropic)
    elif api == "responses":
        _check(_tools_of_responses(values), _passes_responses)
    else:
        _check(_each(values.get("tools"), "tools"), lambda tool: tool.get("type") in {"function", "custom"})


def _check(tools: Iterable[Mapping[str, Any]], passes: Callable[[Mapping[str, Any]], bool]) -> None:
    for tool in tools:
        if not passes(tool):
            kind = str(tool.get("type"))[:60]
            more = f" A web search with a max_uses of at most {MOST_SEARCHES} passes." if "web_search_" in kind else ""
            raise RequestNotAllowed(
                f"tools: {kind!r} is run by the provider, not billed by token.{more} {_HOW}", status=403
            )


def _each(tools: object, where: str) -> list[Mapping[str, Any]]:
    if tools is None:
        return []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise RequestNotAllowed(f"{where}: a list of objects is required.")
    for tool in tools:
        for key in tool:
            _check_name(key, _READ_OF_TOOLS)
    return tools


def _passes_anthropic(tool: Mapping[str, Any]) -> bool:
    kind = tool.get("type")
    if kind is None or kind == "custom":
        return True
    if not isinstance(kind, str):
        return False
    if _WEB_SEARCH.fullmatch(kind):
        uses = tool.get("max_uses")
        return isinstance(uses, int) and not isinstance(uses, bool) and 1 <= uses <= MOST_SEARCHES
    return bool(_CLIENT_RUN.fullmatch(kind) or _SEARCHES.fullmatch(kind))


def _tools_of_responses(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return all tools, including those in namespaces and in the input."""
    waiting = list(_each(values.get("tools"), "tools"))
    items = values.get("input")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and "tools" in item:
            waiting += _each(item["tools"], "input.tools")
    found = []
    while waiting:
        tool = waiting.pop()
        if tool.get("type") == "namespace":
            waiting += _each(tool.get("tools"), "tools.tools")
        else:
            found.append(tool)
    return found


def _passes_responses(tool: Mapping[str, Any]) -> bool:
    kind = tool.get("type")
    if kind == "shell":
        # The client runs it, unless it names a container at the provider.
        where = tool.get("environment")
        return where is None or (isinstance(where, dict) and where.get("type") == "local")
    return isinstance(kind, str) and (kind in _RESPONSES_CLIENT_RUN or _searches(tool))


def _searches(tool: Mapping[str, Any]) -> bool:
    """Return whether this is OpenAI's web search: ``web_search``, ``web_search_2025_08_26``, ``web_search_preview``."""
    return str(tool.get("type")).startswith("web_search")
