"""What is read out of each runtime's requests: the forms were taken from their sources."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.approval_rules.requests import UNKNOWN, RequestFacts
from fleet.approval_rules.runtime_requests import as_told_by, facts_of
from fleet.host.acp.update_parser import KnownToolCall


def facts(runtime: str, **fields: Any) -> RequestFacts:
    return facts_of(runtime, KnownToolCall(call="c").with_update(fields))


def execute(command: str, **more: Any) -> RequestFacts:
    return RequestFacts(kind="execute", command=command, **more)


def edit(*paths: str) -> RequestFacts:
    return RequestFacts(kind="edit", paths=paths)


def read(*paths: str) -> RequestFacts:
    return RequestFacts(kind="read", paths=paths)


def test_claude() -> None:
    def claude(title: str, kind: str, **raw: Any) -> RequestFacts:
        return facts("claude", title=title, kind=kind, rawInput=raw)

    assert claude("ls -l", "execute", command="ls -l", description="List") == execute("ls -l")
    assert claude("ls", "execute", command="ls -l") == UNKNOWN
    assert claude("ls", "execute", command="ls", dangerouslyDisableSandbox=True) == UNKNOWN
    assert claude("Read a", "read", file_path="/w/a", offset=1) == read("/w/a")
    assert claude("Write a", "edit", file_path="/w/a", content="x") == edit("/w/a")
    assert claude("Edit a", "edit", file_path="/w/a", old_string="x", new_string="y") == edit("/w/a")
    assert claude("NotebookEdit", "other", notebook_path="/w/a.ipynb") == edit("/w/a.ipynb")
    assert claude("Find `src` `*.py`", "search", pattern="*.py", path="src") == read("src")
    assert claude("Find `*.py`", "search", pattern="*.py") == read(".")
    assert claude("Find `/etc/*`", "search", pattern="/etc/*") == UNKNOWN
    assert claude('grep "x" src', "search", pattern="x", path="src") == read("src")
    assert claude("Fetch https://a.b", "fetch", url="https://a.b", prompt="x") == RequestFacts(
        kind="fetch", url="https://a.b"
    )
    assert claude("mcp__docs__search", "other", command="ls") == RequestFacts(kind="mcp", tool="docs/search")
    assert claude("mcp__docs__a__b", "other") == RequestFacts(kind="mcp")
    assert claude("mcp__docs__search", "execute", command="ls") == UNKNOWN
    assert claude("Ready to code?", "switch_mode", plan="x") == UNKNOWN
    assert claude("Task", "think", prompt="x") == UNKNOWN


def test_codex() -> None:
    def codex(title: str, kind: str = "execute", **raw: Any) -> RequestFacts:
        return facts("codex", title=title, kind=kind, rawInput=raw)

    assert codex("git status", command="git status", cwd="/w") == execute("git status", cwd="/w")
    assert codex("ls", kind="read", command="ls", cwd="/w") == execute("ls", cwd="/w")
    # A wrapper that is left is the model's own, and part of what is judged.
    assert codex("x", command="bash -lc 'ls'") == execute("bash -lc 'ls'")
    assert codex("https network access to a.b", command="curl a.b", cwd="/w", url="https://a.b") == UNKNOWN
    assert codex("socks5 network access to a.b", command="curl a.b", cwd="/w") == UNKNOWN
    assert codex("ls", command="ls", additionalPermissions={"network": {"enabled": True}}) == UNKNOWN
    assert codex("Additional sandbox permissions", kind="other", permissions={}, cwd="/w") == UNKNOWN
    assert codex("mcp.docs.search", server="docs", tool="search", arguments={}) == RequestFacts(
        kind="mcp", tool="docs/search"
    )
    assert codex("mcp.docs.other", server="docs", tool="search", arguments={}) == RequestFacts(kind="mcp")

    def change(content: list[Any], *locations: str) -> RequestFacts:
        listed = [{"path": path} for path in locations]
        return facts("codex", title="Edit files", kind="edit", content=content, locations=listed)

    diff = {"type": "diff", "path": "/w/a", "oldText": None, "newText": "x"}
    assert change([diff], "/w/a") == edit("/w/a")
    assert change([{**diff, "path": "/w/new"}], "/w/old") == edit("/w/new", "/w/old")
    assert change([], "/w/a") == edit()
    assert change([diff], "/w/a", "/w/b") == edit()


def test_opencode() -> None:
    def opencode(kind: str, **raw: Any) -> RequestFacts:
        return facts("opencode", title="x", kind=kind, rawInput=raw)

    assert opencode("execute", command="ls") == execute("ls", cwd_unknown=True)
    assert opencode("other", command="cat /etc/x", directories=["/etc"], patterns=["/etc/*"]) == UNKNOWN
    assert opencode("execute", command="cat /etc/x", directories=["/etc"], patterns=["/etc/*"]) == UNKNOWN
    assert opencode("edit", filepath="/w/a", diff="x") == edit("/w/a")
    files = [{"filePath": "/w/a", "type": "add"}, {"filePath": "/w/b", "movePath": "/w/c"}]
    assert opencode("edit", filepath="a, b", diff="x", files=files) == edit("/w/a", "/w/b", "/w/c")
    assert opencode("edit", filepath="a, b", diff="x", files=[{}]) == edit()
    assert opencode("fetch", url="https://a.b", format="text") == RequestFacts(kind="fetch", url="https://a.b")


def test_pi() -> None:
    def pi(title: str, message: str, **more: Any) -> RequestFacts:
        raw = {"method": "confirm", "title": title, "message": message, **more}
        return facts("pi", title=title, kind="other", rawInput=raw)

    assert pi("bash", "ls -l") == execute("ls -l")
    assert pi("bash", 'ls -l\n{\n "timeout": 5\n}') == execute("ls -l")
    assert pi("bash", 'ls\n{\n "x": 5\n}') == execute('ls\n{\n "x": 5\n}')
    assert pi("write", '{"path": "a", "content": "x"}') == edit("a")
    assert pi("edit", '{"path": "/w/a", "edits": []}') == edit("/w/a")
    assert pi("read", '{"path": "/etc/passwd"}') == read("/etc/passwd")
    for path in ("@/etc/passwd", "~/x", "a\u00a0b", "file:/x"):
        assert pi("read", f'{{"path": "{path}"}}') == read()
    assert pi("other", '{"path": "a"}') == UNKNOWN
    assert pi("write", "no JSON") == UNKNOWN
    assert facts("pi", title="bash", kind="other", rawInput={"method": "select", "message": "ls"}) == UNKNOWN
    assert facts("pi", title="bash", rawInput={"method": "confirm", "title": "write", "message": "ls"}) == UNKNOWN


def test_the_built_in_agent() -> None:
    assert facts("sim", title="ls", kind="execute", rawInput={"command": "ls"}) == execute("ls")
    assert facts("sim", title="Write a", kind="edit", rawInput={"file_path": "a", "content": "x"}) == edit("a")
    assert facts("sim", title="ls", kind="other", rawInput={"command": "ls"}) == UNKNOWN


def test_another_runtime_is_not_guessed() -> None:
    assert facts("custom", title="ls", kind="execute", rawInput={"command": "ls"}) == UNKNOWN


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["confirm", "write", "/w/a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_raw = st.dictionaries(
    st.sampled_from(["command", "file_path", "path", "method", "message", "title", "files", "filepath", "url", "cwd"]),
    _values,
)


@pytest.mark.parametrize("runtime", ["claude", "codex", "opencode", "pi", "sim"])
@settings(max_examples=40, deadline=None)
@given(
    raw=_raw | _values,
    title=st.sampled_from(["ls", "Read x", "Write x", "write", "bash", "mcp__a__b", "Edit files"]),
    kind=st.sampled_from(["execute", "edit", "read", "search", "fetch", "other"]),
    content=_values,
    locations=_values,
)
def test_any_request_can_be_read(runtime: str, raw: Any, title: str, kind: str, content: Any, locations: Any) -> None:
    call = KnownToolCall(call="c", title=title, tool_kind=kind, raw_input=raw, content=content, locations=locations)
    found = facts_of(runtime, call)
    assert found.command is None or isinstance(found.command, str)
    assert all(isinstance(path, str) for path in found.paths)


def test_rules_are_tried_on_what_the_runtime_would_tell() -> None:
    command = RequestFacts(kind="execute", command="git status")
    assert as_told_by("claude", command) == command
    assert as_told_by("opencode", command).cwd_unknown
    assert as_told_by("custom", command) == UNKNOWN
    tool = RequestFacts(kind="mcp", tool="muster/report")
    assert as_told_by("codex", tool) == tool
    assert as_told_by("opencode", tool) == as_told_by("pi", tool) == UNKNOWN


def test_a_tool_of_an_mcp_server_in_opencode_is_not_taken_apart() -> None:
    """It gives `SERVER_TOOL` in one word, and no arguments (1.18)."""
    assert facts("opencode", title="muster_report", kind="other", rawInput={}) == UNKNOWN
