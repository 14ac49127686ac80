"""Approval rules in words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bot.commands.parser import quote
from bot.text import markdown
from fleet.approval_rules.rules import ApprovalRule

_KINDS = {
    "read": "reading",
    "edit": "editing",
    "execute": "running commands",
    "fetch": "fetching from the network",
    "mcp": "tools of MCP servers",
    "any": "everything",
}


def subject(rule: ApprovalRule, redact: Callable[[str], str]) -> str:
    """Return what a rule is about, such as "`git log` and more words"."""
    if rule.command is not None:
        words = markdown.code(markdown.gist(rule.command, redact, 200))
        return words if rule.match == "exact" else f"commands that begin with {words}"
    if rule.tool is not None:
        return f"the tool {markdown.code(markdown.one_line(rule.tool, 200))}"
    if rule.host is not None:
        return f"fetching from {markdown.code(markdown.one_line(rule.host, 200))}"
    where = f" {', '.join(markdown.code(markdown.one_line(path, 100)) for path in rule.paths)}" if rule.paths else ""
    return f"{_KINDS[rule.kind]}{where}"


def line(rule: ApprovalRule, redact: Callable[[str], str], *, now: float) -> str:
    """Return a rule as one line of a list."""
    scope = "" if rule.scope == "fleet" else f", for {markdown.code(rule.scope)}"
    ends = "" if rule.until is None else f", for {markdown.span(max(0.0, rule.until - now))} more"
    sandbox = ", in a sandbox" if rule.sandbox_only else ""
    return f"- `{rule.id}` **{rule.effect}** {subject(rule, redact)}{sandbox}{scope}{ends} ({rule.origin})"


def as_json(rules: Sequence[ApprovalRule], timestamp: Callable[[float | None], str | None]) -> list[dict[str, Any]]:
    """Return rules as JSON data."""
    return [{**rule.to_json(), "until": timestamp(rule.until)} for rule in rules]


def command_of(rule: ApprovalRule) -> str:
    """Return the command that adds the rule."""
    words = ["approvals rule add", rule.effect]
    if rule.command is not None:
        words.append(quote(rule.command))
    if rule.match == "prefix":
        words.append("--prefix")
    if rule.sandbox_only:
        words.append("--sandboxed")
    given = {
        "kind": rule.kind if rule.command is None and rule.tool is None and rule.host is None else None,
        "path": next(iter(rule.paths), None),
        "tool": rule.tool,
        "host": rule.host,
        "scope": None if rule.scope == "fleet" else rule.scope,
    }
    return " ".join([*words, *(f"--{name}={quote(value)}" for name, value in given.items() if value is not None)])
