"""Requests that cost more than the tokens that are metered. They are refused:

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

import re
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from core.errors import MusterError
from egress.provider_endpoints import Api

MOST_SEARCHES = 10
"""The maximum number of web searches in one response. Both providers charge about a cent for each."""

#: The members of a tool that decide whether the provider runs it.
_READ_OF_TOOLS = frozenset({"type", "tools", "environment", "max_uses"})
_TIERS = frozenset({None, "auto", "default", "standard", "standard_only", "flex"})
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


class RequestNotAllowed(MusterError):
    """The request is not allowed to leave. The message says why, and what to do."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        """400: it is malformed. 403: it is refused."""


def refuse(api: Api, values: Mapping[str, Any], *, server_tools: bool, premium: bool) -> None:
    """Refuse a request with unmetered costs.

    Raises:
        RequestNotAllowed: it has some; the message says which.
    """
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
        _check(tools_of_responses(values), _passes_responses)
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
            check_name(key, _READ_OF_TOOLS)
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


def tools_of_responses(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
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
    return isinstance(kind, str) and (kind in _RESPONSES_CLIENT_RUN or searches_web(tool))


def searches_web(tool: Mapping[str, Any]) -> bool:
    """Return whether this is OpenAI's web search: ``web_search``, ``web_search_2025_08_26``, ``web_search_preview``."""
    return str(tool.get("type")).startswith("web_search")


def tools_of_provider(api: Api, values: Mapping[str, Any]) -> tuple[int, bool, int]:
    """Return how many tools the provider describes, whether it runs one of them, and how often it may search the
    web."""
    tools = tools_of_responses(values) if api == "responses" else _each(values.get("tools"), "tools")
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
    return api == "responses" and kind != "tool_search" and _passes_responses(tool) and not searches_web(tool)


def check_name(key: str, read: Container[str]) -> None:
    """Refuse ambiguous names. Some providers ignore the case of names (Go's encoding/json, with Unicode folding) or
    stop at a NUL."""
    if key not in read and (key.casefold() in read or not key.isprintable()):
        raise RequestNotAllowed(f"the member {key[:60]!a} may be taken for another; write it as it is known.")
