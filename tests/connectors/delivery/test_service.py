"""Nothing that comes in is lost or handled twice, nothing that goes out is lost or said twice, whatever fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.contract.connector_protocol import MessageRefused, NeedsPerson, NotReady, Sink, TryLater
from connectors.contract.messages import (
    Batch,
    Edit,
    Health,
    Inbound,
    Message,
    OpenThread,
    Outbound,
    Priority,
    React,
    Reaction,
    Redaction,
    Replace,
    Sent,
    Text,
)
from connectors.delivery import inbox, outbox, sender
from connectors.delivery.inbox import Arrival
from connectors.memory import ALL_CAPABILITIES, MemoryConnector, MemoryServer
from core.crash_points import Step
from database.engine.fencing import Fence
from database.engine.store import RegisterFull, Store
from database.queries.operations import leases
from tests import waiting
from tests.connectors.delivery.fake_room import QUICK, STEP, Office, opened
from tests.postgres import Postgres


@pytest.fixture
async def office(register_url: str) -> AsyncIterator[Office]:
    async with opened(register_url) as made:
        yield made


def event(number: int, conversation: str = "room", text: str = "hello") -> Inbound:
    return Inbound(
        connector="memory",
        event_id=f"$e{number}",
        conversation=conversation,
        sender="@ana",
        sent_at=1.0,
        body=Text(text=text),
    )


# --- coming in ---------------------------------------------------------------------------------------------------


async def test_a_message_is_answered(office: Office) -> None:
    async with office.open():
        office.server.post("hello")
        await office.server.until(lambda: office.server.texts() == ["re: hello"])


async def test_what_was_written_before_the_first_start_does_not_count(office: Office) -> None:
    office.server.post("long ago")
    async with office.open() as delivery:
        office.server.post("now")
        await office.server.until(lambda: office.server.texts())
        await delivery.idle()
    assert office.server.texts() == ["re: now"]


async def test_what_was_written_during_an_absence_is_answered_on_return(office: Office) -> None:
    async with office.open():
        pass
    for number in range(5):
        office.server.post(f"{number}")
    async with office.open():
        await office.server.until(lambda: len(office.server.texts()) == 5)
    assert office.server.texts() == [f"re: {number}" for number in range(5)]


async def test_an_event_that_comes_twice_is_handled_once(office: Office) -> None:
    async with office.open() as delivery:
        await delivery.accept("memory", Batch(events=(event(1), event(2), event(1)), cursor="5"))
        await delivery.accept("memory", Batch(events=(event(2), event(3)), cursor="5"))
        await delivery.idle()
    assert office.handled == ["$e1", "$e2", "$e3"]


async def test_every_kind_of_event_arrives_as_it_was(office: Office) -> None:
    seen: list[Inbound] = []

    async def handler(arrival: Arrival) -> None:
        seen.append(arrival.inbound)
        async with office.store.write(STEP) as tx:
            await inbox.finish(tx, arrival.seq, 1.0)

    async with office.open(handler=handler) as delivery:
        picture = office.server.upload(b"png", name="a.png", media_type="image/png")
        first = office.server.post(
            "look", attachments=(picture,), mentions_us=True, conversation="thread", parent="room"
        )
        office.server.react(first, "+1", conversation="thread")
        office.server.edit(first, "look!", conversation="thread")
        office.server.redact(first, conversation="thread")
        await office.until(lambda: _finished(office, 4))
        await delivery.idle()
    assert [inbound.body for inbound in seen] == [
        Text(text="look", attachments=(picture,), mentions_us=True),
        Reaction(target=first, key="+1"),
        Edit(target=first, text="look!"),
        Redaction(target=first),
    ]
    assert seen[0].parent == "room"
    assert seen[0].identity == "memory:@ana"


async def test_characters_that_no_database_takes_stop_nothing(office: Office) -> None:
    async with office.open():
        office.server.post("half \ud800 a pair, and \x00 nothing", sender="@\udfff", conversation="r\x00")
        office.server.post("next")
        await office.server.until(lambda: len(office.server.said) == 2)
    assert office.server.texts("r\ufffd") == ["re: half \ufffd a pair, and \ufffd nothing"]


async def test_a_conversation_keeps_its_order_and_holds_up_no_other(office: Office) -> None:
    stuck = asyncio.Event()

    async def handler(arrival: Arrival) -> None:
        if arrival.inbound.conversation == "stuck":
            await stuck.wait()
        await office.answer(arrival)

    async with office.open(handler=handler) as delivery:
        for number in range(4):
            office.server.post(f"s{number}", conversation="stuck")
        for number in range(50):
            office.server.post(f"{number}", conversation=f"room {number % 5}")
        await office.server.until(lambda: len(office.server.said) == 50)
        stuck.set()
        await office.server.until(lambda: len(office.server.said) == 54)
        await delivery.idle()
    assert office.server.texts("stuck") == [f"re: s{number}" for number in range(4)]
    assert office.server.texts("room 3") == [f"re: {number}" for number in range(3, 50, 5)]


async def test_what_is_about_an_event_waits_for_it_wherever_it_is_said_to_be(office: Office) -> None:
    begun, stuck = asyncio.Event(), asyncio.Event()

    async def handler(arrival: Arrival) -> None:
        if isinstance(arrival.inbound.body, Text) and arrival.inbound.conversation == "thread":
            begun.set()
            await stuck.wait()
        await office.answer(arrival)

    async with office.open(handler=handler) as delivery:
        written = office.server.post("hello", conversation="thread", parent="room")
        await begun.wait()
        taken_back = office.server.redact(written, conversation="room")
        other = office.server.post("meanwhile")
        await office.server.until(lambda: office.server.texts() == ["re: meanwhile"])
        stuck.set()
        await office.until(lambda: _finished(office, 3))
        await delivery.idle()
    assert office.handled == [other, written, taken_back]


async def test_an_event_whose_handler_fails_at_first_is_handled_in_the_end(office: Office) -> None:
    tries = 0

    async def handler(arrival: Arrival) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise RuntimeError("not yet")
        await office.answer(arrival)

    async with office.open(handler=handler):
        office.server.post("hello")
        await office.server.until(lambda: office.server.texts() == ["re: hello"])
    assert tries == 3


async def test_an_event_with_a_file_waits_for_the_chat_system_to_come_back(office: Office) -> None:
    connector = MemoryConnector(server=office.server)
    picture = office.server.upload(b"png", name="a.png", media_type="image/png")
    asked = 0

    async def handler(arrival: Arrival) -> None:
        nonlocal asked
        asked += 1
        office.server.set_down(asked <= 2 * QUICK.handler_tries)
        assert await connector.download(picture, limit=10) == b"png"
        await office.answer(arrival)

    async with office.open({"memory": connector}, handler=handler):
        office.server.post("look", attachments=(picture,))
        await office.server.until(lambda: office.server.texts() == ["re: look"])


async def test_an_event_whose_file_alone_cannot_be_had_is_given_up(office: Office) -> None:
    async def handler(arrival: Arrival) -> None:
        raise TryLater("its server does not answer")

    async with office.open(handler=handler):
        office.server.post("look")
        await office.until(lambda: _finished(office, 1))


async def test_an_event_that_cannot_be_handled_is_given_up_and_the_operator_told(office: Office) -> None:
    async def handler(arrival: Arrival) -> None:
        if isinstance(arrival.inbound.body, Text) and arrival.inbound.body.text == "poison":
            raise RuntimeError("no antidote")
        await office.answer(arrival)

    async def tell(tx: AsyncConnection, arrival: Arrival, reason: str) -> None:
        await office.put_in(tx, f"sorry {arrival.inbound.event_id}", Message(text=f"sorry: {reason}"))

    async with office.open(handler=handler, on_failed=tell) as delivery:
        poison = office.server.post("poison")
        office.server.post("bread")
        await office.server.until(lambda: len(office.server.texts()) == 2)
        await delivery.idle()
        async with office.store.read() as tx:
            assert await inbox.waiting(tx) == 0
            assert await inbox.find(tx, "memory", poison) is not None
    assert office.server.texts() == ["sorry: RuntimeError: no antidote", "re: bread"]


async def test_an_event_is_given_up_even_when_nobody_can_be_told(office: Office) -> None:
    async def handler(arrival: Arrival) -> None:
        raise RuntimeError("no antidote")

    async def tell(tx: AsyncConnection, arrival: Arrival, reason: str) -> None:
        raise RuntimeError("no words either")

    async with office.open(handler=handler, on_failed=tell) as delivery:
        office.server.post("poison")
        await office.until(lambda: _finished(office, 1))
        await delivery.idle()


async def test_an_event_that_its_handler_forgets_is_handed_out_again_and_then_given_up(office: Office) -> None:
    async def handler(arrival: Arrival) -> None:
        office.handled.append(arrival.inbound.event_id)

    async with office.open(handler=handler):
        office.server.post("hello")
        await office.until(lambda: _finished(office, 1))
    assert len(office.handled) == QUICK.handler_tries


async def _finished(office: Office, count: int) -> bool:
    async with office.store.read() as tx:
        rows = await tx.exec_driver_sql("SELECT count(*) FROM inbox WHERE state <> 'new'")
        return bool(rows.scalar() == count)


async def test_an_event_that_was_being_handled_when_the_process_stopped_is_handed_out_again(office: Office) -> None:
    begun = asyncio.Event()

    async def never(arrival: Arrival) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with office.open(handler=never):
        office.server.post("hello")
        await begun.wait()
    async with office.open():
        await office.server.until(lambda: office.server.texts() == ["re: hello"])


async def test_a_full_register_delays_and_loses_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = 0
    real = type(office.store).write

    def write(self: Store, step: Step) -> AbstractAsyncContextManager[AsyncConnection]:
        nonlocal refusals
        refusals += 1
        if refusals % 2:
            raise RegisterFull
        return real(self, step)

    monkeypatch.setattr("connectors.delivery.write_retry.FIRST_PAUSE", 0.01)
    async with office.open():
        monkeypatch.setattr(type(office.store), "write", write)
        for number in range(3):
            office.server.post(f"{number}")
        await office.server.until(lambda: len(office.server.texts()) == 3)
        monkeypatch.undo()
    assert office.server.texts() == ["re: 0", "re: 1", "re: 2"]
    assert refusals > 6


@pytest.mark.parametrize("moment", [float("nan"), float("inf"), 10**400, 10**30, -1])
async def test_a_time_that_makes_no_sense_stops_nothing(office: Office, moment: float) -> None:
    async with office.open() as delivery:
        await delivery.accept("memory", Batch(events=(replace(event(1), sent_at=moment),), cursor="1"))
        await delivery.idle()
    assert office.server.texts() == ["re: hello"]


# --- going out ---------------------------------------------------------------------------------------------------


async def test_a_key_is_said_once(office: Office) -> None:
    async with office.open():
        await office.put("a")
        await office.put("a", Message(text="something else"))
        await office.until_state("a", "sent")
        await office.put("b")
        await office.until_state("b", "sent")
    assert office.server.texts() == ["a", "b"]


async def test_what_was_said_can_be_found_by_its_event(office: Office) -> None:
    async with office.open():
        await office.put("opener", OpenThread(title="coder0", message=Message(text="here")))
        row = await office.until_state("opener", "sent")
        assert row.event_id is not None
        assert row.made_conversation is not None
        async with office.store.read() as tx:
            assert await outbox.by_event(tx, "memory", row.event_id) == row
            assert await outbox.by_conversation(tx, "memory", row.made_conversation) == row
            assert await outbox.by_event(tx, "matrix", row.event_id) is None


async def test_a_thread_is_opened_and_filled_across_a_restart(office: Office) -> None:
    async with office.open():
        await office.put("opener", OpenThread(title="coder0", message=Message(text="here")))
        await office.put("first", thread_of="opener")
        opener = await office.until_state("opener", "sent")
        await office.until_state("first", "sent")
    async with office.open():
        await office.put("second", thread_of="opener")
        await office.put("change", Replace(target="first", message=Message(text="first!")), thread_of="opener")
        await office.put("mark", React(target="first", key="+1", own=True), thread_of="opener")
        await office.until_state("mark", "sent")
        await office.until_state("second", "sent")
    assert office.server.texts(opener.made_conversation or "") == ["first!", "second"]
    assert office.server.reactions((await office.row("first")).event_id or "") == ["+1"]


async def test_a_streamed_answer_ends_as_its_final_text(office: Office) -> None:
    async with office.open():
        await office.put("answer", Message(text="..."), priority=Priority.PROGRESS)
        await office.until_state("answer", "sent")
        for number in range(20):
            content = Replace(target="answer", message=Message(text="word " * number))
            await office.put(f"answer {number}", content, priority=Priority.PROGRESS)
        final = Replace(target="answer", message=Message(text="the end"), final=True)
        await office.put("answer final", final, priority=Priority.FINAL)
        await office.until_state("answer final", "sent")
    assert office.server.texts() == ["the end"]
    assert len(office.server.wire) < 22


async def test_one_dead_conversation_among_fifty_delays_no_other(office: Office) -> None:
    office.server.hang("room 7")
    async with office.open():
        for number in range(150):
            await office.put(f"{number}", to=f"room {number % 50}")
        await office.server.until(lambda: len(office.server.said) == 147)
        assert office.server.texts("room 7") == []
        office.server.release("room 7")
        await office.server.until(lambda: len(office.server.said) == 150)
    assert office.server.texts("room 7") == ["7", "57", "107"]


async def test_a_hanging_send_is_ended_and_tried_again(office: Office) -> None:
    office.settings = replace(QUICK, send_timeout=0.05)
    office.server.hang("room")
    async with office.open():
        await office.put("a")
        await office.server.until(lambda: office.server.wire.count("a") >= 2)
        office.server.release("room")
        await office.until_state("a", "sent")
    assert office.server.texts() == ["a"]


async def test_a_message_whose_answer_was_lost_stands_once(office: Office) -> None:
    office.server.lose_answers(3)
    async with office.open():
        await office.put("a")
        await office.until_state("a", "sent")
    assert office.server.wire == ["a"] * 4
    assert office.server.texts() == ["a"]


async def test_who_may_not_lead_any_more_says_nothing_that_it_was_about_to_say(
    postgres: Postgres, emptied_database: str
) -> None:
    async with opened(postgres.url(emptied_database)) as office:
        async with office.store.write(STEP) as tx:
            lease = await leases.acquire(tx, "lead", "us", now=0.0, duration=20.0)
        # As after a pause that was longer than the lease lasts: the register says that it is ours still.
        office.store.fence = Fence(lease, good_until=0.0)
        async with office.open() as delivery:
            office.server.post("hello")

            async def tried() -> bool:
                async with office.store.read() as tx:
                    rows = await outbox.pending(tx, "memory")
                return any("another Muster may lead" in (row.detail or "") for row in rows)

            await waiting.until(tried, limit=20)
            assert office.server.texts() == []
            office.store.fence.good_until = float("inf")
            await office.server.until(lambda: office.server.texts() == ["re: hello"])
            await delivery.idle()


async def test_a_message_whose_key_may_be_forgotten_is_looked_for_first(office: Office) -> None:
    office.server.capabilities = replace(ALL_CAPABILITIES, remembers_keys=None)
    office.server.lose_answers(1)
    async with office.open():
        await office.put("stands")
        await office.server.until(lambda: office.server.said)
        office.server.forget_keys()
        await office.until_state("stands", "sent")
        office.server.script(TryLater("no route"))
        await office.put("stands not")
        await office.until_state("stands not", "sent")
    assert office.server.texts() == ["stands", "stands not"]
    assert office.server.wire == ["stands", "stands not", "stands not"]


async def test_a_new_device_looks_before_it_says_again_what_an_older_one_tried(office: Office) -> None:
    tried = asyncio.Event()

    class Dies(MemoryConnector):
        async def send(self, *args: object, **more: object) -> object:  # type: ignore[override]
            await super().send(*args, **more)  # type: ignore[arg-type]
            tried.set()
            await asyncio.Event().wait()
            raise AssertionError

    async with office.open({"memory": Dies(server=office.server)}):  # type: ignore[dict-item]
        await office.put("a")
        await tried.wait()
    office.server.scope = "device-2"
    async with office.open():
        await office.until_state("a", "sent")
    assert office.server.texts() == ["a"]
    assert office.server.wire == ["a"]


async def test_a_log_in_that_changes_between_choice_and_send_doubles_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.server.lose_answers(1_000_000)
    async with office.open():
        await office.put("a")
        await office.server.until(lambda: office.server.said)
    office.server.lose_answers(0)
    before = len(office.server.wire)
    real = type(office.store).write

    @asynccontextmanager
    async def write(self: Store, step: Step) -> AsyncIterator[AsyncConnection]:
        async with real(self, step) as tx:
            yield tx
        if step is sender.RECORD:
            office.server.scope = "device-2"

    monkeypatch.setattr(type(office.store), "write", write)
    async with office.open():
        await office.until_state("a", "sent")
    assert office.server.scope == "device-2"
    assert office.server.texts() == ["a"]
    assert len(office.server.wire) == before


async def test_a_refused_message_is_a_dead_letter_and_the_next_goes(office: Office) -> None:
    office.server.script(MessageRefused("too long"))
    async with office.open():
        await office.put("long")
        await office.put("short")
        row = await office.until_state("long", "dead")
        await office.until_state("short", "sent")
        async with office.store.read() as tx:
            assert [letter.key for letter in await outbox.dead_letters(tx)] == ["long"]
    assert row.detail == "too long"
    assert office.server.texts() == ["short"]


async def test_a_dead_letter_that_is_retried_goes_out_with_its_changes(office: Office) -> None:
    office.server.script(MessageRefused("no such room"))
    async with office.open() as delivery:
        await office.put("a")
        await office.until_state("a", "dead")
        await office.put("change", Replace(target="a", message=Message(text="A")))
        await office.until_state("change", "dead")
        async with office.store.read() as tx:
            assert [letter.key for letter in await outbox.dead_letters(tx)] == ["a"]
        async with office.store.write(STEP) as tx:
            assert await outbox.retry(tx, "a", office.server.clock())
            assert not await outbox.retry(tx, "never put", 1.0)
        delivery.wake()
        await office.until_state("a", "sent")
        await office.until_state("change", "sent")
        async with office.store.write(STEP) as tx:
            assert not await outbox.retry(tx, "a", 1.0)
        await office.put("b")
        await office.until_state("b", "sent")
    assert office.server.texts() == ["A", "b"]


@pytest.mark.parametrize("newer_dies", [False, True])
async def test_a_dead_change_that_is_retried_gives_way_to_a_newer_one(office: Office, newer_dies: bool) -> None:
    async with office.open() as delivery:
        await office.put("a")
        await office.until_state("a", "sent")
        office.server.script(*[MessageRefused("too long")] * (1 + newer_dies))
        await office.put("older", Replace(target="a", message=Message(text="older"), final=True))
        await office.until_state("older", "dead")
        await office.put("newer", Replace(target="a", message=Message(text="newer"), final=True))
        await office.until_state("newer", "dead" if newer_dies else "sent")
        async with office.store.write(STEP) as tx:
            assert await outbox.retry(tx, "older", office.server.clock()) == "newer"
        delivery.wake()
        await office.until_state("newer", "sent")
        assert await office.state("older") == "superseded"
    assert office.server.texts() == ["newer"]


class Deaf(MemoryConnector):
    """Takes nothing, for now."""

    tries = 0

    async def send(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent:
        self.tries += 1
        raise TryLater("deaf")


async def test_a_clock_that_is_set_forward_makes_nothing_old(office: Office) -> None:
    ahead = passed = 0.0
    deaf = Deaf(server=office.server)

    async def tried_again() -> bool:
        return deaf.tries > tries + 1

    clock, steady = (lambda: office.server.clock() + ahead), (lambda: time.monotonic() + passed)
    async with office.open({"memory": deaf}, clock=clock, steady=steady):
        await office.put("waiting")
        tries = 0
        await office.until(tried_again)
        ahead, tries = 40 * 3600.0, deaf.tries
        await office.until(tried_again)
        passed = office.settings.give_up_after
        await office.until_state("waiting", "dead")


async def test_what_cannot_be_said_in_time_becomes_a_dead_letter(office: Office) -> None:
    office.settings = replace(QUICK, give_up_after=0.2)
    async with office.open():
        office.server.set_down(True)
        await office.put("a")
        row = await office.until_state("a", "dead")
    assert row.detail is not None
    assert row.detail.startswith("given up")


async def test_after_an_outage_everything_stands_in_order(office: Office) -> None:
    async with office.open() as delivery:
        office.server.set_down(True)
        for number in range(10):
            await office.put(f"{number}", to=f"room {number % 2}")

        async def noticed() -> bool:
            return (await delivery.health())["memory"].reachable is False

        await office.until(noticed)
        office.server.set_down(False)
        await office.server.until(lambda: len(office.server.said) == 10)
    assert office.server.texts("room 0") == ["0", "2", "4", "6", "8"]


async def test_a_limiting_server_gets_replies_before_progress_and_everything_in_the_end(office: Office) -> None:
    office.server.limit_rate(50.0, 3)
    async with office.open():
        async with office.store.write(STEP) as tx:
            for number in range(12):
                await office.put_in(tx, f"progress {number}", to=f"p{number}", priority=Priority.PROGRESS)
            for number in range(6):
                await office.put_in(tx, f"reply {number}", to=f"r{number}")
            await office.put_in(tx, "approval", to="a", priority=Priority.APPROVAL)
        assert office.delivery is not None
        office.delivery.wake()
        await office.server.until(lambda: len(office.server.said) == 19)
    order = [said.key for said in office.server.said]
    assert set(order[:7]) == {"approval", *(f"reply {number}" for number in range(6))}


async def test_a_connector_that_breaks_while_sending_is_tried_again(office: Office) -> None:
    office.server.script(ZeroDivisionError("a bug"), None)
    async with office.open():
        await office.put("a")
        await office.until_state("a", "sent")
    assert office.server.texts() == ["a"]


async def test_a_hook_that_breaks_stops_nothing(office: Office) -> None:
    async def hook(row: outbox.Row) -> None:
        raise RuntimeError("a bug")

    async with office.open(on_outcome=hook):
        await office.put("a")
        await office.put("b")
        await office.server.until(lambda: office.server.texts() == ["a", "b"])


async def test_what_nobody_announced_is_found_all_the_same(office: Office) -> None:
    async with office.open() as delivery:
        await delivery.idle()
        office.delivery, announced = None, office.delivery
        async with office.store.write(STEP) as tx:
            office.delivery = announced
            await office.put_in(tx, "a")
        await office.server.until(lambda: office.server.texts() == ["a"])


async def test_a_fault_in_a_connector_s_own_answers_is_survived(office: Office) -> None:
    class Moody(MemoryConnector):
        asked = 0

        def scope(self) -> str:
            self.asked += 1
            if self.asked in (2, 5):
                raise RuntimeError("a bug")
            return super().scope()

    async with office.open({"memory": Moody(server=office.server)}):
        for number in range(5):
            await office.put(f"{number}")
        await office.server.until(lambda: len(office.server.said) == 5)
    assert office.server.texts() == [f"{number}" for number in range(5)]


async def test_where_there_are_no_threads_their_messages_go_where_the_opener_stands(office: Office) -> None:
    office.server.capabilities = replace(ALL_CAPABILITIES, threads=False)
    async with office.open():
        await office.put("opener", OpenThread(title="coder0", message=Message(text="here")))
        await office.put("first", thread_of="opener")
        await office.until_state("first", "sent")
    assert office.server.texts() == ["here", "first"]
    assert (await office.row("opener")).made_conversation == "room"


# --- connectors --------------------------------------------------------------------------------------------------


class Fragile(MemoryConnector):
    """Fails as it is told when it is started."""

    def __init__(self, server: MemoryServer, *failures: Exception) -> None:
        super().__init__("fragile", server=server)
        self.failures = list(failures)
        self.up = asyncio.Event()
        self.starts = 0
        self.stops = 0

    async def start(self, cursor: str | None) -> None:
        self.starts += 1
        if self.failures:
            raise self.failures.pop(0)
        self.up.set()
        await super().start(cursor)

    async def connected(self) -> None:
        await self.up.wait()

    async def stop(self) -> None:
        self.stops += 1
        await super().stop()


class Slow(MemoryConnector):
    """Can say nothing before it has logged in."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(server=server)
        self.begun, self.logged_in = asyncio.Event(), asyncio.Event()

    async def connected(self) -> None:
        self.begun.set()
        await self.logged_in.wait()

    async def send(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent:
        if not self.logged_in.is_set():
            raise TryLater("not there yet")
        return await super().send(outbound, conversation=conversation, target=target)


async def test_what_waits_is_not_tried_before_a_connector_has_connected(office: Office) -> None:
    async with office.open():
        pass
    await office.put("waiting")
    slow = Slow(office.server)
    async with office.open({"memory": slow}) as delivery:
        await slow.begun.wait()
        await office.put("more", to="another room")
        await delivery.idle()  # everything that could be sent was
        slow.logged_in.set()
        assert (await office.until_state("waiting", "sent")).attempts == 1


async def test_a_connector_that_fails_is_started_again_until_it_works(office: Office) -> None:
    other = MemoryServer()
    fragile = Fragile(other, NotReady("no route"), RuntimeError("a bug"), NotReady("no route"))
    async with office.open({"memory": MemoryConnector(server=office.server), "fragile": fragile}):
        office.server.post("meanwhile")
        await office.server.until(lambda: office.server.texts())
        await office.put("a", connector="fragile")
        await other.until(lambda: other.texts() == ["a"])
    assert fragile.starts == 4


async def test_a_connector_that_needs_a_person_stays_down_and_says_why(office: Office) -> None:
    other = MemoryServer()
    fragile = Fragile(other, NeedsPerson("The access token is not valid. Log in again."))
    async with office.open({"memory": MemoryConnector(server=office.server), "fragile": fragile}) as delivery:
        await office.put("waits", connector="fragile")
        office.server.post("hello")
        await office.server.until(lambda: office.server.texts() == ["re: hello"])

        async def down() -> bool:
            return "Log in again" in (await delivery.health())["fragile"].detail

        await office.until(down)
        assert fragile.starts == 1
        assert (await delivery.health())["fragile"].reachable is False
        assert (await delivery.health())["memory"].reachable is True
        assert other.wire == []


async def test_a_connector_that_comes_to_its_end_still_says_what_waits(office: Office) -> None:
    class Short(MemoryConnector):
        def subscribe(self, sink: Sink) -> None:
            self.sink = sink

        async def start(self, cursor: str | None) -> None:
            await self.sink(Batch(events=(event(1, text="last words"),), cursor="1"))

    async with office.open({"memory": Short(server=office.server)}) as delivery:
        await office.server.until(lambda: office.server.texts() == ["re: last words"])
        assert "end" in (await delivery.health())["memory"].detail


async def test_the_health_of_what_could_not_be_made_is_shown(office: Office) -> None:
    broken = Health(kind="matrix", reachable=None, authenticated=None, last_seen=None, detail="No such module.")
    async with office.open(broken={"matrix": broken}) as delivery:
        found = await delivery.health()
    assert found["matrix"] == broken
    assert set(found) == {"matrix", "memory"}


async def test_a_connector_whose_health_and_end_break_hurts_nobody(office: Office) -> None:
    class Rude(MemoryConnector):
        async def health(self) -> Health:
            raise RuntimeError("a bug")

        async def stop(self) -> None:
            raise RuntimeError("another bug")

    async with office.open({"memory": Rude(server=office.server)}) as delivery:
        assert (await delivery.health())["memory"].reachable is None


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
async def test_many_events_are_all_answered_in_order(office: Office, count: int) -> None:
    async with office.open():
        pass
    for number in range(count):
        office.server.post(f"{number}", conversation=f"room {number % 20}")
    async with office.open() as delivery:
        await office.server.until(lambda: len(office.server.said) == count, limit=60)
        await delivery.idle()
    for room in range(20):
        assert office.server.texts(f"room {room}") == [f"re: {number}" for number in range(room, count, 20)]
    assert len(office.server.wire) == count


async def test_what_waits_for_a_connector_that_is_not_there_any_more_is_given_up_in_the_end(office: Office) -> None:
    now = [time.time()]
    async with office.open(clock=lambda: now[0]) as delivery:
        async with office.store.write(STEP) as tx:
            for name, keys in (("gone", range(3)), ("memory", range(1))):
                for number in keys:
                    said = Outbound(
                        key=f"{name}/{number}", connector=name, conversation="room", content=Message(text="late")
                    )
                    await outbox.put(tx, said, now[0])
        delivery.wake()
        await delivery.idle()
        assert await delivery.abandon() == 0
        async with office.store.read() as tx:
            assert {name: count for name, (count, _) in (await outbox.waiting(tx)).items()} == {"gone": 3}
        now[0] += QUICK.give_up_after + 1
        assert await delivery.abandon() == 3
        async with office.store.read() as tx:
            dead = await outbox.dead_letters(tx)
            assert await outbox.waiting(tx) == {}
        assert {row.detail for row in dead} == {"the connector gone is not configured"}
        assert sorted(row.key for row in dead) == ["gone/0", "gone/1", "gone/2"]
