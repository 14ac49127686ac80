"""Which rules are offered for a request."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.approval_rules.judge import judge
from fleet.approval_rules.presets import rules_of
from fleet.approval_rules.requests import RequestFacts
from fleet.approval_rules.suggestions import suggestions


def offered(command: str, workspace: Path, *, sandboxed: bool = False) -> list[tuple[str, str | None]]:
    facts = RequestFacts(kind="execute", command=command)
    return [(each.match, each.command) for each in suggestions(facts, workspace=workspace, sandboxed=sandboxed)]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("git log -5", [("exact", "git log -5"), ("prefix", "git log")]),
        ("rg foo src", [("exact", "rg foo src"), ("prefix", "rg")]),
        ("git push origin main", [("exact", "git push origin main")]),
        ("python3 x.py", [("exact", "python3 x.py")]),
        ("git commit -m 'it'\\''s done'", [("exact", "git commit -m 'it'\\''s done'")]),
        ("make lint 2>&1 | tail -5", [("exact", "make lint")]),
        ("cd {workspace} && make lint", [("exact", "make lint")]),
        ("ls | sh", []),
        ("make a && make b", []),
        ("ls > /etc/x", []),
        ("ls $X", []),
        ("X=1 make", []),
        ("", []),
    ],
)
def test_the_exact_command_and_its_widest_sound_prefix(
    workspace: Path, command: str, expected: list[tuple[str, str | None]]
) -> None:
    assert offered(command.replace("{workspace}", str(workspace)), workspace) == expected


def test_a_build_is_offered_as_a_prefix_in_a_sandbox(workspace: Path) -> None:
    assert offered("cargo test --all", workspace, sandboxed=True) == [
        ("exact", "cargo test --all"),
        ("prefix", "cargo test"),
    ]
    assert offered("cargo test --all", workspace) == [("exact", "cargo test --all")]


def test_what_is_offered_answers_the_request(workspace: Path) -> None:
    for facts in (
        RequestFacts(kind="execute", command="make 'a b' \"c'd\" e=f | head -3"),
        RequestFacts(kind="edit", paths=("src/a[1]*.py",)),
        RequestFacts(kind="read", paths=("src/a.py", "README.md")),
        RequestFacts(kind="mcp", tool="docs/search"),
        RequestFacts(kind="fetch", url="https://docs.example.org/x"),
    ):
        exact = suggestions(facts, workspace=workspace)[0]
        reading = [each for each in rules_of("standard", sandboxed=False) if each.kind == "execute"]
        found = judge(facts, [exact, *reading], workspace=workspace, sandboxed=False, now=0)
        assert found.effect == "allow", (facts, found)


def test_nothing_is_offered_for_what_no_rule_can_allow(workspace: Path) -> None:
    for facts in (
        RequestFacts(kind="edit", paths=(".git/config",)),
        RequestFacts(kind="edit", paths=("/etc/passwd",)),
        RequestFacts(kind="edit"),
        RequestFacts(kind="fetch", url="http://[x"),
        RequestFacts(kind="mcp"),
        RequestFacts(kind=None),
    ):
        assert suggestions(facts, workspace=workspace) == ()
