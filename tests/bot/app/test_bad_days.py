"""What an operator notices when people write nonsense, disks are full, and processes die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from database import schema
from fleet.supervision.restart_policy import RestartLimits
from tests.bot.fake_agents import launch, recorded, roster, steps
from tests.bot.orchestrator import OPERATOR, ROOM, STRANGER, VIEWER, House, house


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, roster=roster(tmp_path, "imp", "elf")) as made, made.open():
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("house")
    async with house(folder, roster=roster(folder, "imp")) as made, made.open():
        await launch(made, "imp")
        yield made


# --- words that mean nothing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("!", "help"),
        ("!lunch coder0", "!launch"),
        ("!launch", "NAME"),
        ("!launch 0coder", "0coder"),
        ("!launch -x", "-x"),
        ("!launch coder0 --runtime", "--runtime"),
        ("!launch coder0 --runtime clade", "claude"),
        ("!launch coder0 --nonsense 1", "--nonsense"),
        ("!launch coder0 extra", "extra"),
        ("!launch coder0 --sandbox paper", "paper"),
        ("!launch coder0 --workspace relative/path --sandbox none", "absolute"),
        ("!launch coder0 --workspace /not/there --sandbox none", "no folder"),
        ('!launch coder0 --role "Big Boss" --runtime sim --sandbox none', "Big Boss"),
        ("!launch coder0 --runtime custom --sandbox none", "command"),
        ("!stop nobody", "no agent is called"),
        ("!tail imp nine", "nine"),
        ("!tail imp 100000", "200"),
        ("!send imp", "TEXT"),
        ('!stop "half a quote', "quot"),
        ("!approve ffff", "Nothing waits"),
        ("!retry nothing", "failed message"),
        ("!grant revoke gnothing", "grants"),
        ("!operator set memory:@x king", "king"),
        ("!audit --since yesterday-ish", "yesterday-ish"),
        ("!confirm", "Nothing of yours"),
        ("!confirm nothing", "Nothing waits"),
        ("!help nonsense", "nonsense"),
        ("!\x1b[2J\u202e", "help"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_each_wrong_line_gets_one_sentence_that_helps(shared: House, line: str, answer: str) -> None:
    reply = await shared.ask(line)
    assert answer.casefold() in reply.casefold()
    assert "Traceback" not in reply
    assert "fault in Muster" not in reply
    assert "internal error" not in reply
    assert "\x1b" not in reply
    assert len(reply) < 1500


@pytest.mark.asyncio(loop_scope="module")
async def test_wrong_lines_start_nothing(shared: House) -> None:
    for line in ('!launch coder0 --role "Big Boss" --runtime sim --sandbox none', "!launch coder0 --sandbox paper"):
        await shared.ask(line)
    assert "coder0" not in await shared.ask("!ps --all")


# --- strangers and large things ---------------------------------------------------------------------------------


async def rows(home: House, table: str) -> int:
    async with home.orchestrator.store.read() as tx:
        return await tx.scalar(select(func.count()).select_from(getattr(schema, table))) or 0


@pytest.mark.slow
async def test_thousands_of_messages_of_hundreds_of_strangers_cost_a_line_each_and_little_room(home: House) -> None:
    people = [f"@stan{number}" for number in range(150)]
    for _ in range(8):
        for person in people:
            home.chat.post("!launch evil " + "x" * 1000, sender=person)
    for _ in range(300):
        home.chat.post("!ps", sender=people[0])
    assert "No agent runs" in await home.ask("!ps")
    await home.orchestrator.quiet()
    lines = [text for text in home.chat.texts() if "Only operators can command this fleet" in text]
    assert len(lines) == len(people)
    assert await rows(home, "strangers") == len(people)
    assert await rows(home, "audit") <= 8 * len(people) + 20
    async with home.orchestrator.store.read() as tx:
        kept = await tx.scalar(select(func.count()).where(schema.inbox.c.body.is_not(None)))
        longest = await tx.scalar(select(func.max(func.length(schema.strangers.c.last_text))))
    assert (kept or 0) <= 2
    assert (longest or 0) <= 200


async def test_strangers_reactions_edits_and_confirmations_do_nothing(home: House) -> None:
    thread = await launch(home, "imp")
    event = home.say(steps({"ask": {"title": "t", "rawInput": {"command": "c"}}}), thread)
    question = await home.heard(thread, "asks for permission")
    asked = next(said for said in home.chat.messages(thread) if said.text == question)
    kill = await home.reply(home.chat.post("!kill imp"))
    for target, place in ((asked.event_id, thread), (kill.event_id, ROOM)):
        home.chat.react(target, "✅", sender=STRANGER, conversation=place)
        home.chat.edit(target, "!ps", sender=STRANGER, conversation=place)
        home.chat.redact(target, sender=STRANGER, conversation=place)
    home.chat.post("!confirm", sender=STRANGER)
    home.chat.redact(event, sender=STRANGER, conversation=thread)
    await home.heard(ROOM, "Only operators can command this fleet")
    async with asyncio.timeout(30):
        while "waiting" not in await home.ask("!ps"):
            pass  # the agent host reports its state after the request
    assert "Nothing waits" not in await home.ask("!approvals")


async def test_a_message_of_100_kilobytes_is_answered_or_passed_on_whole(home: House) -> None:
    thread = await launch(home, "imp")
    long = "word " * 20_000
    await home.marks(home.say(long[:100_000], thread), "✅")
    assert recorded(home.paths.config, "imp")[-1]["prompt"] == long[:100_000]
    event = home.say(long + "!", thread)
    assert "100,001 characters" in (await home.reply(event)).text
    for line in ("!" + "x" * 100_000, "!launch " + "y" * 100_000, "!" + "ps " * 33_000, '!launch "' + "\\" * 100_000):
        reply = await home.ask(line)
        assert len(reply) < 3000
    assert "Queued" in await home.ask("!send imp " + long)


async def test_control_characters_reach_the_agent_and_nothing_else(home: House) -> None:
    thread = await launch(home, "imp")
    evil = "tab\t esc\x1b[31m bell\x07 bidi\u202e nul\x00 half\ud800 end"
    await home.marks(home.say(evil, thread), "✅")
    given = recorded(home.paths.config, "imp")[-1]["prompt"]
    assert given == evil.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    answer = await home.heard(thread, "heard:")
    assert not set("\x1b\x07\u202e\x00\ud800") & set(answer)
    assert "idle" in await home.ask("!ps")
    reply = await home.ask(f"!stop {evil}")
    assert not set("\x1b\x07\u202e\x00\ud800") & set(reply)


# --- who may what -----------------------------------------------------------------------------------------------


async def test_an_agent_without_a_sandbox_is_an_admins_and_said_to_be_one(home: House) -> None:
    for person in (OPERATOR, VIEWER):
        refusal = await home.ask("!launch coder0 --runtime sim --sandbox none", sender=person)
        assert "admin" in refusal or "operator" in refusal
    assert "coder0" not in await home.ask("!ps --all")
    answer = await home.ask("!launch coder0 --runtime sim --sandbox none")
    assert "without a sandbox" in answer
    assert "Without a sandbox" in await home.ask("!ps", sender=VIEWER)
    await home.heard(ROOM, "without a sandbox")
    await home.heard(await home.thread("coder0"), "Ready")


async def test_the_audit_has_who_where_what_and_the_result_of_each_command_once(home: House) -> None:
    await home.ask("!launch imp", sender=OPERATOR)
    await home.heard(await home.thread("imp"), "Ready")
    await home.ask("!stop nobody", sender=OPERATOR)
    await home.ask("!launch coder0 --sandbox none", sender=VIEWER)
    event = home.chat.post("!kill imp", sender=OPERATOR)
    home.chat.react((await home.reply(event)).event_id, "✅", sender=OPERATOR)
    await home.heard(ROOM, "is killed")
    async with home.orchestrator.store.read() as tx:
        found = (await tx.execute(select(schema.audit).order_by(schema.audit.c.seq))).all()
    # What the egress did for a command has rows of its own.
    by_door = [row for row in found if row.door != "egress"]
    brief = [(row.identity, row.connector, row.conversation, row.action, row.outcome) for row in by_door]
    assert brief == [
        ("memory:@otto", "memory", ROOM, "launch", "done"),
        ("memory:@otto", "memory", ROOM, "stop", "refused"),
        ("memory:@vera", "memory", ROOM, "launch", "refused"),
        ("memory:@otto", "memory", ROOM, "kill", "done"),
    ]


@pytest.mark.slow
async def test_discarding_deletes_only_what_muster_made(home: House, tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "work").write_text("dear")
    await home.launch("coder0", "--workspace", str(own))
    await home.launch("coder1")
    made = home.paths.workspace("coder1")
    (made / "kept").mkdir()
    (made / "kept" / "link").symlink_to(own)
    for name, words in (("coder0", "delete it yourself"), ("coder1", "is deleted")):
        event = home.chat.post(f"!kill {name} --discard")
        home.chat.react((await home.reply(event)).event_id, "✅")
        await home.heard(ROOM, words)
    assert (own / "work").read_text() == "dear"
    assert not made.exists()


async def test_an_agent_that_cannot_be_started_says_so_in_its_thread(tmp_path: Path) -> None:
    broken = (
        "version: 1\nagents:\n"
        "  - {name: secretive, runtime: sim, sandbox: none, env: {THING: 'env:NOT_SET_ANYWHERE'}}\n"
        "  - {name: absent, runtime: custom, sandbox: none, command: [/bin/sh, -c, exec /not/there/agent]}\n"
    )
    async with house(tmp_path, roster=broken) as home, home.open():
        home.orchestrator.agents.context.limits = RestartLimits(falls=1)
        home.paths.workspaces.mkdir(exist_ok=True)
        home.paths.workspace("blocked").write_text("a file")
        await home.ask("!launch blocked --runtime sim --sandbox none")
        await home.ask("!launch secretive")
        await home.ask("!launch absent")
        for name, words in (("blocked", "blocked"), ("secretive", "NOT_SET_ANYWHERE"), ("absent", "/not/there/agent")):
            thread = await home.thread(name)
            assert words in await home.heard(thread, "✖")
        assert (await home.ask("!ps")).count("failed") == 3


@pytest.mark.slow
async def test_a_roster_that_cannot_be_written_is_said_and_the_agent_runs(home: House) -> None:
    home.paths.roster_yaml.with_name("roster.yaml.bak").mkdir()
    (home.paths.roster_yaml.with_name("roster.yaml.bak") / "x").mkdir()
    answer = await home.ask("!launch coder0 --runtime sim --sandbox none")
    assert "could not be added to the roster" in answer
    await home.heard(await home.thread("coder0"), "Ready")


async def test_a_roster_that_is_broken_meanwhile_refuses_with_file_and_line(home: House) -> None:
    home.paths.roster_yaml.write_text("version: 1\nagents:\n  - name: [\n")
    assert "roster.yaml:" in await home.ask("!launch coder0 --runtime sim --sandbox none")
    assert "No agent runs" in await home.ask("!ps --all")
