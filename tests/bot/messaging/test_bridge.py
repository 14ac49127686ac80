"""Two chat systems in one fleet: what stands in both, and what becomes of it in one when it is answered in another."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from bot.messaging import rooms
from bot.messaging.bridge import Bridge, original
from bot.messaging.composer import MessagePlace
from bot.messaging.mirror_inbound import quoted
from connectors.contract.messages import Attachment, OpenThread
from connectors.memory import MemoryServer
from core.crash_points import declare
from database.queries.operations import audit_log
from database.schema import command_runs
from tests.bot.orchestrator import ROOM, House, house

TELL = declare("tests.bridge")
HALL = "hall"
BOB = "@bob"


@contextlib.asynccontextmanager
async def twin(folder: Path, *, bridge: bool = True, settings: str = "") -> AsyncIterator[tuple[House, MemoryServer]]:
    """A house with a second chat system, `east`, whose main room is HALL."""
    async with house(folder, settings=settings) as home:
        written = home.paths.muster_yaml.read_text()
        blocks = f"memory: {{fleet_room: {ROOM}}}\n  east: {{kind: memory, fleet_room: {HALL}, bridge: {bridge}}}"
        written = written.replace("memory: {}", blocks)
        people = f"people: {{Bob: ['east:{BOB}', 'memory:{BOB}']}}\n"
        written = written.replace("operators:\n", f"{people}operators:\n  east:{BOB}: admin\n")
        home.paths.muster_yaml.write_text(written)
        east = MemoryServer()
        home.others["east"] = east
        yield home, east


async def until(server: MemoryServer, conversation: str, words: str) -> str:
    """What the bot says there that holds `words`."""
    await server.until(lambda: [text for text in server.texts(conversation) if words in text], limit=30)
    return next(text for text in server.texts(conversation) if words in text)


def event_of(server: MemoryServer, conversation: str, words: str) -> str:
    return next(said.event_id for said in server.messages(conversation) if words in said.text)


def test_a_copy_is_found_by_what_it_is_a_copy_of() -> None:
    room, hall = MessagePlace("memory", conversation=ROOM), MessagePlace("east", conversation=HALL)
    bridge = Bridge(rooms=(room, hall), connectors=("memory", "east", "west"))
    thread = MessagePlace("memory", thread_of="launch/1")
    assert bridge.spread("k", room) == (("k", room), ("k@east", hall))
    assert bridge.spread("k", thread) == (("k", thread),)
    assert bridge.standing("k", thread) == (("k", thread), ("k@memory", room), ("k@east", hall))
    assert bridge.standing("k", hall) == (("k", hall), ("k@memory", room))
    assert {original(key) for key in bridge.keys("k")} == {"k"}
    assert Bridge(connectors=("memory",)).standing("k", room) == (("k", room),)
    # A room that muster.yaml names in another way than its events do is the same room.
    named = Bridge(rooms=(MessagePlace("memory", conversation="#room"), hall), locate=lambda _, name: name.strip("#"))
    assert named.spread("k", room) == (("k", room), ("k@east", hall))
    assert named.standing("k", room) == (("k", room), ("k@east", hall))


def test_words_are_quoted_so_that_none_of_them_passes_for_muster_s_own() -> None:
    file = Attachment(ref="r", name="a`b\n!stop --all", media_type="image/png")
    assert quoted("`ana` on **east**", "one\n\n!stop --all\u202e", (file,)).splitlines() == [
        "`ana` on **east**:",
        "> one",
        "> ",
        "> !stop --all⟨U+202E⟩",
        "> 📎 ``a`b !stop --all`` (`image/png`)",
    ]


async def test_a_permission_request_stands_in_every_bridged_room_and_the_first_answer_closes_it_in_all(
    tmp_path: Path,
) -> None:
    async with twin(tmp_path) as (home, east):
        async with home.open():
            thread = await home.launch("coder0")
            home.say("[[run: echo far > proof.txt]]", thread)
            await home.heard(thread, "asks for permission")
            await until(home.chat, ROOM, "asks for permission")
            await until(east, HALL, "asks for permission")
            asked = event_of(east, HALL, "asks for permission")
            await east.until(lambda: set(east.reactions(asked)) == {"✅", "♾️", "⏱️", "❌"}, limit=30)
            home.chat.set_down(True)
            east.react(asked, "✅", sender=BOB, conversation=HALL)
            await until(east, HALL, "by Bob (east:@bob)")
            proof = home.paths.workspace("coder0") / "proof.txt"
            await east.until(proof.exists, limit=30)
        home.chat.set_down(False)
        async with home.open():
            # Those who were away meanwhile see it closed too, and where.
            for conversation in (thread, ROOM):
                assert (await until(home.chat, conversation, "by Bob (east:@bob)")).startswith("☑️")
                assert not [text for text in home.chat.texts(conversation) if "asks for permission" in text]
            home.chat.react(event_of(home.chat, ROOM, "by Bob (east:@bob)"), "❌")
            assert "by Bob (east:@bob)" in await until(home.chat, ROOM, "Too late")
            async with home.orchestrator.store.read() as tx:
                rows = [
                    (row.door, row.connector, row.identity, row.outcome)
                    for row in await audit_log.since(tx, 0, limit=99)
                ]
            assert ("chat", "east", "east:@bob", "done") in rows, "the reaction"
            assert ("approval", "east", "east:@bob", "answered") in rows, "what became of the request"
            assert ("chat", "memory", "memory:@ana", "refused") in rows, "the one that came too late"


async def test_what_is_said_in_one_room_is_shown_in_the_other_and_does_nothing_there(tmp_path: Path) -> None:
    async with twin(tmp_path) as (home, east), home.open():
        east.post("!whoami", sender=BOB, conversation=HALL)
        assert "You are `east:@bob`" in await until(east, HALL, "You are")
        assert await until(home.chat, ROOM, "!whoami") == "`Bob` on **east**:\n> !whoami"
        answered = await until(home.chat, ROOM, "You are")
        assert answered.startswith("↳ to `Bob` on **east**:")
        words = home.chat.post("hello\n!whoami", sender="@vera")
        assert (await until(east, HALL, "hello")).splitlines() == ["`@vera` on **memory**:", "> hello", "> !whoami"]
        home.chat.edit(words, "hello there", sender="@vera")
        await until(east, HALL, "> hello there (edited)")
        home.chat.edit(words, "I said nothing", sender="@otto")
        home.chat.redact(words, sender="@vera")
        await until(east, HALL, "`@vera` on **memory** deleted this.")
        home.chat.post("let me in", sender="@stan")
        await until(home.chat, ROOM, "Only operators can command this fleet")
        await home.ask("!whoami")
        await until(east, HALL, "You are `memory:@ana`")
        assert not [text for text in east.texts(HALL) if "let me in" in text or "nothing" in text]
        # Each command ran once, and each said for the audit where it came from.
        async with home.orchestrator.store.read() as tx:
            runs = (await tx.execute(select(command_runs.c.connector, command_runs.c.identity))).all()
        assert sorted(map(tuple, runs)) == [("east", "east:@bob"), ("memory", "memory:@ana")]


async def test_an_answer_to_words_in_one_room_and_what_the_fleet_is_told_show_in_both(tmp_path: Path) -> None:
    async with twin(tmp_path) as (home, east), home.open():
        await home.ask("!launch lead --role orchestrator --runtime sim --sandbox none")
        await until(east, HALL, "Its thread is on **memory**.")
        await home.heard(await home.thread("lead"), "Ready")
        east.post("[[say: the fleet is well]]", sender=BOB, conversation=HALL)
        await until(east, HALL, "the fleet is well")
        answer = await until(home.chat, ROOM, "↳ to `Bob` on **east**:\n\nthe fleet is well")
        assert answer
        services = home.orchestrator.services
        async with services.store.write(TELL) as tx:
            assert await rooms.say(services, tx, "news/1", "Something happened.")
        services.delivery.wake()
        await until(home.chat, ROOM, "Something happened.")
        await until(east, HALL, "Something happened.")


async def test_without_a_bridge_an_agent_asks_and_answers_where_its_thread_is_and_where_it_was_spoken_to(
    tmp_path: Path,
) -> None:
    async with twin(tmp_path, bridge=False) as (home, east), home.open():
        east.post("!launch coder0 --runtime sim --sandbox none", sender=BOB, conversation=HALL)
        await until(east, HALL, "coder0")
        opener = next(said for said in east.said if isinstance(said.content, OpenThread))
        thread = f"thread {opener.event_id}"
        await until(east, thread, "Ready")
        assert (await home.row()).connector == "east"
        assert home.chat.texts(ROOM) == []
        await home.ask("!send coder0 [[run: echo near > proof.txt]]")
        asked = await until(home.chat, ROOM, "asks for permission")
        await until(east, thread, "asks for permission")
        # Whoever is answers, by command from any chat system.
        await home.ask(f"!approve {asked.split('permission `')[1].split('`')[0]}")
        await until(east, thread, "by memory:@ana")
        await until(home.chat, ROOM, "by memory:@ana")
        await home.ask("!send coder0 [[say: well, well]]")
        await until(east, thread, "well, well")
        assert await until(home.chat, ROOM, "well, well") == "**coder0**:\n\nwell, well"
        assert not [text for text in east.texts(HALL) if "well, well" in text or "permission" in text]


async def test_a_connector_that_is_taken_out_of_muster_yaml_is_missed_in_health_and_stops_nothing(
    tmp_path: Path,
) -> None:
    async with twin(tmp_path) as (home, east):
        async with home.open():
            east.post("!launch coder0 --runtime sim --sandbox none", sender=BOB, conversation=HALL)
            await until(home.chat, ROOM, "Its thread is on **east**.")
            await east.until(lambda: [text for text in east.texts() if "Ready" in text] or "Ready" in str(east.said))
        written = home.paths.muster_yaml.read_text()
        lines = [line for line in written.splitlines(keepends=True) if "east:" not in line]
        home.paths.muster_yaml.write_text("".join(lines))
        del home.others["east"]
        async with home.open():
            assert "missed" not in await home.ask("!send coder0 [[say: who hears me?]]")
            await until(home.chat, ROOM, "who hears me?")
            health = await home.ask("!health")
            assert "✗ connector east: muster.yaml no longer has this connector" in health
            assert "It has the threads of coder0." in health


@pytest.mark.slow
async def test_a_request_that_is_soon_denied_is_brought_to_mind_wherever_it_stands(tmp_path: Path) -> None:
    settings = "watchdog: {every: 0.2}\napprovals: {timeout: 9s}\n"
    async with twin(tmp_path, settings=settings) as (home, east), home.open():
        thread = await home.launch("coder0")
        home.say("[[run: echo x]]", thread)
        await home.heard(thread, "denied unless somebody answers")
        for server, room in ((home.chat, ROOM), (east, HALL)):
            await until(server, room, "denied unless somebody answers")
        east.react(event_of(east, HALL, "asks for permission"), "❌", sender=BOB, conversation=HALL)
        await home.heard(thread, "by Bob (east:@bob)")


async def test_a_place_that_was_away_the_whole_time_hears_what_became_of_a_request(tmp_path: Path) -> None:
    async with twin(tmp_path) as (home, east), home.open():
        thread = await home.launch("coder0")
        await until(east, HALL, "Its thread is on **memory**.")
        east.set_down(True)
        event = home.say("[[run: echo far > proof.txt]]", thread)
        await home.heard(thread, "asks for permission")
        home.chat.react(event_of(home.chat, ROOM, "asks for permission"), "✅", sender="@otto")
        await home.marks(event, "✅")
        east.set_down(False)
        closed = await until(east, HALL, "by memory:@otto")
        assert closed.startswith("☑️")
        await home.orchestrator.quiet()
        assert not [text for text in east.texts(HALL) if "asks for permission" in text]
        assert east.reactions(event_of(east, HALL, "by memory:@otto")) == [], "it asks for nothing any more"
