"""Rules that would have answered a request: the narrowest, and the widest that is sound."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from urllib.parse import urlsplit

from fleet.approval_rules import command_table
from fleet.approval_rules.command_options import Refused
from fleet.approval_rules.plain_command import PlainPart
from fleet.approval_rules.requests import RequestFacts
from fleet.approval_rules.rules import ApprovalRule
from fleet.approval_rules.shell_command import plain_of
from fleet.approval_rules.validation import RuleError, validate
from fleet.approval_rules.workspace_paths import forms_of, protected

EXACT = "suggested-exact"
PREFIX = "suggested-prefix"


def suggestions(
    facts: RequestFacts, *, workspace: Path | None = None, sandboxed: bool = False
) -> tuple[ApprovalRule, ...]:
    """Return rules to offer for a request, the exact one first. Whoever keeps one gives it an id and a scope.

    Args:
        facts: the request.
        workspace: the folder that holds the agent's work. Without it nothing is offered for files.
        sandboxed: whether the agent runs in a sandbox, where a rule about builds can hold.
    """
    match facts.kind:
        case "execute":
            offered = _of_command(facts, workspace, sandboxed)
        case "read" | "edit" if workspace is not None:
            offered = _of_paths(facts, workspace)
        case "mcp" if facts.tool is not None:
            offered = [ApprovalRule(id=EXACT, effect="allow", kind="mcp", tool=facts.tool)]
        case "fetch" if facts.url is not None:
            offered = _of_url(facts.url)
        case _:
            offered = []
    return tuple(rule for rule in offered if _is_valid(rule))


def _of_command(facts: RequestFacts, workspace: Path | None, sandboxed: bool) -> list[ApprovalRule]:
    part = _deciding_part(facts.command or "", workspace)
    if part is None:
        return []
    exact = ApprovalRule(id=EXACT, effect="allow", kind="execute", command=_written(part.words))
    prefix, only = _widest(part.words, sandboxed)
    if prefix is None or prefix == part.words:
        return [exact]
    return [
        exact,
        ApprovalRule(
            id=PREFIX, effect="allow", kind="execute", command=_written(prefix), match="prefix", sandbox_only=only
        ),
    ]


def _deciding_part(command: str, workspace: Path | None) -> PlainPart | None:
    """Return the one part for which a rule is missing: those that only read need none beside it."""
    parts = [part for part in plain_of(command) or () if not _stays(part, workspace)]
    deciding = parts if len(parts) == 1 else [part for part in parts if not _is_harmless(part)]
    if len(deciding) != 1 or deciding[0].redirects or (deciding[0].fed and not _is_harmless(deciding[0])):
        return None
    return deciding[0]


def _stays(part: PlainPart, workspace: Path | None) -> bool:
    if workspace is None or part.words[0] != "cd" or len(part.words) != 2 or not part.words[1].startswith("/"):
        return False
    return os.path.realpath(part.words[1]) == os.path.realpath(workspace)


def _is_harmless(part: PlainPart) -> bool:
    try:
        command_table.check(part.words)
    except Refused:
        return False
    return True


def _widest(words: tuple[str, ...], sandboxed: bool) -> tuple[tuple[str, ...] | None, bool]:
    """Return the shortest prefix that may be a rule, and whether it holds only in a sandbox."""
    build = command_table.build_of(words)
    if build is not None:
        return (build, True) if sandboxed else (None, False)
    try:
        command_table.check(words)
    except Refused:
        return None, False
    return (words[:2] if words[0] == "git" else words[:1]), False


def _written(words: tuple[str, ...]) -> str:
    """Return the words as they are typed in a shell, in a form that a rule can have."""
    return " ".join(word if _is_bare(word) else "'" + word.replace("'", "'\\''") + "'" for word in words)


def _is_bare(word: str) -> bool:
    return bool(word) and all(char.isascii() and (char.isalnum() or char in "_-./:,@%+") for char in word)


def _of_paths(facts: RequestFacts, workspace: Path) -> list[ApprovalRule]:
    globs = []
    for path in facts.paths:
        forms = forms_of(path, workspace)
        if forms is None or forms.relative is None or (facts.kind == "edit" and protected(forms, workspace)):
            return []
        globs.append(glob.escape(forms.relative))
    if not globs or facts.kind is None:
        return []
    return [ApprovalRule(id=EXACT, effect="allow", kind=facts.kind, paths=tuple(globs))]


def _of_url(url: str) -> list[ApprovalRule]:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return []
    return [ApprovalRule(id=EXACT, effect="allow", kind="fetch", host=host)] if host else []


def _is_valid(rule: ApprovalRule) -> bool:
    try:
        validate(rule)
    except RuleError:
        return False
    return True
