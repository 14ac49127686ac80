"""What a question on the side may do without anybody being asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.approval_rules.requests import RequestFacts, RuleVerdict
from fleet.approval_rules.rules import ApprovalRule, Effect, Kind
from fleet.host.aside.read_only import may_read


def verdict(effect: Effect, *, by_rule: bool = True) -> RuleVerdict:
    rule = ApprovalRule(id="r", effect=effect, kind="any") if by_rule else None
    return RuleVerdict(effect=effect, rule=rule, reason="")


NO_RULE = verdict("ask", by_rule=False)


@pytest.mark.parametrize(("path", "allowed"), [("a", True), ("b/../a", True), ("../a", False), ("/etc/passwd", False)])
def test_reads_are_allowed_inside_the_workspace(path: str, allowed: bool, tmp_path: Path) -> None:
    assert may_read(RequestFacts(kind="read", paths=(path,)), NO_RULE, tmp_path) is allowed
    assert may_read(RequestFacts(kind="read", paths=("a", path)), NO_RULE, tmp_path) is allowed


def test_a_link_out_of_the_workspace_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")
    assert not may_read(RequestFacts(kind="read", paths=("out/passwd",)), NO_RULE, tmp_path)


@pytest.mark.parametrize("kind", ["edit", "execute", "fetch", "mcp", None])
def test_nothing_else_is_allowed_whatever_rules_say(kind: Kind | None, tmp_path: Path) -> None:
    facts = RequestFacts(kind=kind, paths=("a",), command="ls", tool="s/t", url="https://a.example")
    assert not may_read(facts, verdict("allow"), tmp_path)


def test_rules_only_deny_further(tmp_path: Path) -> None:
    read = RequestFacts(kind="read", paths=("a",))
    assert may_read(read, verdict("allow"), tmp_path)
    assert not may_read(read, verdict("deny"), tmp_path)
    assert not may_read(read, verdict("ask"), tmp_path)
    assert not may_read(RequestFacts(kind="read"), NO_RULE, tmp_path)
