"""Rules that come with Muster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fleet.approval_rules import command_table, git_commands
from fleet.approval_rules.rules import ApprovalRule

#: By name, what a preset is for.
PRESETS: Final = {
    "careful": "Every request is asked.",
    "standard": (
        "Reading within the workspace and editing its files are allowed, and so are commands that only read it. "
        "In a sandbox common builds, tests and commits are allowed, too. Everything else is asked."
    ),
    "sandboxed": (
        "Everything is allowed in a sandbox that does not let the agent out. Elsewhere this is the preset `standard`."
    ),
}


def rules_of(name: str, *, sandboxed: bool, open_network: bool = False) -> tuple[ApprovalRule, ...]:
    """Return the rules of a preset for one agent.

    Args:
        name: one of `PRESETS`.
        sandboxed: whether the agent runs in a sandbox.
        open_network: whether that sandbox lets the agent reach other hosts than through the egress.

    Raises:
        KeyError: there is no such preset.
    """
    match name:
        case "careful":
            return ()
        case "sandboxed" if sandboxed and not open_network:
            return (_rule(name, "everything", kind="any", sandbox_only=True),)
        case "standard" | "sandboxed":
            return tuple(_standard(sandboxed))
        case _:
            raise KeyError(name)


def _rule(preset: str, name: str, **fields: object) -> ApprovalRule:
    given = {"id": f"{preset}:{name}", "effect": "allow", "origin": f"preset:{preset}", **fields}
    return ApprovalRule.from_json(given)


def _standard(sandboxed: bool) -> Iterator[ApprovalRule]:
    yield _rule("standard", "read", kind="read", paths=("**",))
    yield _rule("standard", "edit", kind="edit", paths=("**",))
    for program in command_table.PROGRAMS:
        if program != "git":
            yield _prefix(program)
    for subcommand in sorted(git_commands.SUBCOMMANDS):
        yield _prefix(f"git {subcommand}")
    if sandboxed:
        for build in command_table.BUILDS:
            yield _prefix(" ".join(build), sandbox_only=True)


def _prefix(command: str, **fields: object) -> ApprovalRule:
    name = command.replace(" ", "-")
    return _rule("standard", name, kind="execute", command=command, match="prefix", **fields)
