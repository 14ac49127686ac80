"""Who may launch what, where."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.auth import permission
from bot.commands.runs import RunOutcome, RunRequest
from fleet.runtimes import RUNTIMES
from tests.bot.orchestrator import ADMIN, OPERATOR, House, house


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "project").mkdir()
    roster = f"agents:\n  - name: placed\n    runtime: sim\n    workspace: {tmp_path / 'project'}\n"
    async with house(tmp_path / "muster", roster=roster) as made, made.open():
        yield made


async def test_only_an_admin_opens_a_folder_of_the_persons_to_an_agent(home: House, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    assert "only an admin" in await home.ask(f"!launch spy --runtime sim --workspace {keys}", sender=OPERATOR)
    (tmp_path / "project" / "way-out").symlink_to(keys)
    way_out = tmp_path / "project" / "way-out"
    assert "only an admin" in await home.ask(f"!launch placed --workspace {way_out}", sender=OPERATOR)
    assert "No agent runs" in await home.ask("!ps")
    project = tmp_path / "project"
    assert "needs a command line" in await home.ask(
        f"!launch placed --workspace {project} --runtime custom", sender=OPERATOR
    )


@pytest.mark.slow
async def test_of_a_runtime_that_never_asks_launch_and_ps_say_so(
    home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pi-acp", "pi"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(RUNTIMES, "pi", replace(RUNTIMES["pi"], asks=False))
    said = await home.ask("!launch bold --runtime pi --sandbox none")
    assert "pi never asks for permission: nothing else holds it" in said
    await home.launch("meek")
    listed = await home.ask("!ps")
    assert "Never asking for permission, since their runtime cannot: bold." in listed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--runtime codex --sandbox none", "npm install -g @agentclientprotocol/codex-acp"),
        ("--runtime pi --sandbox none", "npm install -g pi-acp"),
        ("--runtime sim", "the package bubblewrap"),
    ],
)
async def test_what_is_not_installed_is_refused_at_once_with_how_to_install_it(
    home: House, monkeypatch: pytest.MonkeyPatch, options: str, words: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert words in await home.ask(f"!launch coder0 {options}")
    assert "coder0" not in await home.ask("!ps --all")
    assert "coder0" not in home.paths.roster_yaml.read_text()


async def test_a_command_of_ones_own_that_is_not_there_is_refused_at_once(home: House) -> None:
    roster = "agents:\n  - {name: absent, runtime: custom, sandbox: none, command: [/not/there/agent]}\n"
    home.paths.roster_yaml.write_text(roster)
    assert "no program /not/there/agent" in await home.ask("!launch absent")
    assert "No agent runs" in await home.ask("!ps --all")


async def test_a_launch_cannot_break_the_rules_of_a_fleet(home: House) -> None:
    home.paths.roster_yaml.write_text(
        "defaults: {runtime: sim, sandbox: none}\n"
        "agents: [{name: lead, role: orchestrator}, {name: polisher, role: enhancer}]\n"
    )
    assert (await home.ask("!launch x --role codr")).startswith("No role is called 'codr'. Did you mean 'coder'?")
    for name in ("boss", "polisher"):
        assert "lead is the orchestrator" in await home.ask(f"!launch {name} --role orchestrator")
    assert "No agent runs" in await home.ask("!ps --all")
    assert "starts in its thread" in await home.ask("!launch mender --role enhancer")


async def test_an_agent_of_another_machine_does_not_run_here(home: House) -> None:
    await home.launch("moved")
    home.paths.roster_yaml.write_text(
        "defaults: {runtime: sim, sandbox: none}\n"
        "agents:\n  - {name: far, host: build1.example.org}\n  - {name: moved, ssh: ana@build2}\n"
    )
    said = await home.ask("!launch far")
    assert "roster.yaml:3:17: agents[far].host: build1.example.org is another machine" in said
    assert await home.known("far") is None
    assert "agents[moved].ssh: ana@build2 is another machine" in await home.ask("!restart moved")
    assert "build1.example.org is another machine" in await home.ask("!roster apply")
    home.paths.roster_yaml.write_text("defaults: {host: build1, runtime: sim, sandbox: none}\nagents: []\n")
    assert "defaults.host: build1 is another machine" in await home.ask("!launch new")
    assert await home.known("new") is None


async def test_a_roster_from_before_the_rules_goes_on(home: House) -> None:
    home.paths.roster_yaml.write_text("agents: [{name: old, role: tester, runtime: sim, sandbox: none}]\n")
    assert "starts in its thread" in await home.ask("!launch old")
    assert "starts in its thread" in await home.ask("!launch new --runtime sim --sandbox none")
    shown = await home.ask("!roster")
    assert "no agent has the role orchestrator" in shown
    assert "| new | coder |" in shown


async def test_a_task_for_an_agent_that_runs_goes_to_it_as_a_message(home: House) -> None:
    thread = await home.launch("coder0")
    said = await home.ask("!launch coder0 --task '[[say: the parser is mended]]'")
    assert said.startswith("coder0 runs already")
    assert "message. Queued for coder0." in said
    await home.heard(thread, "the parser is mended")
    outcome = await run(home, "launch", name="coder0", task="[[say: so is the lexer]]")
    assert (outcome.data["id"], outcome.data["state"]) == (outcome.run_id, "pending")
    await home.heard(thread, "so is the lexer")
    assert "message" not in await home.ask("!launch coder0 --model other")


async def test_a_prompt_for_an_agent_that_is_not_frozen_goes_to_it_as_a_message(home: House) -> None:
    thread = await home.launch("coder0")
    assert "not frozen" in await home.ask("!resume coder0 --prompt '[[say: awake already]]'")
    await home.heard(thread, "awake already")


async def run(home: House, command: str, **arguments: str) -> RunOutcome:
    """Run a command as a program on the gateway does."""
    request = RunRequest(
        id=f"run-{command}",
        name=command,
        arguments=arguments,
        identity=f"memory:{ADMIN}",
        permission=permission.ADMIN,
        door="gateway",
    )
    return await home.orchestrator.executor.run(request)
