"""What holds for any command and any rules."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.approval_rules.judge import judge
from fleet.approval_rules.presets import rules_of
from fleet.approval_rules.requests import RequestFacts
from fleet.approval_rules.rules import EFFECTS, KINDS, ApprovalRule
from fleet.approval_rules.shell_command import parse
from tests.fleet.approval_rules.corpus import ALLOWED, BYPASSES, RULES

#: The files of the workspace are only read.
SHARED: Final = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
ALL: Final = [command for cases in BYPASSES.values() for _, command in cases]
DENIED: Final = [command for cases in BYPASSES.values() for answer, command in cases if answer == "deny"]
ANYTHING: Final = st.text(st.characters(), max_size=60)
SHELL: Final = st.text(st.sampled_from("rm ls git a/.-'\"\\$(){}[]|&;<>\n`!*?=~#\x00\ud800\u202e"), max_size=40)
COMMANDS: Final = st.one_of(st.sampled_from(ALL), st.sampled_from(ALLOWED), SHELL, ANYTHING)
#: Ways to run another command, each a template.
WRAPPERS: Final = (
    "{}; ls",
    "ls; {}",
    "ls && {}",
    "ls | {}",
    "ls\n{}",
    "({})",
    "{{ {}; }}",
    "if true; then {}; fi",
    "while {}; do ls; done",
    "echo $({})",
    'echo "$({})"',
    "cat <({})",
    "f() {{ {}; }}; f",
    "! {}",
    "time {}",
    "env {}",
    "sudo {}",
    "X=1 {}",
    "{} > src/x",
    "{} &",
    "coproc {}",
)


def answer(command: str, rules: tuple[ApprovalRule, ...], workspace: Path, *, sandboxed: bool = False) -> str:
    facts = RequestFacts(kind="execute", command=command)
    return judge(facts, rules, workspace=workspace, sandboxed=sandboxed, now=0).effect


def rules_about(effects: tuple[str, ...]) -> st.SearchStrategy[ApprovalRule]:
    commands = st.sampled_from(["rm", "git push", "ls", "git status", "make test", "cat src/a.py"])
    matches = st.sampled_from(["exact", "prefix"])
    about_commands = st.builds(
        lambda effect, command, match: ApprovalRule.from_json(
            {"id": "r", "effect": effect, "kind": "execute", "command": command, "match": match}
        ),
        st.sampled_from(effects),
        commands,
        matches,
    )
    about_files = st.builds(
        lambda effect, kind, path: ApprovalRule.from_json({"id": "r", "effect": effect, "kind": kind, "paths": [path]}),
        st.sampled_from(effects),
        st.sampled_from(["read", "edit"]),
        st.sampled_from(["**", "src/**", ".env", "*.py"]),
    )
    about_all = st.builds(
        lambda effect, kind: ApprovalRule.from_json({"id": "r", "effect": effect, "kind": kind}),
        st.sampled_from(effects),
        st.sampled_from(KINDS),
    )
    return st.one_of(about_commands, about_files, about_all)


@SHARED
@given(command=st.sampled_from(DENIED), wrapper=st.sampled_from(WRAPPERS), outer=st.sampled_from(WRAPPERS))
def test_no_wrapping_makes_a_denied_command_allowed(workspace: Path, command: str, wrapper: str, outer: str) -> None:
    for rules, sandboxed in ((RULES, False), ((*RULES, *rules_of("sandboxed", sandboxed=True)), True)):
        once = wrapper.format(command)
        assert answer(once, rules, workspace, sandboxed=sandboxed) != "allow", once
        twice = outer.format(once)
        assert answer(twice, rules, workspace, sandboxed=sandboxed) != "allow", twice


@SHARED
@given(command=COMMANDS, rules=st.lists(rules_about(("allow", "ask", "deny")), max_size=4), added=st.data())
def test_no_added_rule_that_denies_or_asks_makes_the_verdict_weaker(
    workspace: Path, command: str, rules: list[ApprovalRule], added: st.DataObject
) -> None:
    more = added.draw(rules_about(("deny", "ask")))
    before = answer(command, (*RULES, *rules), workspace)
    after = answer(command, (*RULES, *rules, more), workspace)
    assert EFFECTS.index(after) <= EFFECTS.index(before)


@SHARED
@given(text=st.one_of(ANYTHING, SHELL), rules=st.lists(rules_about(("allow", "ask", "deny")), max_size=3))
def test_any_text_gets_a_verdict(workspace: Path, text: str, rules: list[ApprovalRule]) -> None:
    for facts in (
        RequestFacts(kind="execute", command=text, cwd=text),
        RequestFacts(kind="read", paths=(text,)),
        RequestFacts(kind="edit", paths=(text, "src/a.py")),
        RequestFacts(kind="mcp", tool=text),
        RequestFacts(kind="fetch", url=text),
    ):
        assert judge(facts, (*RULES, *rules), workspace=workspace, sandboxed=True, now=0).effect in EFFECTS


@pytest.mark.parametrize("char", ["\x80", "\u0100", "\uffff", "\U00080000", "\U000e0000", "\U0010ffff", "\ud800"])
@pytest.mark.parametrize("before", ["", "{", "$", "${", "<<", "<<'", "a=", "x[", "((", "`", "[[ a =~ ", "@(", "case "])
def test_no_character_ends_the_process_that_judges(workspace: Path, char: str, before: str) -> None:
    """The grammar's scanner looks some characters up beyond the end of a table."""
    for after in ("", "\n", "a}", "'\n"):
        assert answer(f"{before}{char}{after}; rm -rf x", RULES, workspace) != "allow"
    denied = (ApprovalRule(id="r", effect="deny", kind="execute", command="rm", match="prefix"),)
    assert answer(f"rm {char}", denied, workspace) == "deny"


@SHARED
@given(command=COMMANDS)
def test_an_allowed_command_is_known_in_every_word(workspace: Path, command: str) -> None:
    if answer(command, RULES, workspace) == "allow":
        parsed = parse(command)
        assert parsed.problem is None
        assert all(word.literal for part in parsed.parts for word in part.words)
        assert not any(part.assignments for part in parsed.parts)


@pytest.mark.parametrize(
    "piece", ["(", "$(", "`", "'", "{ ", "sh ", "rm ", "eval ", "sh -c '", "\n", "ls|", "<<a\n", '"']
)
def test_long_and_deep_commands_are_judged_quickly(workspace: Path, piece: str) -> None:
    command = piece * (20_000 // len(piece))
    everything = (*RULES, *rules_of("sandboxed", sandboxed=True))
    assert answer(command, RULES, workspace) != "allow"
    assert answer(command, everything, workspace, sandboxed=True) in EFFECTS
