"""The roster from the chat: looking at it, changing it, applying what changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bot.api_client import Client
from bot.auth.permission import ADMIN
from bot.commands.completion import at_prompt
from bot.commands.executor import RunOutcome, RunRequest
from bot.commands.sections import load
from bot.config.loader import check
from fleet import roles
from fleet.roster import loader
from fleet.supervision import host_lifecycle
from tests.bot.orchestrator import OPERATOR, ROOM, VIEWER, House, house

FLEET = """\
# mine
preset: coding
defaults: {runtime: sim, sandbox: none}
agents:
  - name: lead
    role: orchestrator
    persistent: true
  # mends
  - name: polisher
    role: enhancer
    persistent: true
  - {name: coder0, role: coder, alias: Ada, persistent: false}
"""


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, roster=FLEET) as made, made.open():
        yield made


async def command(home: House, command: str, **arguments: str) -> RunOutcome:
    """Run a command as a program does."""
    request = RunRequest(
        id=f"test-{home.orchestrator.services.clock()}",
        name=command,
        arguments=arguments,
        confirmed=True,
        identity="memory:@ana",
        permission=ADMIN,
        door="gateway",
    )
    return await home.orchestrator.executor.run(request)


def told(home: House, name: str) -> Mapping[str, Any]:
    """What the host of an agent was told at its last start."""
    found: dict[str, Any] = json.loads((home.paths.agent_folder(name) / host_lifecycle.SPEC).read_text())
    return found


def edit(home: House, before: str, after: str) -> None:
    text = home.paths.roster_yaml.read_text()
    assert before in text
    home.paths.roster_yaml.write_text(text.replace(before, after))


def names(home: House) -> list[str]:
    return [entry.name for entry in loader.load(home.paths.roster_yaml).agents]


# --- looking -----------------------------------------------------------------------------------------------------


async def test_everybody_may_look_at_the_roster_and_the_roles(home: House) -> None:
    text = await home.ask("!roster", sender=VIEWER)
    assert "3 agents, 2 of them persistent, preset coding" in text
    assert "| coder0 (Ada) | coder | sim | not launched |" in text
    assert "Not applied" in text  # lead and polisher never ran
    listed = await home.ask("!roles", sender=VIEWER)
    for role in roles.library():
        assert role.lens is not None or f"**{role.name}**" in listed
    shown = await home.ask("!roles Board-Technical", sender=VIEWER)
    assert "Your lens: technical" in shown
    assert "decides nothing" in shown
    assert "Did you mean 'coder'?" in await home.ask("!roles codr", sender=VIEWER)
    unknown = [await home.ask(line) for line in ("!roles wizard", "!launch x --role wizard", "!add x --role wizard")]
    there = [text[text.index("There are ") :].split(";")[0].split(".")[0] for text in unknown]
    assert "board, " in there[0]
    assert "board-technical" in there[0], "a lens is a role, too"
    assert len(set(there)) == 1
    complete = at_prompt(home.orchestrator.services)
    assert "lead" in await complete("!launch le"), "who is in the roster, and was not launched yet"
    assert await complete("!launch x --role orch") == ["orchestrator"]
    assert "board-contrarian" in await complete("!roles board-")
    assert await complete("!add x --sandbox ") == ["bubblewrap", "none"]
    assert "grants" in await complete("!help gr")
    assert await complete("!approve ") == []


async def test_the_shape_for_programs(home: House) -> None:
    found = (await command(home, "roster")).data
    assert (found["valid"], found["preset"], found["problems"], found["not_in_effect"]) == (True, "coding", [], [])
    lead, _, coder = found["agents"]
    assert (lead["name"], lead["persistent"], lead["state"]) == ("lead", True, None)
    assert (coder["alias"], coder["role"], coder["runtime"], coder["env"]) == ("Ada", "coder", "sim", [])
    assert found["drift"] == [
        {"agent": "lead", "kind": "start", "differences": []},
        {"agent": "polisher", "kind": "start", "differences": []},
    ]
    listed = (await command(home, "roles")).data
    assert {role["name"] for role in listed} >= {"orchestrator", "board-contrarian"}
    assert set(listed[0]) == {"name", "title", "mandate", "limits", "commands", "lens", "lenses", "shipped"}


async def test_what_does_nothing_yet_and_what_is_wrong_is_said(home: House) -> None:
    edit(home, "role: coder,", "role: codr, ssh: m,")
    text = await home.ask("!roster")
    assert "no role is called 'codr'. Did you mean 'coder'?" in text
    assert "ssh: not in effect in this version" in text
    refused = await home.ask("!roster apply")
    assert "not applied until this is fixed" in refused
    assert "roster.yaml:12:" in refused
    assert await home.known("lead") is None
    edit(home, "role: orchestrator", "role: coder")
    assert "like `!add lead --role orchestrator`, or write" in await home.ask("!roster")
    home.paths.roster_yaml.write_text("agents: [\n")
    unreadable = await home.ask("!roster")
    assert "roster.yaml:2:1" in unreadable
    assert "cannot be read" in unreadable
    assert "empty" not in unreadable


def test_roles_may_use_only_commands_that_there_are() -> None:
    table = load()
    for role in roles.library():
        assert [name for name in role.commands if name not in table] == []


# --- adding and removing -----------------------------------------------------------------------------------------


async def test_an_agent_is_added_once_and_not_started(home: House) -> None:
    answer = await home.ask('!add coder1 --role coder --alias Grace --model m --prompt "Be brief."', sender=OPERATOR)
    assert "coder1 (coder) is in the roster" in answer
    entry = loader.load(home.paths.roster_yaml).get("coder1")
    assert entry is not None
    assert (entry.alias, entry.model, entry.prompt, entry.runtime) == ("Grace", "m", "Be brief.", "sim")
    assert "# mends" in home.paths.roster_yaml.read_text()
    assert await home.known("coder1") is None
    assert "already; nothing was changed" in await home.ask("!add coder1 --role coder --alias Grace")
    assert "already, with alias Grace" in await home.ask("!add coder1 --alias Joan")
    assert names(home) == ["lead", "polisher", "coder0", "coder1"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("boss --role orchestrator", "lead is the orchestrator"),
        ("coder1 --role tester", "no role is called 'tester'"),
        ("coder1 --alias ada", "is what coder0 is called"),
        ("coder1 --runtime cladue", "Did you mean 'claude'"),
        ("coder1 --runtime custom", "needs a command line"),
        ("coder1 --account other", "No account is called 'other'. There is sim."),
        ("coder1 --instead-of nobody", "called 'nobody'"),
    ],
)
async def test_what_cannot_be_added_is_refused_with_the_reason(home: House, line: str, said: str) -> None:
    before = home.paths.roster_yaml.read_text()
    assert said in await home.ask(f"!add {line}")
    assert home.paths.roster_yaml.read_text() == before


async def test_only_an_admin_adds_an_agent_without_a_sandbox_or_with_a_folder(home: House, tmp_path: Path) -> None:
    for option in ("--sandbox none", f"--workspace {tmp_path}"):
        assert "only an admin" in await home.ask(f"!add coder1 {option}", sender=OPERATOR)
        assert "only an admin" not in await home.ask(f"!add coder1 {option}")
        await remove(home, "coder1")
    assert "Did you mean 'bubblewrap'?" in await home.ask("!add coder1 --sandbox bublewrap")
    assert names(home) == ["lead", "polisher", "coder0"]


async def remove(home: House, name: str) -> str:
    """Remove an agent without being asked again. Returns the answer."""
    return (await command(home, "remove", name=name)).text


async def test_removing_asks_first(home: House) -> None:
    event = home.chat.post("!remove coder0", sender=OPERATOR, conversation=ROOM)
    question = await home.reply(event)
    assert "coder0" in names(home)
    home.chat.react(question.event_id, "✅", sender=OPERATOR)
    await home.heard(ROOM, "coder0 is no longer in the roster.")
    assert names(home) == ["lead", "polisher"]


async def test_a_removed_agent_leaves_the_roster_and_stops(home: House) -> None:
    thread = await home.launch("coder0")
    answer = await remove(home, "coder0")
    assert "no longer in the roster. coder0 stops" in answer
    await home.heard(thread, "Stopped")
    assert names(home) == ["lead", "polisher"]
    assert home.paths.workspace("coder0").exists()
    assert "was not in the roster" in await remove(home, "coder0")
    assert "No agent of the roster is called 'coder7'" in await remove(home, "coder7")


@pytest.mark.parametrize(
    ("name", "said"),
    [("lead", "only orchestrator"), pytest.param("polisher", "Add another first", marks=pytest.mark.slow)],
)
async def test_the_sole_orchestrator_and_enhancer_stay(home: House, name: str, said: str) -> None:
    await home.launch(name)
    assert said in await remove(home, name)
    assert name in names(home)
    row = await home.known(name)
    assert row is not None
    assert row.wanted == "running"


async def test_another_orchestrator_takes_the_place_of_the_first(home: House) -> None:
    thread = await home.launch("lead")
    answer = await home.ask("!add boss --role orchestrator --persistent --instead-of lead")
    assert "lead is no longer in it. lead stops" in answer
    await home.heard(thread, "Stopped")
    assert names(home) == ["polisher", "coder0", "boss"]


# --- applying ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_applying_launches_restarts_and_stops_and_then_nothing(home: House) -> None:
    await home.ask("!launch coder0")
    await home.heard(await home.thread("coder0"), "Ready")
    await home.ask("!add coder1 --role coder")
    await home.ask("!launch coder1")
    gone = await home.thread("coder1")
    await home.heard(gone, "Ready")
    first = told(home, "coder0")["launch_id"]

    edit(home, "alias: Ada,", "alias: Ada, model: large,")
    text = home.paths.roster_yaml.read_text()
    home.paths.roster_yaml.write_text(text[: text.index("  - name: coder1")])
    shown = await home.ask("!roster")
    assert "**coder0** has model `large`: it restarts" in shown
    assert "**coder1** is not in the roster: it stops" in shown
    assert told(home, "coder0")["launch_id"] == first, "nothing happens before it is applied"

    answer = await home.ask("!roster apply", sender=OPERATOR)
    for words in (
        "**lead** is persistent",
        "**polisher** is persistent",
        "has model `large`. It restarts now",
        "coder1 stops",
    ):
        assert words in answer
    for name in ("lead", "polisher"):
        await home.heard(await home.thread(name), "Ready")
    await home.heard(gone, "Stopped")
    await home.chat.until(lambda: told(home, "coder0")["launch_id"] != first, limit=30)
    assert told(home, "coder0")["model"] == "large"
    assert await home.ask("!roster apply") == "The fleet is as the roster says; nothing was changed."
    assert (await command(home, "roster")).data["drift"] == []


@pytest.mark.slow
async def test_what_cannot_be_applied_leaves_its_agent_running_and_the_rest_is_done(home: House) -> None:
    await home.launch("coder0")
    edit(home, "alias: Ada,", "alias: Ada, workspace: ~/not-there,")
    answer = await home.ask("!roster apply")
    assert "✖ It stays as it is: The workspace" in answer
    row = await home.known("coder0")
    assert row is not None
    assert (row.wanted, row.state) == ("running", "idle")
    assert await home.known("lead") is not None


@pytest.mark.slow
async def test_whom_somebody_stopped_applying_leaves_stopped(home: House) -> None:
    thread = await home.launch("lead")
    await home.ask("!stop lead")
    await home.heard(thread, "Stopped")
    edit(home, "role: orchestrator", "role: orchestrator\n    model: large")
    assert "lead" not in await home.ask("!roster apply")
    row = await home.known("lead")
    assert row is not None
    assert row.wanted == "stopped"


@pytest.mark.slow
async def test_a_persona_is_shown_beside_the_name_that_commands_take(home: House) -> None:
    thread = await home.launch("coder0")
    assert any("**Ada** (coder0) · coder" in text for text in home.chat.texts(thread) + home.chat.texts(ROOM))
    await home.orchestrator.lookout.look()
    assert "| coder0 (Ada) |" in await home.ask("!ps")
    aliases = {each["name"]: each["alias"] for each in (await command(home, "ps")).data if each["alias"]}
    assert aliases == {"coder0": "Ada"}


async def test_an_agent_hears_the_page_of_its_role(home: House) -> None:
    await home.launch("lead")
    assert told(home, "lead")["instructions"].startswith('<role name="orchestrator">\nYou are the orchestrator')
    (home.paths.roles).mkdir()
    (home.paths.roles / "coder.md").write_text("---\nmandate: Mine.\n---\nYou are mine.\n")
    await home.launch("coder0")
    assert told(home, "coder0")["instructions"].startswith('<role name="coder">\nYou are mine.\n</role>')


async def test_programs_and_watchers_are_told_which_account_an_agent_is_on(home: House) -> None:
    await home.launch("coder0")
    client = Client(home.paths.gateway_socket)
    listed = (await asyncio.to_thread(client.run, "ps", {"all": True})).body["data"]
    on = {each["name"]: each["accounts"] for each in listed}
    assert on == {"coder0": {"anthropic": "sim"}, **{name: {} for name in on.keys() - {"coder0"}}}
    assert "· account sim" in await home.ask("!watch coder0")


WORKSHOP = "workshop"


@pytest.mark.slow
async def test_whom_nobody_launches_from_a_room_gets_its_thread_in_its_own(home: House) -> None:
    edit(home, "role: orchestrator", f"role: orchestrator\n    room: memory:{WORKSHOP}")
    edit(home, "alias: Ada,", f"alias: Ada, room: memory:{WORKSHOP},")
    edit(home, "role: enhancer\n    persistent: true", "role: enhancer\n    persistent: false")
    await home.ask("!roster apply")
    assert (await home.row("lead")).room == WORKSHOP
    await home.heard(await home.thread("lead"), "Ready")
    assert any("lead" in text for text in home.chat.texts(WORKSHOP))
    assert (await command(home, "launch", name="coder0")).state == "done"
    assert (await home.row("coder0")).room == WORKSHOP
    await home.heard(await home.thread("coder0"), "Ready")
    await home.ask("!stop coder0")
    await home.heard(await home.thread("coder0"), "Stopped")
    await home.ask("!launch coder0")
    assert (await home.row("coder0")).room == ROOM, "somebody wants it here"


async def test_a_room_of_a_connector_that_there_is_not_is_told(home: House) -> None:
    edit(home, "alias: Ada,", "alias: Ada, room: 'memry:workshop',")
    found = [str(problem) for problem in check(home.paths).problems]
    assert any("agents[coder0].room: no connector is called 'memry'." in each for each in found), found
    outcome = await command(home, "launch", name="coder0")
    assert outcome.state == "refused"
    assert "no connector is called 'memry'" in outcome.text
    assert await home.known("coder0") is None
