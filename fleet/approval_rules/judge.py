"""Judge a permission request by the rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fleet.approval_rules import command_denial, file_rules
from fleet.approval_rules.command_permission import permission_of
from fleet.approval_rules.matching import AllowingRules, RuleMatch
from fleet.approval_rules.requests import RequestFacts, RuleVerdict
from fleet.approval_rules.rules import ApprovalRule, Effect
from fleet.approval_rules.service_rules import fetch_matches, mcp_matches
from fleet.approval_rules.shell_command import ShellCommand, parse


def judge(
    facts: RequestFacts, rules: Sequence[ApprovalRule], *, workspace: Path, sandboxed: bool, now: float
) -> RuleVerdict:
    """Return the verdict of the rules that hold for an agent.

    Args:
        facts: the request.
        rules: all rules whose scopes hold for the agent, presets' included.
        workspace: the folder that holds the agent's work, on this machine.
        sandboxed: whether the agent runs in a sandbox.
        now: Unix time, for rules that end.
    """
    holding = [
        rule for rule in rules if (rule.until is None or now < rule.until) and (sandboxed or not rule.sandbox_only)
    ]
    strict = [rule for rule in holding if rule.effect != "allow"]
    allowing = [rule for rule in holding if rule.effect == "allow"]
    found = _restriction(facts, strict, workspace)
    if found is not None:
        return found
    if facts.kind is None or facts.kind == "any":
        return _asked("The runtime does not say what the request is about.")
    permission = _permission(facts, allowing, strict, workspace=workspace, sandboxed=sandboxed)
    if permission.rules:
        names = " and ".join(dict.fromkeys(rule.id for rule in permission.rules))
        return RuleVerdict(effect="allow", rule=permission.rules[0], reason=f"Allowed by {names}.")
    return _asked(permission.reason)


def _asked(reason: str, rule: ApprovalRule | None = None) -> RuleVerdict:
    return RuleVerdict(effect="ask", rule=rule, reason=reason)


def _restriction(facts: RequestFacts, strict: Sequence[ApprovalRule], workspace: Path) -> RuleVerdict | None:
    """Return the verdict of the strongest rule that denies or asks; None: none is about the request."""
    command = parse(facts.command) if facts.kind == "execute" and facts.command is not None else None
    order: tuple[Effect, ...] = ("deny", "ask")
    matches = [(rule, _strict_match(facts, rule, command, workspace)) for rule in strict]
    for effect in order:
        for rule, match in matches:
            if rule.effect == effect and match is RuleMatch.YES:
                word = "Denied" if effect == "deny" else "Asked"
                return RuleVerdict(effect=effect, rule=rule, reason=f"{word} by {rule.id}.")
    for rule, match in matches:
        if match is RuleMatch.MAYBE:
            why = "" if command is None or command.problem is None else f": {command.problem}"
            return _asked(f"Whether {rule.id} is about this request cannot be known{why}.", rule)
    return None


def _strict_match(facts: RequestFacts, rule: ApprovalRule, command: ShellCommand | None, workspace: Path) -> RuleMatch:
    if rule.kind == "any":
        return RuleMatch.YES
    if command is not None and rule.kind in ("read", "edit"):
        return file_rules.match_in_command(rule, command, workspace)
    if facts.kind is None:
        # It could be about anything.
        return RuleMatch.MAYBE
    if rule.kind != facts.kind:
        return RuleMatch.NO
    match rule.kind:
        case "execute":
            if rule.command is None:
                return RuleMatch.YES
            return RuleMatch.MAYBE if command is None else command_denial.match(rule, command)
        case "read" | "edit":
            return file_rules.match(rule, facts.paths, workspace)
        case "mcp":
            return mcp_matches(rule, facts.tool, strict=True)
        case "fetch":
            return fetch_matches(rule, facts.url, strict=True)


def _permission(
    facts: RequestFacts,
    allowing: Sequence[ApprovalRule],
    strict: Sequence[ApprovalRule],
    *,
    workspace: Path,
    sandboxed: bool,
) -> AllowingRules:
    match facts.kind:
        case "execute":
            return permission_of(facts, allowing, strict, workspace=workspace, sandboxed=sandboxed)
        case "read" | "edit" as kind:
            return file_rules.permission_of(kind, facts.paths, allowing, workspace)
        case "mcp":
            rules = [rule for rule in allowing if rule.kind in ("mcp", "any")]
            said = facts.tool or "a tool that the runtime does not name"
            found = next((rule for rule in rules if mcp_matches(rule, facts.tool, strict=False) is RuleMatch.YES), None)
        case _:
            rules = [rule for rule in allowing if rule.kind in ("fetch", "any")]
            said = "this address"
            found = next(
                (rule for rule in rules if fetch_matches(rule, facts.url, strict=False) is RuleMatch.YES), None
            )
    if found is None:
        return AllowingRules(reason=f"No rule allows {said}.")
    return AllowingRules(rules=(found,))
