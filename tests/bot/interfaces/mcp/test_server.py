"""Agents and Muster's own tools: what an orchestrator does with them, what it may not, and what agents say to one
another. Real agent hosts, the bridge, the protocol; only chat and model are Muster's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bot.agents.journal import tool_calls as calls
from bot.commands.executor import FINISH
from database.queries.agents import tool_calls
from database.queries.operations import audit_log, command_runs
from fleet.journal import reader
from fleet.journal.events import JournalPosition, ToolAsked, TurnStarted
from fleet.sandbox import selection
from tests.bot.orchestrator import ROOM, House

pytestmark = pytest.mark.timeout(300)

needs_sandbox = pytest.mark.skipif(not selection.available().works, reason="bubblewrap does not work here")


def order(tool: str, **arguments: object) -> str:
    """What makes the model call a tool of Muster's."""
    return f"[[tool: mcp__muster__{tool} {json.dumps(arguments)}]]"


async def launch(home: House, name: str, *options: str) -> str:
    """Launch an agent in a sandbox; its thread."""
    await home.ask(" ".join(["!launch", name, "--runtime", "sim", *options]))
    thread = await home.thread(name)
    await home.heard(thread, "Ready", limit=60)
    return thread


@needs_sandbox
async def test_an_orchestrator_composes_its_fleet(home: House) -> None:
    async with home.open() as orchestrator:
        boss = await launch(home, "boss", "--role", "orchestrator")

        task = f"{order('send_message', to='boss', text='The parser is fixed.')} [[say: done]]"
        home.say(order("launch", name="coder1", role="coder", runtime="sim", task=task), boss)
        await home.heard(boss, "coder1 (coder, sim) starts")
        coder = await home.thread("coder1")
        await home.heard(coder, "done", limit=60)
        # Its report reached the orchestrator as a message of its own, and the room saw a line of it.
        await home.heard(ROOM, "**coder1** → **boss** `The parser is fixed.`")
        await home.heard(boss, "The parser is fixed.")

        home.say(order("stop", name="coder1"), boss)
        await home.heard(coder, "Stopped", limit=60)

        async with orchestrator.store.read() as tx:
            lines = await audit_log.since(tx, 0, limit=50)
        done = {(line.identity, line.action, line.outcome) for line in lines if line.door == "tools"}
        assert done >= {
            ("agent:boss", "launch", "done"),
            ("agent:coder1", "send_message", "done"),
            ("agent:boss", "stop", "done"),
        }


@needs_sandbox
async def test_a_task_that_an_agent_gives_one_that_runs_goes_there_as_a_message(home: House) -> None:
    async with home.open():
        boss = await launch(home, "boss", "--role", "orchestrator")
        coder = await launch(home, "coder1")
        home.say(order("launch", name="coder1", task="[[say: the lane is mine]]"), boss)
        await home.heard(boss, "Its task: Sent to coder1")
        await home.heard(coder, "the lane is mine")


@needs_sandbox
async def test_an_orchestrator_adds_and_removes_agents_within_the_rules_of_the_roster(home: House) -> None:
    home.paths.roster_yaml.write_text(
        "defaults: {runtime: sim}\nagents: [{name: boss, role: orchestrator}, {name: polisher, role: enhancer}]\n"
    )
    async with home.open():
        boss = await launch(home, "boss")
        home.say(order("add", name="coder7", role="coder"), boss)
        await home.heard(boss, "coder7 (coder) is in the roster")
        assert "coder7" in home.paths.roster_yaml.read_text()
        home.say(order("remove", name="coder7"), boss)
        await home.heard(boss, "coder7 is no longer in the roster")
        assert "coder7" not in home.paths.roster_yaml.read_text()
        home.say(order("remove", name="boss"), boss)
        await home.heard(boss, "boss is the only orchestrator")
        home.say(order("remove", name="polisher"), boss)
        await home.heard(boss, "polisher is the only enhancer")
        home.say(order("add", name="second", role="orchestrator"), boss)
        await home.heard(boss, "boss is the orchestrator")


@pytest.mark.slow
@needs_sandbox
async def test_an_orchestrator_is_refused_what_it_may_not(home: House) -> None:
    home.paths.roster_yaml.write_text(
        "version: 1\nagents:\n  - name: loose\n    role: coder\n    runtime: sim\n    sandbox: none\n"
    )
    (home.paths.roles).mkdir()
    (home.paths.roles / "greedy.md").write_text(
        "---\nmandate: Wants all.\ncommands: [launch, approve, deny, grants, operators, operator set, kill, retry]\n"
        "---\nAll.\n"
    )
    async with home.open():
        boss = await launch(home, "boss", "--role", "greedy")
        for asked, answer in (
            (order("launch", name="x1", runtime="sim", sandbox="none"), "may not give launch the argument sandbox"),
            (
                order("launch", name="x1", runtime="sim", workspace="/root"),
                "may not give launch the argument workspace",
            ),
            (order("launch", name="x1", runtime="sim", role="orchestrator"), "could do what you may not"),
            (order("launch", name="loose"), "without a sandbox"),
        ):
            home.say(asked, boss)
            await home.heard(boss, answer)
        for tool in ("approve", "deny", "grants", "operators", "operator_set", "kill", "retry"):
            home.say(order(tool), boss)
            await home.heard(boss, f"I would call mcp__muster__{tool}")
        assert await home.known("x1") is None
        assert await home.known("loose") is None


@pytest.mark.slow
async def test_what_an_agent_reports_while_muster_is_away_is_told_once_when_it_is_back(home: House) -> None:
    async with home.open():
        ana = await home.launch("ana0")
        home.say('[[wait: away]] [[tool: report {"text": "All is done."}]] [[say: told]]', ana)
        await home.chat.until(lambda: of_kind(home, "ana0", TurnStarted), limit=30)
    home.models.release("away")
    await home.chat.until(lambda: of_kind(home, "ana0", ToolAsked), limit=60)
    for _ in range(2):
        async with home.open() as orchestrator:
            await home.heard(ana, "told", limit=60)
            await orchestrator.quiet()
    assert [text for text in home.chat.texts(ana) if "📣" in text] == ["📣 All is done."]


@pytest.mark.slow
async def test_what_an_agent_does_not_wait_for_any_more_is_not_done(home: House) -> None:
    async with home.open() as orchestrator:
        boss = await home.launch("boss", "--role", "orchestrator")
        await home.launch("ana0")
        # As if the journal had been read late: the agent host knows of no such call, or was told that it is over.
        call = calls.call_of("boss", ToolAsked(call="1-99", turn=None, tool="stop", arguments={"name": "ana0"}), 1.0)
        async with orchestrator.store.write(FINISH) as tx:
            await tool_calls.add(tx, call)
        home.say(order("peers"), boss)
        await home.heard(boss, "You are [", limit=60)
        async with orchestrator.store.read() as tx:
            assert await tool_calls.open_calls(tx) == []
            assert await command_runs.get(tx, call.id) is None
        row = await home.known("ana0")
        assert row is not None
        assert row.wanted == "running"


def of_kind(home: House, name: str, kind: type[Any]) -> list[Any]:
    entries = reader.read(home.paths.agent_folder(name), JournalPosition(), 1000)
    return [entry.event for entry in entries if isinstance(entry.event, kind)]
