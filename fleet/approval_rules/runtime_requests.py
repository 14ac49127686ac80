"""What a runtime's permission request is about, as approval rules see it.

Each runtime has its own form. The forms were read in the sources of claude-agent-acp 0.49, codex-acp 2.6, opencode
1.18 and pi-acp 0.0.34. What has any other form is unknown, and people are asked. Facts come from what operators are
shown of the request, and from nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

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
    """Return what is known of a request of a runtime."""
    reader = _READERS.get(runtime)
    if reader is None:
        return UNKNOWN
    raw = tool_call.raw_input
    given = _Given(
        title=tool_call.title or "",
        kind=tool_call.tool_kind or "",
        fields=raw if isinstance(raw, dict) else {},
        content=tool_call.content if isinstance(tool_call.content, list) else [],
        locations=tool_call.locations if isinstance(tool_call.locations, list) else [],
    )
    return reader(given)


def as_told_by(runtime: str, facts: RequestFacts) -> RequestFacts:
    """Return what would be known of a request if this runtime asked, for trying rules on it."""
    if runtime not in _READERS or (facts.kind == "mcp" and runtime in ("opencode", "pi")):
        return UNKNOWN
    if facts.kind == "execute" and runtime == "opencode":
        return replace(facts, cwd_unknown=True)
    return facts


@dataclass(frozen=True, slots=True)
class _Given:
    title: str
    kind: str
    fields: Mapping[str, Any]
    content: list[Any]
    locations: list[Any]

    def has_only(self, *names: str) -> bool:
        """Return whether no other field is given, of which we would not know what it changes."""
        return self.fields.keys() <= set(names)

    def text(self, name: str) -> str | None:
        value = self.fields.get(name)
        return value if isinstance(value, str) and value else None


def _execute(command: str | None, **more: Any) -> RequestFacts:
    return UNKNOWN if command is None else RequestFacts(kind="execute", command=command, **more)


def _edit(*paths: str | None) -> RequestFacts:
    return RequestFacts(kind="edit", paths=tuple(path for path in paths if path) if all(paths) else ())


# --- Claude Code -------------------------------------------------------------------------------------------------

_CLAUDE_BASH: Final = ("command", "description", "timeout", "run_in_background")


def _claude(given: _Given) -> RequestFacts:
    if given.title.startswith("mcp__") and given.kind == "other":
        return _claude_mcp(given.title)
    match given.kind:
        case "execute" if given.has_only(*_CLAUDE_BASH) and given.title == given.text("command"):
            return _execute(given.text("command"))
        case "read" if given.title.startswith("Read ") and given.has_only("file_path", "offset", "limit", "pages"):
            return _read(given.text("file_path"))
        case "edit" if given.title.startswith(("Write ", "Edit ")):
            return _edit(given.text("file_path"))
        case "search" if given.title.startswith("Find") and given.has_only("pattern", "path"):
            pattern = given.text("pattern") or ""
            # Such a pattern searches elsewhere than in the folder.
            elsewhere = pattern.startswith(("/", "~")) or ".." in pattern
            return UNKNOWN if elsewhere else _read(given.text("path") or ".")
        case "search" if given.title.startswith("grep"):
            return _read(given.text("path") or ".")
        case "fetch":
            return RequestFacts(kind="fetch", url=given.text("url"))
        case "other" if given.title == "NotebookEdit":
            return _edit(given.text("notebook_path"))
        case "other" if given.title == "MultiEdit":
            return _edit(given.text("file_path"))
    return UNKNOWN


def _claude_mcp(name: str) -> RequestFacts:
    server, separator, tool = name.removeprefix("mcp__").partition("__")
    # Two underscores in a name of its own: where it ends cannot be told.
    if not separator or not server or not tool or "__" in tool or tool.startswith("_") or "/" in name:
        return RequestFacts(kind="mcp")
    return RequestFacts(kind="mcp", tool=f"{server}/{tool}")


def _read(path: str | None) -> RequestFacts:
    return RequestFacts(kind="read", paths=(path,) if path else ())


# --- Codex -------------------------------------------------------------------------------------------------------

_NETWORK: Final = re.compile(r"\S+ network access to ")


def _codex(given: _Given) -> RequestFacts:
    fields = given.fields
    if given.kind == "edit" and not fields:
        return _codex_edit(given)
    if given.kind not in ("execute", "read", "search"):
        return UNKNOWN
    if fields.keys() >= {"server", "tool"} and given.has_only("server", "tool", "arguments"):
        server, tool = given.text("server"), given.text("tool")
        named = server and tool and "/" not in server and given.title == f"mcp.{server}.{tool}"
        return RequestFacts(kind="mcp", tool=f"{server}/{tool}" if named else None)
    if not given.has_only("command", "cwd") or _NETWORK.match(given.title):
        # Permission for a host, or for more than its sandbox gives: not about the command alone.
        return UNKNOWN
    # The adapter has removed Codex's own `bash -lc`.
    return _execute(given.text("command"), cwd=given.text("cwd"))


def _codex_edit(given: _Given) -> RequestFacts:
    changed = [each.get("path") for each in given.content if isinstance(each, dict) and each.get("type") == "diff"]
    named = [each.get("path") for each in given.locations if isinstance(each, dict)]
    paths = [path for path in (*changed, *named) if isinstance(path, str) and path]
    # The place to which a file moves is in its diff alone.
    if len(paths) != len(changed) + len(named) or not changed or len(set(named)) != len(changed):
        return RequestFacts(kind="edit")
    return RequestFacts(kind="edit", paths=tuple(dict.fromkeys(paths)))


# --- opencode ----------------------------------------------------------------------------------------------------


def _opencode(given: _Given) -> RequestFacts:
    match given.kind:
        case "execute" if given.has_only("command"):
            # The folder that the model may have chosen is not told.
            return _execute(given.text("command"), cwd_unknown=True)
        case "edit" if given.has_only("filepath", "diff"):
            return _edit(given.text("filepath"))
        case "edit" if given.has_only("filepath", "diff", "files") and isinstance(given.fields["files"], list):
            paths: list[str | None] = []
            for file in given.fields["files"]:
                known = file if isinstance(file, dict) else {}
                paths.append(known.get("filePath") if isinstance(known.get("filePath"), str) else None)
                if "movePath" in known:
                    paths.append(known["movePath"] if isinstance(known["movePath"], str) else None)
            return _edit(*paths)
        case "read" if given.has_only("filePath", "offset", "limit"):
            return _read(given.text("filePath"))
        case "fetch" if given.has_only("url", "format", "timeout"):
            return RequestFacts(kind="fetch", url=given.text("url"))
    return UNKNOWN


# --- pi ----------------------------------------------------------------------------------------------------------

#: What Muster's extension puts below a command that has a time limit.
_PI_TIMEOUT: Final = re.compile(r"\n\{\n \"timeout\": \d{1,9}(\.\d{1,9})?\n\}\Z", re.ASCII)
#: pi takes other spaces for ordinary ones, and drops an `@` before a path.
_PI_PATH: Final = re.compile(r"[@~]|file:|.*[^\S ]", re.DOTALL)


def _pi(given: _Given) -> RequestFacts:
    message = given.text("message")
    if given.fields.get("method") != "confirm" or message is None or given.fields.get("title") != given.title:
        return UNKNOWN
    if given.title == "bash":
        return _execute(_PI_TIMEOUT.sub("", message))
    if given.title not in ("write", "edit", "read", "ls", "find", "grep"):
        return UNKNOWN
    try:
        asked = json.loads(message)
    except (ValueError, RecursionError):
        return UNKNOWN
    path = asked.get("path") if isinstance(asked, dict) else None
    known = path if isinstance(path, str) and path and not _PI_PATH.match(path) else None
    return _edit(known) if given.title in ("write", "edit") else _read(known)


# --- the built-in agent ------------------------------------------------------------------------------------------


def _sim(given: _Given) -> RequestFacts:
    if given.kind == "execute" and given.has_only("command"):
        return _execute(given.text("command"))
    if given.kind == "edit" and given.has_only("file_path", "content"):
        return _edit(given.text("file_path"))
    return UNKNOWN


_READERS: Final[Mapping[str, Callable[[_Given], RequestFacts]]] = {
    "claude": _claude,
    "codex": _codex,
    "opencode": _opencode,
    "pi": _pi,
    "sim": _sim,
}
