"""What an agent may do with Muster's commands: its role says, and no role can say more than
`bot.auth.agent_permissions`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bot.agents.roster import view as roster_view
from bot.auth import agent_permissions
from bot.auth.permission import ADMIN
from bot.commands import sections
from bot.commands.registry import TABLE
from bot.interfaces.mcp.server import COMMON, tools_for
from fleet.roles import Library, Role, library

sections.load()
SHIPPED = library()


def role(name: str, *commands: str) -> Role:
    return Role(
        name=name, title=name, mandate="", limits=(), commands=tuple(commands), page="", path=Path(f"{name}.md")
    )


def test_an_orchestrator_may_compose_the_fleet_and_a_coder_may_look() -> None:
    given = {"name": "coder1", "role": "coder", "task": "Fix it."}
    assert agent_permissions.refusal("orchestrator", "launch", given, SHIPPED) is None
    assert agent_permissions.refusal("coder", "ps", {}, SHIPPED) is None
    assert "may not use launch" in (agent_permissions.refusal("coder", "launch", given, SHIPPED) or "")


def test_an_agent_says_no_more_of_how_urgent_a_task_is_than_its_role_may() -> None:
    roles = Library({"lead": replace(role("lead"), urgency="high"), "late": replace(role("late"), urgency="low")})
    for name, wanted, got in (
        ("lead", "critical", "high"),
        ("lead", "low", "low"),
        ("late", "normal", "low"),
        ("nobody", "high", "normal"),
    ):
        assert agent_permissions.urgency(name, wanted, roles) == got  # type: ignore[arg-type]
    assert {each.urgency for each in SHIPPED} == {"normal"}


@pytest.mark.parametrize("name", [command.name for command in TABLE])
def test_a_role_that_names_every_command_gets_no_more_than_agents_may_have(name: str) -> None:
    greedy = Library({"greedy": role("greedy", *(command.name for command in TABLE))})
    allowed = agent_permissions.refusal("greedy", name, {}, greedy) is None
    assert allowed == (name in agent_permissions.MAY)
    command = TABLE.get(name)
    assert command is not None
    if allowed:
        assert command.permission < ADMIN
        # People are asked before it; the rules of a roster guard what an agent could break by it.
        assert not command.confirm or name == "remove"


@pytest.mark.parametrize("name", SHIPPED.names)
def test_what_a_roles_page_says_is_what_its_agents_are_offered_and_may_do(name: str) -> None:
    role = SHIPPED.get(name)
    assert role is not None
    page = roster_view.role_text(role)
    (line,) = [line for line in page.splitlines() if line.startswith("**Commands**: ")]
    said = re.findall(r"`([^`]+)`", line)
    assert list(role.commands) == said == roster_view.role_as_json(role)["commands"]
    offered = {tool.name for tool in tools_for(name, SHIPPED, TABLE)} - {tool.name for tool in COMMON}
    assert {each.replace(" ", "_").replace("-", "_") for each in said} == offered
    assert set(said) == {each.name for each in TABLE if agent_permissions.refusal(name, each.name, {}, SHIPPED) is None}


def test_what_a_page_names_and_no_agent_may_have_is_told_on_it() -> None:
    greedy = role("greedy", "ps", "kill", "approve", "no such")
    page = roster_view.role_text(greedy)
    assert "**Commands**: `ps`\n" in page
    assert "**No agent may have** `kill`, `approve`, `no such`" in page
    assert roster_view.role_as_json(greedy)["commands"] == ["ps"]


def test_an_orchestrator_adds_and_removes_agents_that_may_do_no_more_than_itself() -> None:
    assert agent_permissions.refusal("orchestrator", "add", {"name": "coder7", "role": "coder"}, SHIPPED) is None
    assert agent_permissions.refusal("orchestrator", "remove", {"name": "coder7"}, SHIPPED) is None
    for argument in ("sandbox", "workspace", "account", "persistent", "hosting", "instead_of"):
        assert argument in (
            agent_permissions.refusal("orchestrator", "add", {"name": "x", argument: "y"}, SHIPPED) or ""
        )
    assert "may not use remove" in (agent_permissions.refusal("coder", "remove", {"name": "x"}, SHIPPED) or "")
    roles = Library({"lead": role("lead", "add"), "boss": role("boss", "add", "stop")})
    assert "(stop)" in (agent_permissions.refusal("lead", "add", {"name": "x", "role": "boss"}, roles) or "")


@pytest.mark.parametrize(
    "name",
    [
        "approve",
        "deny",
        "grants",
        "grant revoke",
        "approvals rule add",
        "operators",
        "operator set",
        "kill",
        "retry",
        "audit",
        "watch",
    ],
)
def test_what_is_for_people_alone_is_in_nobodys_hands(name: str) -> None:
    assert TABLE.get(name) is not None
    assert name not in agent_permissions.MAY


@pytest.mark.parametrize("argument", ["sandbox", "workspace", "budget"])
def test_an_agent_chooses_no_sandbox_no_folder_and_no_budget(argument: str) -> None:
    assert argument in (
        agent_permissions.refusal("orchestrator", "launch", {"name": "x", argument: "y"}, SHIPPED) or ""
    )


def test_an_agent_launches_nobody_who_may_do_more_than_itself() -> None:
    roles = Library(
        {"lead": role("lead", "launch", "ps"), "boss": role("boss", "launch", "stop"), "hand": role("hand", "ps")}
    )
    assert "(stop)" in (agent_permissions.refusal("lead", "launch", {"name": "x", "role": "boss"}, roles) or "")
    assert agent_permissions.refusal("lead", "launch", {"name": "x", "role": "hand"}, roles) is None


def test_an_agent_of_a_role_that_nobody_knows_may_talk_and_nothing_else() -> None:
    assert tools_for("ghost", SHIPPED, TABLE) == COMMON
    assert "may not use ps" in (agent_permissions.refusal("ghost", "ps", {}, SHIPPED) or "")


def test_a_tool_is_offered_with_the_arguments_that_an_agent_may_give() -> None:
    launch = next(tool for tool in tools_for("orchestrator", SHIPPED, TABLE) if tool.name == "launch")
    assert set(launch.input_schema["properties"]) == {"name", "role", "runtime", "model", "task"}
    assert launch.input_schema["required"] == ["name"]
    assert not launch.queued
