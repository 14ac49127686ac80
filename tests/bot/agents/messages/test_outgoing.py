"""What did not arrive, and sending it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bot.agents.messages.delivery import deadlines
from bot.messaging.composer import MessagePlace
from connectors.contract.messages import Message, Priority
from connectors.delivery import outbox
from core.crash_points import declare
from database.queries.agents import agent_messages
from database.queries.agents.agent_messages import AgentMessage
from fleet.control.agent_host_client import AgentLink
from tests.bot.orchestrator import ROOM, House, house

WRITE = declare("test.letters")


def letter(number: int) -> AgentMessage:
    return AgentMessage(
        id=f"m{number:04d}", agent="coder0", mode="queue", text=f"[[say: letter {number}]]", attachments=[],
        sender="memory:@ana", connector=None, conversation=None, event_id=None, answer_in=None, state="failed",
        turn=None, detail="it died", created_at=number, updated_at=number, give_up_at=number,
    )  # fmt: skip


async def put(home: House, message: AgentMessage) -> None:
    async with home.orchestrator.store.write(WRITE) as tx:
        await agent_messages.add(tx, message)


async def state(home: House, message_id: str) -> str:
    async with home.orchestrator.store.read() as tx:
        message = await agent_messages.get(tx, message_id)
    assert message is not None
    return message.state


async def test_a_dead_letter_is_sent_again_once_under_its_own_id(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        await put(home, replace(letter(1), state="dead"))
        assert "Sent again" in await home.ask("!retry m0001")
        await home.heard(thread, "letter 1")
        last = home.say("[[say: last]]", thread)
        await home.marks(last, "✅")
        assert await state(home, "m0001") == "finished"
        assert home.chat.texts(thread).count("letter 1") == 1
        assert "Unknown failed message" in await home.ask("!retry m0001")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "seen", "fate"),
    [("[[say: read before]]", "read before", "finished"), ("[[error: 400 no]]", "turn failed", "failed")],
)
async def test_a_dead_letter_that_the_agent_had_after_all_is_not_read_twice(
    tmp_path: Path, prompt: str, seen: str, fate: str
) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        link = await AgentLink.connect(home.paths.agent_socket("coder0"))
        async with link:
            await link.send("m0001", prompt)
        await home.heard(thread, seen)
        sent = len(home.models.ledger.entries)
        await put(home, replace(letter(1), state="dead", text=prompt))
        assert "Sent again" in await home.ask("!retry m0001")
        last = home.say("[[say: last]]", thread)
        await home.marks(last, "✅")
        assert await state(home, "m0001") == fate
        assert len(home.models.ledger.entries) == sent + 1


@pytest.mark.slow
async def test_a_letter_that_dies_again_is_told_of_again(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        gone = [{"ref": "mxc://x/y", "name": "a.png", "media_type": "image/png", "path": str(tmp_path / "gone.png")}]
        await put(home, replace(letter(1), state="pending", attachments=gone, give_up_at=9e9))
        home.say("[[say: bring the mail]]", thread)
        await home.heard(thread, "could not be delivered")
        await home.ask("!retry m0001")

        def told() -> bool:
            return sum("could not be delivered" in text for text in home.chat.texts(thread)) == 2

        await home.chat.until(told, limit=30)


@pytest.mark.slow
async def test_what_is_uncertain_is_done_again_under_a_new_id(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        link = await AgentLink.connect(home.paths.agent_socket("coder0"))
        async with link:
            await link.send("m0001", "[[say: letter 1]]")
        await home.heard(thread, "letter 1")
        await put(home, replace(letter(1), state="uncertain"))
        assert "Sent again" in await home.ask("!retry m0001")
        await home.chat.until(lambda: home.chat.texts(thread).count("letter 1") == 2, limit=30)
        assert await state(home, "m0001") == "retried"


@pytest.mark.slow
async def test_the_newest_of_very_many_failures_is_listed_and_sent_again(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open() as orchestrator:
        thread = await home.launch("coder0")
        async with orchestrator.store.write(WRITE) as tx:
            for number in range(1, 1102):
                await agent_messages.add(tx, letter(number))
        assert "`m1101`" in await home.ask("!dead-letters")
        assert "Sent again" in await home.ask("!retry m1101")
        await home.heard(thread, "letter 1101")
        assert "`m1101`" not in await home.ask("!dead-letters")
        assert "Sent again" in await home.ask("!retry m0001")


async def test_what_ended_long_ago_is_forgotten_and_what_is_under_way_is_not(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open() as orchestrator:
        async with orchestrator.store.write(WRITE) as tx:
            for number in (1, 2, 3):
                await agent_messages.add(tx, letter(number))
            await agent_messages.change(tx, "m0001", now=1.0, state="pending")
            assert await agent_messages.forget(tx, 3.0) == 1
        async with orchestrator.store.read() as tx:
            assert await agent_messages.get(tx, "m0001") is not None
            assert await agent_messages.get(tx, "m0002") is None


def test_a_clock_that_is_set_forward_makes_no_message_old() -> None:
    first, second = replace(letter(1), give_up_at=1_100.0), replace(letter(2), give_up_at=1_100.0)
    known = deadlines({}, [first], now=1_000.0, steady=5.0)
    assert known == {(first.id, 1_100.0): 105.0}
    after = deadlines(known, [first, second], now=90_000.0, steady=6.0)
    assert after[first.id, 1_100.0] == 105.0
    assert after[second.id, 1_100.0] < 6.0
    again = replace(first, give_up_at=90_100.0)
    assert deadlines(after, [again], now=90_000.0, steady=7.0) == {(again.id, 90_100.0): 107.0}


async def test_a_beginning_that_one_dead_letter_alone_has_is_enough_in_either_direction(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        await put(home, replace(letter(1), state="dead"))
        await put(home, replace(letter(2), id="m0101", state="dead"))
        place = MessagePlace("memory", conversation=ROOM)
        async with home.orchestrator.store.write(WRITE) as tx:
            await outbox.put(tx, place.outbound("note/lost", Message(text="lost words"), Priority.REPLY), 0.0)
            await outbox.close(tx, ["note/lost"], "dead", "nobody took it")
        refused = await home.ask("!retry m0")
        assert "2 dead letters begin with 'm0': `m0101`, `m0001`" in refused
        assert "Sent again to coder0" in await home.ask("!retry m00")
        await home.heard(thread, "letter 1")
        assert "Sent again to chat" in await home.ask("!retry note/l")
        await home.heard(ROOM, "lost words")
