"""The page of commands that try to get past the approval rules, with what each is answered.

The commands are those of the tests (`tests/fleet/approval_rules/corpus.yaml`), and the answers are the judge's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from fleet.approval_rules.judge import judge
from fleet.approval_rules.presets import rules_of
from fleet.approval_rules.requests import RequestFacts
from fleet.approval_rules.rules import ApprovalRule
from tests.fleet.approval_rules.corpus import (
    ALLOWED,
    ALLOWED_IN_A_SANDBOX,
    BYPASSES,
    DENIED,
    EXACT,
    OPERATORS,
    make_workspace,
)

#: By column: the preset, and whether the agent is in a sandbox.
_COLUMNS: Final = {
    "`careful`": ("careful", False),
    "`standard`": ("standard", False),
    "`standard` in a sandbox": ("standard", True),
    "`sandboxed`": ("sandboxed", True),
}
_ANSWERS: Final = {"ask": "asked", "deny": "**denied**", "allow": "allowed"}
_SHOWN: Final = 100
_INTRODUCTION: Final = """\
# Bypasses of approval rules

Commands by which an agent could try to get more than the [approval rules](../explanation/approval-rules.md) allow, and
what each is answered. This page is made by running the rules on each command. The tests check that none of the {count}
is allowed under `standard` outside of a sandbox, and neither are random variations of them.

Beside the preset, an operator's rules hold: {denied} denied with any arguments;
{exact} allowed exactly as written.
The rules that allow do not hold in the column `careful`.

- *asked*: people are asked, as without rules.
- *denied*: the rule that denies holds, however the command is written.
- *allowed*: only in a sandbox. Builds and tests may have any arguments there, because they run what the agent wrote
  anyway, and so may commits, which run hooks. `sandboxed` allows everything except what a rule denies or may be about,
  and writing to `.git`, hooks and settings of runtimes.

Characters that a page cannot show are written by their names: `<LF>` ends a line, `<U+202E>` is a character by its
number, and `<SP>` is a space at an end. `src/linked` is a link to `/etc/passwd`, and `out` is a link to `/etc`.
"""


def page() -> str:
    """Return the page."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder).resolve() / "clone")
        return "\n".join((*_bypasses(workspace), *_everyday(workspace)))


def _bypasses(workspace: Path) -> Iterator[str]:
    yield _INTRODUCTION.format(
        count=sum(map(len, BYPASSES.values())), denied=_listed(DENIED, "is", "are"), exact=_listed(EXACT, "is", "are")
    )
    for trick, cases in BYPASSES.items():
        yield f"## {trick[0].upper()}{trick[1:]}\n"
        yield _table([command for _, command in cases], workspace)


def _everyday(workspace: Path) -> Iterator[str]:
    yield "## Everyday commands\n"
    yield "These must not be asked under `standard`. `{workspace}` stands for the workspace's own path.\n"
    yield _table(ALLOWED, workspace)
    yield "## Everyday commands in a sandbox\n"
    yield "These must not be asked under `standard` in a sandbox.\n"
    yield _table(ALLOWED_IN_A_SANDBOX, workspace)


def _listed(commands: Sequence[str], one: str, several: str) -> str:
    names = [f"`{command}`" for command in commands]
    return f"{', '.join(names[:-1])} and {names[-1]} {several if len(names) > 1 else one}"


def _table(commands: Sequence[str], workspace: Path) -> str:
    rows = [f"| command | {' | '.join(_COLUMNS)} |", "| --- |" + " --- |" * len(_COLUMNS)]
    for command in commands:
        answers = (
            _answer(command.replace("{workspace}", str(workspace)), preset, sandboxed, workspace)
            for preset, sandboxed in _COLUMNS.values()
        )
        rows.append(f"| {_code(command)} | {' | '.join(answers)} |")
    return "\n".join(rows) + "\n"


def _answer(command: str, preset: str, sandboxed: bool, workspace: Path) -> str:
    facts = RequestFacts(kind="execute", command=command)
    verdict = judge(facts, _rules(preset, sandboxed), workspace=workspace, sandboxed=sandboxed, now=0)
    return _ANSWERS[verdict.effect]


@cache
def _rules(preset: str, sandboxed: bool) -> tuple[ApprovalRule, ...]:
    beside = (rule for rule in OPERATORS if preset != "careful" or rule.effect != "allow")
    return (*rules_of(preset, sandboxed=sandboxed), *beside)


def _code(command: str) -> str:
    """Return a command as a code span in a table's cell."""
    text = command if len(command) <= _SHOWN else f"{command[:_SHOWN]}… ({len(command):,} characters)"
    body = text.strip(" ")
    start, end = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))
    shown = "<SP>" * start + "".join(map(_shown, body)) + "<SP>" * (end if body else 0)
    if not shown:
        return "(nothing)"
    fence = "`"
    while fence in shown:
        fence += "`"
    # A backtick at an end would lengthen the fence.
    pad = " " if "`" in (shown[0], shown[-1]) else ""
    return f"{fence}{pad}{shown}{pad}{fence}".replace("|", "\\|")


def _shown(char: str) -> str:
    if char == "\n":
        return "<LF>"
    if " " <= char <= "~" or char == "…":
        return char
    return f"<U+{ord(char):04X}>"
