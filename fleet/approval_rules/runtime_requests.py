"""What a runtime's permission request is about, as approval rules see it."""

from __future__ import annotations

from typing import Any, Protocol

from fleet.approval_rules.requests import UNKNOWN, RequestFacts


class ToolCallFacts(Protocol):
    """A tool call of the Agent Client Protocol."""

    @property
    def title(self) -> str | None: ...
    @property
    def tool_kind(self) -> str | None: ...
    @property
    def raw_input(self) -> Any: ...
    @property
    def content(self) -> Any: ...
    @property
    def locations(self) -> Any: ...


def facts_of(runtime: str, tool_call: ToolCallFacts) -> RequestFacts:
    """Return what is known of a request."""
    raw = tool_call.raw_input
    if isinstance(raw, dict) and isinstance(raw.get("command"), str):
        return RequestFacts(kind="execute", command=raw["command"])
    return UNKNOWN
