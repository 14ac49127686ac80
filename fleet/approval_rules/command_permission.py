"""Decide whether rules allow a command: every part of it, and every file that it redirects to or from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fleet.approval_rules import command_table, file_rules
from fleet.approval_rules.command_options import Refused, Usage
from fleet.approval_rules.git_commands import without_pager
from fleet.approval_rules.matching import AllowingRules, shown
from fleet.approval_rules.plain_command import PlainPart, PlainRedirect
from fleet.approval_rules.requests import RequestFacts
from fleet.approval_rules.rules import ApprovalRule
from fleet.approval_rules.shell_command import ShellCommand, parse, words_of
from fleet.approval_rules.workspace_paths import forms_of, protected

_MOVING: Final = frozenset(str.split("cd chdir pushd popd"))


def permission_of(
    facts: RequestFacts,
    allowing: Sequence[ApprovalRule],
    strict: Sequence[ApprovalRule],
    *,
    workspace: Path,
    sandboxed: bool,
) -> AllowingRules:
    """Return the rules that allow a command together.

    Args:
        facts: the request.
        allowing: the rules that allow.
        strict: the rules that deny or ask; none is about the command, as far as it shows.
        workspace: the folder that holds the agent's work.
        sandboxed: whether the agent runs in a sandbox.
    """
    if facts.command is None:
        return AllowingRules(reason="The runtime does not say which command.")
    command = parse(facts.command)
    wide = next((rule for rule in allowing if rule.kind in ("execute", "any") and rule.command is None), None)
    if wide is not None:
        closed = _closed_redirect(command, workspace)
        return AllowingRules(rules=(wide,)) if closed is None else AllowingRules(reason=closed)
    if command.plain is None:
        return AllowingRules(
            reason=f"No rule about commands can allow this one: {command.problem or command.not_plain}."
        )
    parts = _Parts(allowing, strict, workspace)
    # In a sandbox a hostile folder gains nothing that a build there could not do as well.
    parts.moved = (facts.cwd_unknown and not sandboxed) if facts.cwd is None else not parts.is_workspace(facts.cwd)
    return parts.permission(command.plain)


def _closed_redirect(command: ShellCommand, workspace: Path) -> str | None:
    """Return why no rule, however wide, allows a redirect of the command; None: a rule may."""
    for redirect in command.redirects:
        forms = forms_of(redirect.path.text, workspace) if ">" in redirect.operator else None
        closed = protected(forms, workspace) if forms is not None and forms.absolute != os.devnull else None
        if closed is not None:
            return f"No rule can allow to write {shown(redirect.path.text)}: {closed}."
    return None


class _Parts:
    def __init__(self, allowing: Sequence[ApprovalRule], strict: Sequence[ApprovalRule], workspace: Path) -> None:
        self._allowing = allowing
        self._rules = [
            (rule, words)
            for rule in allowing
            if rule.kind == "execute" and rule.command is not None and (words := words_of(rule.command)) is not None
        ]
        self._closed_reads = any(rule.kind == "read" and rule.paths for rule in strict)
        self._workspace = workspace
        self.moved = False
        """Whether relative paths may start elsewhere than at the workspace."""

    def permission(self, parts: Sequence[PlainPart]) -> AllowingRules:
        found: list[ApprovalRule] = []
        for part in parts:
            if self._stays(part):
                continue
            rule, reason = self._rule_for(part)
            if rule is None:
                return AllowingRules(reason=reason)
            found.append(rule)
            self.moved = self.moved or part.words[0] in _MOVING
            for redirect in part.redirects:
                redirected = self._redirect(redirect)
                if not redirected.rules and redirected.reason:
                    return redirected
                found += redirected.rules
        return AllowingRules(rules=tuple(found), reason="" if found else "No rule allows to only change the folder.")

    def is_workspace(self, path: str) -> bool:
        return os.path.realpath(path) == os.path.realpath(self._workspace)

    def _stays(self, part: PlainPart) -> bool:
        """Return whether a part only changes into the workspace itself."""
        words = part.words
        absolute = words[0] == "cd" and len(words) == 2 and words[1].startswith("/") and not part.redirects
        return absolute and self.is_workspace(words[1])

    def _redirect(self, redirect: PlainRedirect) -> AllowingRules:
        if redirect.path == os.devnull:
            return AllowingRules()
        if self.moved:
            return AllowingRules(
                reason=f"Where {shown(redirect.path)} leads is not known after a change of the folder."
            )
        kind: file_rules.FileKind = "read" if redirect.operator == "<" else "edit"
        return file_rules.permission_of(kind, [redirect.path], self._allowing, self._workspace)

    def _rule_for(self, part: PlainPart) -> tuple[ApprovalRule | None, str]:
        """Return the rule that allows a part, or the reason why none does."""
        reason = f"No rule allows {shown(' '.join(part.words))}."
        if "/" not in part.words[0] and os.path.isfile(self._workspace / part.words[0]):
            # A shell that looks here first, or `bash NAME` as some runtimes shorten it, would run this file.
            return None, f"{reason[:-1]}: the workspace has a file of that name."
        for rule, words in self._rules:
            if rule.match == "exact":
                if words == part.words:
                    why = self._exact_problem(part)
                    if why is None:
                        return rule, ""
                    reason = f"{rule.id} does not allow {shown(' '.join(part.words))} here: {why}."
            elif _begins(part.words, words):
                why = self._prefix_problem(part, rule)
                if why is None:
                    return rule, ""
                reason = f"{rule.id} does not allow {shown(' '.join(part.words))}: {why}."
        return None, reason

    def _exact_problem(self, part: PlainPart) -> str | None:
        usage = _usage(part.words)
        if isinstance(usage, str):
            if part.fed:
                # `sh`, `xargs` or `psql` would do what they are told there.
                return "what it reads as its input can be instructions"
            pathlike = [word for word in part.words[1:] if "/" in word or "." in word]
        else:
            pathlike = list(usage.paths)
        if self.moved and (pathlike or "/" in part.words[0]):
            return "its paths are relative to another folder than the workspace"
        return None

    def _prefix_problem(self, part: PlainPart, rule: ApprovalRule) -> str | None:
        if self.moved:
            return "it runs in another folder than the workspace"
        if rule.sandbox_only and command_table.build_of(part.words) is not None:
            return "what it reads as its input can be instructions" if part.fed else None
        usage = _usage(part.words)
        if isinstance(usage, str):
            return usage
        for path in usage.paths:
            forms = forms_of(path, self._workspace)
            if forms is None or forms.relative is None:
                return f"{shown(path)} is outside of the workspace"
            if self._closed_reads and usage.contents != "none" and os.path.isdir(forms.absolute):
                return "a rule restricts which files may be read, and it reads a whole folder"
        if self._closed_reads and usage.contents == "tree":
            return "a rule restricts which files may be read, and it may read any of them"
        return None


def _begins(words: Sequence[str], prefix: Sequence[str]) -> bool:
    if words[0] == "git" and prefix[0] == "git":
        words, prefix = without_pager(words[1:]), without_pager(prefix[1:])
    return tuple(words[: len(prefix)]) == tuple(prefix)


def _usage(words: Sequence[str]) -> Usage | str:
    """Return what a command reads, or why that is not known."""
    try:
        return command_table.check(words)
    except Refused as error:
        return str(error)
