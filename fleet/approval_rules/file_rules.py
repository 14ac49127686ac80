"""Rules about files that are read or edited, by a runtime's own tools or by a command."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from fleet.approval_rules import command_table
from fleet.approval_rules.command_options import Refused
from fleet.approval_rules.matching import AllowingRules, RuleMatch, shown
from fleet.approval_rules.rules import ApprovalRule
from fleet.approval_rules.shell_command import ShellCommand, SimpleCommand, Word
from fleet.approval_rules.workspace_paths import PathForms, forms_of, glob_allows, glob_restricts, protected

FileKind: TypeAlias = Literal["read", "edit"]


def match(rule: ApprovalRule, paths: Sequence[str], workspace: Path) -> RuleMatch:
    """Return whether a rule that denies or asks is about any of the paths."""
    if not rule.paths:
        return RuleMatch.YES
    if not paths:
        return RuleMatch.MAYBE
    return max(_match(rule, path, workspace) for path in paths)


def _match(rule: ApprovalRule, path: str, workspace: Path) -> RuleMatch:
    forms = forms_of(path, workspace)
    if forms is None:
        return RuleMatch.MAYBE
    if any(glob_restricts(glob, forms) for glob in rule.paths):
        return RuleMatch.YES
    # What is asked for a folder may reach each file in it.
    return RuleMatch.MAYBE if os.path.isdir(forms.absolute) else RuleMatch.NO


def match_in_command(rule: ApprovalRule, command: ShellCommand, workspace: Path) -> RuleMatch:
    """Return whether a rule about files, which denies or asks, is about a command.

    A redirect reads or writes its file for sure. Any other word that names a file may do so.
    """
    found = RuleMatch.NO if command.problem is None or not rule.paths else RuleMatch.MAYBE
    for redirect in command.redirects:
        if (">" in redirect.operator) == (rule.kind == "edit"):
            sure = redirect.path.literal
            found = max(found, match(rule, [redirect.path.text], workspace) if sure else RuleMatch.MAYBE)
    if not rule.paths:
        return found
    for part in command.parts:
        if rule.kind == "edit" and _only_reads(part):
            continue
        for word in part.words:
            if not word.literal:
                found = max(found, RuleMatch.MAYBE)
            for path in _names(word):
                forms = forms_of(path, workspace)
                if forms is not None and any(glob_restricts(glob, forms) for glob in rule.paths):
                    found = max(found, RuleMatch.MAYBE)
    return found


def _only_reads(part: SimpleCommand) -> bool:
    try:
        command_table.check([word.text for word in part.words])
    except Refused:
        return False
    return all(word.literal for word in part.words)


def _names(word: Word) -> Iterator[str]:
    """Yield what a word may name: itself, the value in it, and what is attached to an option."""
    text = word.text
    if text.startswith("-"):
        yield text[2:]
    else:
        yield text
    for separator in "=:@":
        if separator in text:
            yield text.rpartition(separator)[2]


def permission_of(
    kind: FileKind, paths: Sequence[str], allowing: Sequence[ApprovalRule], workspace: Path
) -> AllowingRules:
    """Return the rules that allow to read or edit all of the paths."""
    rules = [rule for rule in allowing if rule.kind in (kind, "any")]
    if not paths:
        # Where an edit leads must be known, because some files are open to no rule.
        everywhere = next((rule for rule in rules if not rule.paths), None) if kind == "read" else None
        return AllowingRules(reason="The runtime does not say which files.") if everywhere is None else _by(everywhere)
    found = []
    for path in paths:
        forms = forms_of(path, workspace)
        if forms is None:
            return AllowingRules(reason=f"Where {shown(path)} leads cannot be known.")
        closed = protected(forms, workspace) if kind == "edit" else None
        if closed is not None:
            return AllowingRules(reason=f"No rule can allow to edit {shown(path)}: {closed}.")
        rule = next((rule for rule in rules if _covers(rule, forms)), None)
        if rule is None:
            outside = ", which is outside of the workspace" if forms.relative is None else ""
            return AllowingRules(reason=f"No rule allows to {kind} {shown(path)}{outside}.")
        found.append(rule)
    return AllowingRules(rules=tuple(found))


def _by(rule: ApprovalRule) -> AllowingRules:
    return AllowingRules(rules=(rule,))


def _covers(rule: ApprovalRule, forms: PathForms) -> bool:
    return not rule.paths or any(glob_allows(glob, forms) for glob in rule.paths)
