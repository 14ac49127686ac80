"""Agents that a rule does not reach are named when the rule is added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from bot.approvals.rule_reach import limits
from database.queries.agents.agents import AgentRow
from fleet.approval_rules.rules import Kind


@dataclass(frozen=True)
class Row:
    name: str
    runtime: str


ROWS = [Row("coder0", "claude"), Row("coder1", "opencode"), Row("coder2", "pi"), Row("coder3", "codex")]


def said(kind: Kind, *rows: Row) -> str:
    return "\n".join(limits(cast("list[AgentRow]", list(rows or ROWS)), kind))


@pytest.mark.parametrize("kind", ["execute", "edit", "any"])
def test_runtimes_that_ask_are_not_named(kind: Kind) -> None:
    assert said(kind) == ""


def test_a_rule_about_tools_names_the_runtimes_that_it_does_not_reach() -> None:
    text = said("mcp")
    assert "coder0: No rule about tools of MCP servers reaches Claude Code." in text
    assert "coder1: No rule about tools of MCP servers reaches opencode." in text
    assert "coder2: No rule about tools of MCP servers reaches pi. It has no MCP servers." in text
    assert "coder3" not in text


def test_an_agent_of_ones_own_is_always_asked_about() -> None:
    assert "people are asked about each of them" in said("execute", Row("own", "custom"))
