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
_MOST_FOLDERS: Final = 8


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
    if facts.cwd is not None:
        parts.begin_in(facts.cwd)
    elif facts.cwd_unknown and not sandboxed:
        # In a sandbox a hostile folder gains nothing that a build there could not do as well.
        parts.folders = ()
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
        self._closed_paths = any(rule.kind in ("read", "edit") and rule.paths for rule in strict)
        self._workspace = workspace
        self.folders: tuple[str, ...] = (os.path.realpath(workspace),)
        """Where relative paths may start, all of them in the workspace; empty: it is not known."""
        self._outside = False
        """Whether commands may run outside of the workspace."""
        self._changed = False
        """Whether a part changes the folder."""

    @property
    def _moved(self) -> bool:
        return self.folders != (os.path.realpath(self._workspace),)

    def begin_in(self, folder: str) -> None:
        """Let the command begin in a folder."""
        inside = self._inside(folder) if os.path.isabs(folder) else None
        self.folders, self._outside = (() if inside is None else (inside,)), inside is None

    def permission(self, parts: Sequence[PlainPart]) -> AllowingRules:
        found: list[ApprovalRule] = []
        for part in parts:
            if self._moves(part):
                continue
            rule, reason = self._rule_for(part)
            if rule is None:
                return AllowingRules(reason=reason)
            found.append(rule)
            usage = _usage(part.words)
            made = () if isinstance(usage, str) or rule.match == "exact" else usage.makes
            for redirect in (*part.redirects, *(PlainRedirect(">", path) for path in made)):
                redirected = self._redirect(redirect)
                if not redirected.rules and redirected.reason:
                    return redirected
                found += redirected.rules
            if part.words[0] in _MOVING:
                self.folders, self._outside, self._changed = (), True, True
        return AllowingRules(rules=tuple(found), reason="" if found else "No rule allows to only change the folder.")

    def _inside(self, path: str) -> str | None:
        """Return a folder with its links followed, if it is in the workspace."""
        forms = forms_of(path, self._workspace)
        return None if forms is None or forms.relative is None else forms.absolute

    def _moves(self, part: PlainPart) -> bool:
        """Return whether a part only changes to a folder in the workspace; then paths may start there, too.

        They may still start where they did before: the change can fail, and in a pipeline it holds for its part alone.
        """
        words = part.words
        if words[0] != "cd" or len(words) != 2 or part.redirects or not words[1] or words[1][0] in "-+~":
            return False
        if not self.folders:
            # Absolute paths are known anywhere, and others stay unknown.
            return os.path.isabs(words[1]) and self._inside(words[1]) == os.path.realpath(self._workspace)
        # A shell takes `..` after a link back by name, other programs by the link's target.
        if ".." in words[1].split("/"):
            return False
        targets = [self._inside(os.path.join(folder, words[1])) for folder in self.folders]
        known = [target for target in targets if target is not None]
        if len(known) != len(targets) or len(self.folders) > _MOST_FOLDERS:
            return False
        before = self.folders
        self.folders = tuple(dict.fromkeys((*before, *known)))
        self._changed = self._changed or self.folders != before
        return True

    def _redirect(self, redirect: PlainRedirect) -> AllowingRules:
        if redirect.path == os.devnull:
            return AllowingRules()
        if not self.folders or (self._moved and self._closed_paths):
            return AllowingRules(
                reason=f"Where {shown(redirect.path)} leads is not known after a change of the folder."
            )
        kind: file_rules.FileKind = "read" if redirect.operator == "<" else "edit"
        paths = [os.path.join(folder, redirect.path) for folder in self.folders] if self._moved else [redirect.path]
        return file_rules.permission_of(kind, paths, self._allowing, self._workspace)

    def _rule_for(self, part: PlainPart) -> tuple[ApprovalRule | None, str]:
        """Return the rule that allows a part, or the reason why none does."""
        reason = f"No rule allows {shown(' '.join(part.words))}."
        places = (str(self._workspace), *self.folders)
        if "/" not in part.words[0] and any(os.path.isfile(os.path.join(each, part.words[0])) for each in places):
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
            if self._outside or self._changed:
                # What it does can depend on files there, as with `make`.
                return "it runs in another folder than the workspace"
            pathlike = [word for word in part.words[1:] if "/" in word or "." in word]
        else:
            pathlike = list(usage.paths)
        if self._moved and (pathlike or "/" in part.words[0]):
            return "its paths are relative to another folder than the workspace"
        return None

    def _prefix_problem(self, part: PlainPart, rule: ApprovalRule) -> str | None:
        if not self.folders:
            return "it runs in another folder than the workspace"
        if self._moved and self._closed_paths:
            return "it runs in another folder than the workspace, and rules restrict some paths"
        if rule.sandbox_only and command_table.build_of(part.words) is not None:
            return "what it reads as its input can be instructions" if part.fed else None
        usage = _usage(part.words)
        if isinstance(usage, str):
            return usage
        if part.words[0] == "git" and any(self._may_be_repository(folder) for folder in self.folders):
            return "the folder may be a repository of its own, whose settings start programs"
        for path in usage.paths:
            why = self._path_problem(path, usage)
            if why is not None:
                return why
        if self._closed_reads and usage.contents == "tree":
            return "a rule restricts which files may be read, and it may read any of them"
        return None

    def _path_problem(self, path: str, usage: Usage) -> str | None:
        for folder in self.folders:
            forms = forms_of(os.path.join(folder, path) if self._moved else path, self._workspace)
            if forms is None or forms.relative is None:
                return f"{shown(path)} is outside of the workspace"
            if not os.path.isdir(forms.absolute):
                continue
            if self._closed_reads and usage.contents != "none":
                return "a rule restricts which files may be read, and it reads a whole folder"
            if usage.follows_links:
                return "it follows links in a folder; write --no-dereference"
        return None

    def _may_be_repository(self, folder: str) -> bool:
        """Return whether git could find another repository than the workspace's from a folder."""
        root = os.path.realpath(self._workspace)
        while folder != root:
            if os.path.basename(folder) == ".git" or any(
                os.path.lexists(os.path.join(folder, name)) for name in (".git", "HEAD")
            ):
                return True
            folder = os.path.dirname(folder)
        return False


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
