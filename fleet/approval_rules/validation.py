"""Check a rule before it is kept: it must mean what its author can see, and no prefix may widen."""

from __future__ import annotations

from typing import Final

from core.errors import MusterError
from fleet.approval_rules import command_table, git_commands
from fleet.approval_rules.command_options import Refused
from fleet.approval_rules.rules import EFFECTS, KINDS, ApprovalRule
from fleet.approval_rules.shell_command import words_of

#: The fields of a rule that say what it is about, and the kinds that they belong to.
_ABOUT: Final = {"command": ("execute",), "paths": ("read", "edit"), "tool": ("mcp",), "host": ("fetch",)}


class RuleError(MusterError):
    """The approval rule is not valid."""

    code = "approval_rule.invalid"


def validate(rule: ApprovalRule) -> None:
    """Check one rule.

    Raises:
        RuleError: the rule contradicts itself, or would allow more than its words say. The message says what to write
            instead.
    """
    if rule.effect not in EFFECTS or rule.kind not in KINDS or rule.match not in ("exact", "prefix"):
        raise RuleError(
            f"The rule has an unknown word: {rule.effect!r}, {rule.kind!r} or {rule.match!r}. "
            f"Effects are {', '.join(EFFECTS)}; kinds are {', '.join(KINDS)}; a command is `exact` or `prefix`.",
            code="approval_rule.unknown_word",
        )
    for name, kinds in _ABOUT.items():
        if getattr(rule, name) and rule.kind not in kinds:
            raise RuleError(
                f"A rule about {rule.kind} requests cannot have `{name}`. "
                f"Leave it out, or make the rule about {' or '.join(kinds)} requests.",
                code="approval_rule.wrong_kind",
            )
    _validate_scope(rule)
    _validate_paths(rule)
    _validate_tool(rule)
    _validate_host(rule)
    if rule.command is not None:
        _validate_command(rule, rule.command)
    elif rule.effect == "allow" and not rule.paths:
        _validate_wide(rule)


def _validate_wide(rule: ApprovalRule) -> None:
    if rule.kind not in ("execute", "edit", "any") or rule.sandbox_only or rule.until is not None:
        return
    name = "paths, such as `**` for the workspace" if rule.kind == "edit" else "a command"
    raise RuleError(
        f"The rule would allow every {'request' if rule.kind == 'any' else rule.kind + ' request'}, without an end. "
        f"Name {name}, give the rule an end, or let it hold only in a sandbox.",
        code="approval_rule.too_wide",
    )


def _validate_scope(rule: ApprovalRule) -> None:
    kind, colon, name = rule.scope.partition(":")
    if rule.scope != "fleet" and not (kind in ("role", "agent", "workspace") and colon and name):
        raise RuleError(
            f"The scope {rule.scope!r} is not known. Write `fleet`, `role:NAME`, `agent:NAME` or `workspace:PATH`.",
            code="approval_rule.unknown_scope",
        )


def _validate_paths(rule: ApprovalRule) -> None:
    for glob in rule.paths:
        if not glob or glob.startswith("~") or ".." in glob.split("/") or not glob.isprintable():
            raise RuleError(
                f"The path {glob!r} cannot be judged. "
                "Write a glob relative to the workspace, such as `src/**`, without `~` and `..`.",
                code="approval_rule.bad_path",
            )


def _validate_tool(rule: ApprovalRule) -> None:
    if rule.tool is None:
        return
    server, _, tool = rule.tool.partition("/")
    if not server or not tool or "*" in server or ("*" in tool and tool != "*"):
        raise RuleError(
            f"The tool {rule.tool!r} is not understood. Write `SERVER/TOOL`, or `SERVER/*` for all tools of a server.",
            code="approval_rule.bad_tool",
        )


def _validate_host(rule: ApprovalRule) -> None:
    if rule.host is None:
        return
    domain = rule.host.removeprefix("*.")
    if not domain.isascii() or not all(part and part.replace("-", "").isalnum() for part in domain.split(".")):
        raise RuleError(
            f"The host {rule.host!r} is not understood. Write a host such as `docs.python.org`, or `*.python.org`.",
            code="approval_rule.bad_host",
        )


def _validate_command(rule: ApprovalRule, command: str) -> None:
    words = words_of(command)
    if words is None:
        raise RuleError(
            f"The command {command[:200]!r} is not one simple command. "
            "Write a program and its arguments, without pipes, redirects, variables and patterns; "
            "quote special characters. Each part of a longer command needs a rule of its own.",
            code="approval_rule.not_simple",
        )
    if rule.effect == "allow" and rule.match == "prefix":
        why = prefix_problem(words, sandbox_only=rule.sandbox_only)
        if why is not None:
            raise RuleError(
                f"No rule can allow every command that begins with `{command[:200]}`: {why}. "
                "Allow the exact command instead, without prefix.",
                code="approval_rule.widens",
            )


def prefix_problem(words: tuple[str, ...], *, sandbox_only: bool = False) -> str | None:
    """Return why a prefix could let arguments add to what is allowed; None: it cannot."""
    build = command_table.build_of(words)
    if build is not None:
        return None if sandbox_only else "it runs what the agent wrote, so such a rule can hold only in a sandbox"
    if words[0] == "git" and len(words) < 2:
        return f"name one of its subcommands that only read ({', '.join(sorted(git_commands.SUBCOMMANDS))})"
    if words[0] not in command_table.PROGRAMS:
        return "its arguments can run other programs or write files, as far as Muster knows"
    for ending in ((), ("1",), ("list",), (".",), ("1p",), ("-v", "1"), ("-f", "."), ("{print}",)):
        try:
            command_table.check((*words, *ending))
        except Refused as error:
            why = str(error)
        else:
            return None
    return why
