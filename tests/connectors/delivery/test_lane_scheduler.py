"""What goes next: in order where order matters, the urgent first, the needless never."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.contract.messages import (
    Capabilities,
    File,
    Message,
    OpenThread,
    Outbound,
    OutboundContent,
    Priority,
    React,
    Replace,
    Retitle,
    Sent,
)
from connectors.delivery.lane import Backoff
from connectors.delivery.lane_scheduler import Lanes
from connectors.delivery.outbox import OutboxRowState, Row
from connectors.delivery.send_decision import Attempt, SendDecision
from connectors.delivery.send_rate_limiter import SendRateLimiter
from connectors.memory import ALL_CAPABILITIES

SCOPE = "device-1"


class Desk:
    """Rows in, choices out; keeps the clock and what was decided."""

    def __init__(self, *, rate: float | None = None, burst: int = 10, can: Capabilities = ALL_CAPABILITIES) -> None:
        self.now = 1_000_000.0
        self.lanes = Lanes(
            can, SendRateLimiter(rate, burst, self.now), backoff=Backoff(give_up_after=3600.0), rng=lambda: 0.5
        )
        self.count = 0
        self.superseded: dict[str, str] = {}
        self.dead: dict[str, str] = {}
        self.rewritten: dict[str, Row] = {}

    def add(
        self,
        key: str,
        content: OutboundContent | None = None,
        *,
        to: str | None = "room",
        thread_of: str | None = None,
        priority: Priority = Priority.REPLY,
        **known: Any,
    ) -> Row:
        self.count += 1
        outbound = Outbound(
            key=key,
            connector="memory",
            conversation=None if thread_of else to,
            thread_of=thread_of,
            content=content or Message(text=key),
            priority=priority,
        )
        row = Row(seq=self.count, outbound=outbound, state="pending", created_at=self.now, **known)
        self.lanes.add(row, self.now)
        return row

    def choose(self, room: int = 100) -> list[str]:
        return [attempt.row.key for attempt in self.attempts(room)]

    def attempts(self, room: int = 100) -> list[Attempt]:
        return self.note(self.lanes.choose(self.now, room=room, scope=SCOPE)).attempts

    def note(self, choice: SendDecision) -> SendDecision:
        self.superseded.update({row.key: reason for row, reason in choice.superseded})
        self.dead.update({row.key: reason for row, reason in choice.dead})
        self.rewritten.update({row.key: row for row in choice.rewritten})
        return choice

    def sent(self, *keys: str, conversation: str | None = None) -> None:
        for key in keys:
            self.lanes.sent(key, Sent(event_id=f"${key}", conversation=conversation), self.now)

    def later(self, key: str, *, after: float | None = None, limited: bool = False) -> float:
        return self.lanes.later(key, self.now, after=after, limited=limited, detail="no route") - self.now

    def deliver_all(self) -> list[str]:
        """Everything that goes without failures, in the order in which it was sent."""
        order: list[str] = []
        while attempts := self.attempts():
            for attempt in attempts:
                order.append(attempt.row.key)
                opens = isinstance(attempt.outbound.content, OpenThread)
                self.sent(attempt.row.key, conversation=f"thread {attempt.row.key}" if opens else None)
        return order


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- order -------------------------------------------------------------------------------------------------------


def test_one_conversation_is_told_one_thing_at_a_time_in_order(desk: Desk) -> None:
    for key in "abc":
        desk.add(key)
    assert desk.choose() == ["a"]
    assert desk.choose() == []
    desk.sent("a")
    assert desk.choose() == ["b"]


def test_conversations_do_not_wait_for_one_another(desk: Desk) -> None:
    desk.add("a", to="one")
    desk.add("b", to="two")
    assert desk.choose() == ["a", "b"]


def test_the_most_urgent_goes_first_then_the_oldest(desk: Desk) -> None:
    desk.add("progress", to="1", priority=Priority.PROGRESS)
    desk.add("old reply", to="2")
    desk.add("reply", to="3")
    desk.add("approval", to="4", priority=Priority.APPROVAL)
    assert desk.choose(room=3) == ["approval", "old reply", "reply"]


def test_what_waits_in_front_of_something_urgent_is_urgent(desk: Desk) -> None:
    desk.add("other", to="other", priority=Priority.REPLY)
    desk.add("first", priority=Priority.RECEIPT)
    desk.add("approval", priority=Priority.APPROVAL)
    assert desk.choose(room=1) == ["first"]


def test_no_more_go_at_once_than_there_is_room_for(desk: Desk) -> None:
    for number in range(10):
        desk.add(f"{number}", to=f"{number}")
    assert len(desk.choose(room=4)) == 4
    assert desk.lanes.in_flight == 4


# --- threads and targets -----------------------------------------------------------------------------------------


def test_files_leave_room_for_words(desk: Desk) -> None:
    for number in range(5):
        desk.add(f"file {number}", File(path="/f", name="f", media_type="text/plain", caption=""), to=f"room {number}")
    desk.add("words", to="another room")
    assert desk.choose(room=8) == ["file 0", "file 1", "file 2", "words"]
    assert desk.lanes.next_at(desk.now) is None, "nothing but the end of an upload lets the next begin"
    desk.sent("file 1")
    assert desk.choose(room=8) == ["file 3"]
    desk.lanes.later("file 0", desk.now, after=None, limited=False, detail="it hung")
    assert desk.choose(room=8) == ["file 4"]


def test_what_belongs_in_a_thread_waits_until_it_is_open(desk: Desk) -> None:
    desk.add("opener", OpenThread(title="coder0", message=Message(text="here")))
    desk.add("hello", thread_of="opener")
    assert desk.choose() == ["opener"]
    desk.sent("opener", conversation="thread 1")
    (attempt,) = desk.attempts()
    assert (attempt.row.key, attempt.conversation) == ("hello", "thread 1")


def test_a_thread_keeps_its_order_however_it_is_addressed(desk: Desk) -> None:
    desk.add("opener", OpenThread(title="coder0", message=Message(text="here")))
    desk.add("first", thread_of="opener")
    desk.add("second", thread_of="opener")
    assert desk.choose() == ["opener"]
    desk.sent("opener", conversation="thread 1")
    desk.add("third", to="thread 1")
    assert desk.deliver_all() == ["first", "second", "third"]


def test_a_thread_that_was_opened_long_ago_is_looked_up(desk: Desk) -> None:
    desk.add("hello", thread_of="opener")
    assert desk.choose() == []
    assert desk.lanes.unknown() == {"opener"}
    desk.lanes.learn(
        "opener", OutboxRowState(state="sent", conversation="room", made_conversation="thread 1"), desk.now
    )
    assert desk.lanes.unknown() == set()
    assert [attempt.conversation for attempt in desk.attempts()] == ["thread 1"]


def test_what_belongs_in_a_thread_that_never_opened_goes_to_its_openers_place(desk: Desk) -> None:
    desk.add("opener", OpenThread(title="coder0", message=Message(text="here")))
    desk.add("hello", thread_of="opener")
    assert desk.choose() == ["opener"]
    desk.lanes.died("opener", desk.now)
    assert [attempt.conversation for attempt in desk.attempts()] == ["room"]


@pytest.mark.parametrize(("made", "text"), [("thread 1", "hello"), (None, "**coder0**:\n\nhello")])
def test_where_no_thread_shows_whose_words_these_are_they_begin_with_the_name(
    desk: Desk, made: str | None, text: str
) -> None:
    desk.add("hello", Message(text="hello", byline="coder0"), thread_of="opener")
    desk.choose()
    desk.lanes.learn("opener", OutboxRowState(state="sent", conversation="room", made_conversation=made), desk.now)
    (attempt,) = desk.attempts()
    assert isinstance(attempt.outbound.content, Message)
    assert attempt.outbound.content.text == text


def test_what_belongs_in_a_thread_that_nobody_opens_is_dead(desk: Desk) -> None:
    desk.add("hello", thread_of="opener")
    desk.lanes.learn("opener", OutboxRowState(state="missing"), desk.now)
    assert desk.choose() == []
    assert "opener" in desk.dead["hello"]


def test_a_reaction_to_our_own_message_waits_for_it_and_gets_its_event(desk: Desk) -> None:
    desk.add("question")
    desk.add("yes", React(target="question", key="y", own=True))
    assert desk.choose() == ["question"]
    desk.sent("question")
    assert [(attempt.row.key, attempt.target) for attempt in desk.attempts()] == [("yes", "$question")]


def test_what_others_wait_for_is_as_urgent_as_they_are(desk: Desk) -> None:
    desk.add("other", to="other", priority=Priority.RECEIPT)
    desk.add("question", priority=Priority.PROGRESS)
    desk.add("yes", React(target="question", key="y", own=True), priority=Priority.APPROVAL)
    assert desk.choose(room=1) == ["question"]


def test_a_change_of_a_dead_message_is_dead_too(desk: Desk) -> None:
    desk.add("message")
    assert desk.choose() == ["message"]
    desk.add("change", Replace(target="message", message=Message(text="new")))
    desk.lanes.died("message", desk.now)
    assert desk.choose() == []
    assert "message" in desk.dead["change"]
    assert len(desk.lanes) == 0


def test_a_retried_message_takes_its_changes_along(desk: Desk) -> None:
    desk.lanes.learn("message", OutboxRowState(state="dead", conversation="room"), desk.now)
    desk.add("message", attempts=3, first_attempt_at=1.0, attempt_scope=SCOPE)
    desk.add("change", Replace(target="message", message=Message(text="new")))
    assert desk.deliver_all() == ["message", "change"]


# --- what something newer makes needless -------------------------------------------------------------------------


def test_of_several_changes_only_the_newest_goes(desk: Desk) -> None:
    desk.add("message")
    assert desk.choose() == ["message"]
    for number in range(5):
        desk.add(f"change {number}", Replace(target="message", message=Message(text=f"{number}")))
    desk.sent("message")
    assert desk.deliver_all() == ["change 4"]
    assert set(desk.superseded) == {f"change {number}" for number in range(4)}


def test_a_change_of_what_was_never_tried_is_said_from_the_beginning(desk: Desk) -> None:
    desk.add("message", Message(text="working", reply_to="$q"), priority=Priority.PROGRESS)
    desk.add("change", Replace(target="message", message=Message(text="done")), priority=Priority.FINAL)
    (attempt,) = desk.attempts()
    assert attempt.outbound.content == Message(text="done", reply_to="$q")
    assert attempt.outbound.priority is Priority.FINAL
    assert set(desk.superseded) == {"change"}
    assert desk.rewritten["message"].outbound == attempt.outbound


def test_marks_that_answer_a_question_are_left_out_when_it_is_over_before_it_was_said(desk: Desk) -> None:
    desk.add("q", Message(text="may I?"))
    desk.add("q/yes", React(target="q", key="✅", own=True))
    desk.add("q/closed", Replace(target="q", message=Message(text="you may"), final=True))
    desk.add("q/done", React(target="q", key="☑️", own=True))
    assert desk.choose() == ["q"]
    assert desk.superseded["q/yes"] == "q/closed has the last word"
    desk.sent("q")
    assert desk.choose() == ["q/done"]


def test_a_change_of_what_may_stand_already_is_sent_on_its_own(desk: Desk) -> None:
    desk.add("message", attempts=1, first_attempt_at=desk.now, attempt_scope=SCOPE)
    desk.add("change", Replace(target="message", message=Message(text="done")))
    assert desk.deliver_all() == ["message", "change"]


def test_the_final_word_is_not_written_over_by_progress(desk: Desk) -> None:
    desk.lanes.learn("message", OutboxRowState(state="sent", event_id="$m", conversation="room"), desk.now)
    desk.add("final", Replace(target="message", message=Message(text="done"), final=True))
    desk.add("progress", Replace(target="message", message=Message(text="...")), priority=Priority.PROGRESS)
    assert desk.choose() == ["final"]
    desk.add("more", Replace(target="message", message=Message(text="...")), priority=Priority.PROGRESS)
    desk.sent("final")
    assert desk.deliver_all() == []
    assert set(desk.superseded) == {"progress", "more"}


def test_a_change_that_failed_gives_way_to_a_newer_one(desk: Desk) -> None:
    desk.lanes.learn("message", OutboxRowState(state="sent", event_id="$m", conversation="room"), desk.now)
    desk.add("old", Replace(target="message", message=Message(text="old")))
    assert desk.choose() == ["old"]
    desk.add("new", Replace(target="message", message=Message(text="new")))
    desk.now += desk.later("old")
    assert desk.deliver_all() == ["new"]
    assert set(desk.superseded) == {"old"}


def test_progress_is_shown_at_most_once_a_second_and_the_end_at_once(desk: Desk) -> None:
    desk.lanes.learn("message", OutboxRowState(state="sent", event_id="$m", conversation="room"), desk.now)

    def change(key: str, *, final: bool = False) -> None:
        priority = Priority.FINAL if final else Priority.PROGRESS
        desk.add(key, Replace(target="message", message=Message(text=key), final=final), priority=priority)

    change("1")
    assert desk.deliver_all() == ["1"]
    desk.now += 0.5
    change("2")
    assert desk.choose() == []
    assert desk.lanes.next_at(desk.now) == pytest.approx(desk.now + 0.5)
    change("3")
    desk.now += 0.5
    assert desk.deliver_all() == ["3"]
    desk.now += 0.1
    change("4")
    change("5", final=True)
    assert desk.deliver_all() == ["5"]


def receipts(desk: Desk) -> None:
    for mark in ("journaled", "accepted", "finished"):
        desk.add(mark, React(target="$operator", key=mark), priority=Priority.RECEIPT)


def test_every_receipt_is_shown_while_there_is_room(desk: Desk) -> None:
    receipts(desk)
    assert desk.deliver_all() == ["journaled", "accepted", "finished"]


def test_only_the_newest_receipt_is_shown_when_room_is_scarce() -> None:
    desk = Desk(rate=0.2, burst=10)
    for number in range(6):
        desk.add(f"{number}", to=f"{number}")
    desk.deliver_all()
    receipts(desk)
    assert desk.deliver_all() == ["finished"]
    assert set(desk.superseded) == {"journaled", "accepted"}


# --- pace --------------------------------------------------------------------------------------------------------


def test_under_synapses_default_limit_approvals_and_replies_go_before_progress() -> None:
    desk = Desk(rate=0.2, burst=10)
    for number in range(20):
        name = f"agent {number}"
        desk.lanes.learn(name, OutboxRowState(state="sent", event_id=f"${name}", conversation="room"), desk.now)
        desk.add(f"progress {number}", Replace(target=name, message=Message(text="...")), priority=Priority.PROGRESS)
    shown = desk.deliver_all()
    assert len(shown) == 5
    desk.add("approval", to="a", priority=Priority.APPROVAL)
    desk.add("reply", to="b")
    assert desk.deliver_all() == ["approval", "reply"]
    for number in range(10):
        desk.add(f"reply {number}", to=f"{number}")
    order = desk.deliver_all()
    while len(desk.lanes):
        moment = desk.lanes.next_at(desk.now)
        assert moment is not None
        desk.now = moment
        order += desk.deliver_all()
    assert order[:10] == [f"reply {number}" for number in range(10)]
    assert len(order) == 25


def test_a_refusal_for_the_limit_stops_all_lanes_and_loses_nothing(desk: Desk) -> None:
    desk.add("a", to="one")
    desk.add("b", to="two")
    assert desk.choose(room=1) == ["a"]
    assert desk.later("a", after=5.0, limited=True) == pytest.approx(5.0)
    assert desk.choose() == []
    assert desk.lanes.next_at(desk.now) == pytest.approx(desk.now + 5.0)
    desk.now += 5.0
    assert desk.choose() == ["a"]


# --- failures ----------------------------------------------------------------------------------------------------


def test_a_failure_holds_up_only_its_own_lane(desk: Desk) -> None:
    desk.add("a", to="dead")
    desk.add("a2", to="dead")
    desk.add("b", to="alive")
    assert desk.choose() == ["a", "b"]
    desk.later("a")
    desk.sent("b")
    desk.add("b2", to="alive")
    assert desk.choose() == ["b2"]


def test_a_lane_that_keeps_failing_waits_longer_each_time(desk: Desk) -> None:
    desk.add("a")
    waits = []
    for _ in range(9):
        assert desk.choose() == ["a"]
        wait = desk.later("a")
        waits.append(wait)
        desk.now += wait - 0.01
        assert desk.choose() == []
        desk.now += 0.02
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_server_that_names_a_time_is_not_asked_before(desk: Desk) -> None:
    desk.add("a")
    desk.choose()
    assert desk.later("a", after=300.0) == 300.0


def test_a_server_that_names_a_short_time_is_asked_right_then_and_ever_later_if_it_goes_on_so(desk: Desk) -> None:
    desk.add("a")
    waits = []
    for _ in range(8):
        assert desk.choose() == ["a"]
        waits.append(round(desk.later("a", after=0.3), 3))
        desk.now += waits[-1] + 0.001
    assert waits == [0.3, 0.3, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_where_the_server_named_a_time_being_back_is_no_reason_to_ask_sooner(desk: Desk) -> None:
    desk.add("a")
    desk.choose()
    desk.later("a", after=300.0)
    desk.lanes.hurry(desk.now)
    assert desk.choose() == []


def test_when_the_line_is_back_nothing_waits_for_its_back_off(desk: Desk) -> None:
    for key in "abc":
        desk.add(key, to=key)
    for key in desk.choose():
        desk.later(key)
    assert desk.choose() == []
    desk.lanes.hurry(desk.now)
    assert desk.choose() == ["a", "b", "c"]


def test_one_success_after_several_lanes_failed_lets_all_try_again(desk: Desk) -> None:
    for key in "abc":
        desk.add(key, to=key)
    for key in desk.choose():
        desk.later(key)
    desk.add("d", to="d")
    assert desk.choose() == ["d"]
    desk.sent("d")
    assert desk.choose() == ["a", "b", "c"]


def test_what_is_too_old_is_given_up_with_the_last_reason(desk: Desk) -> None:
    desk.add("a")
    desk.choose()
    desk.later("a")
    desk.now += 3601
    desk.add("b")
    assert desk.choose() == ["b"]
    assert desk.dead == {"a": "given up after 1 h: no route"}


def test_what_is_too_old_is_given_up_while_the_connector_is_away(desk: Desk) -> None:
    desk.add("a")
    desk.add("b", Replace(target="x", message=Message(text="...")), priority=Priority.PROGRESS)
    desk.now += 3601
    desk.add("c")
    desk.note(desk.lanes.expire(desk.now))
    assert set(desk.dead) == {"a"}
    assert set(desk.superseded) == {"b"}
    assert desk.choose() == ["c"]


def test_the_last_word_on_a_message_that_came_too_late_is_said_as_a_message(desk: Desk) -> None:
    desk.add("answer", priority=Priority.PROGRESS)
    assert desk.choose() == ["answer"]
    desk.later("answer")
    desk.now += 3601
    assert desk.choose() == []
    assert set(desk.superseded) == {"answer"}
    desk.add("more", Replace(target="answer", message=Message(text="...")), priority=Priority.PROGRESS)
    desk.add("end", Replace(target="answer", message=Message(text="done"), final=True), priority=Priority.FINAL)
    (attempt,) = desk.attempts()
    assert (attempt.row.key, attempt.conversation) == ("end", "room")
    assert attempt.outbound.content == Message(text="done")
    desk.sent("end")
    assert desk.dead == {}


def test_a_clock_that_is_set_back_does_not_stop_a_lane(desk: Desk) -> None:
    desk.add("a")
    desk.choose()
    desk.later("a", after=3000.0)
    desk.now -= 100_000
    desk.choose()
    desk.now += 61
    assert desk.choose() == ["a"]


# --- names of threads --------------------------------------------------------------------------------------------


NAMED = replace(ALL_CAPABILITIES, titles=True)


def opened(desk: Desk, *, as_a_thread: bool = True) -> None:
    """The thread that `open` opens stands, or that message stands without one."""
    desk.add("open", OpenThread(title="coder0", message=Message(text="up")))
    assert desk.choose() == ["open"]
    desk.sent("open", conversation="thread open" if as_a_thread else "room")


def test_a_name_that_must_wait_holds_up_nothing_and_only_the_newest_is_given() -> None:
    desk = Desk(can=NAMED)
    opened(desk)
    desk.add("n1", Retitle(title="one"), thread_of="open")
    assert desk.choose() == ["n1"]
    desk.later("n1", after=300.0)
    desk.add("hello", thread_of="open")
    desk.add("n2", Retitle(title="two"), thread_of="open")
    desk.add("n3", Retitle(title="three"), thread_of="open")
    assert desk.choose() == ["hello"]
    assert set(desk.superseded) == {"n1", "n2"}
    desk.now += 301.0
    assert desk.choose() == ["n3"]


def test_a_thread_is_put_away_after_the_last_word_in_it() -> None:
    desk = Desk(can=NAMED)
    desk.add("early", thread_of="open")
    opened(desk)
    desk.add("bye", Retitle(title="done", archived=True), thread_of="open")
    desk.add("late", to="thread open")
    desk.add("elsewhere", to="room")
    assert set(desk.choose()) == {"early", "elsewhere"}
    desk.add("edit", Replace(target="early", message=Message(text="!")), thread_of="open")
    desk.sent("early", "elsewhere")
    assert desk.choose() == ["late", "edit"]
    desk.sent("late")
    assert desk.choose() == []
    desk.sent("edit")
    assert desk.choose() == ["bye"]


def test_a_name_that_is_only_a_name_waits_for_no_words() -> None:
    desk = Desk(can=NAMED)
    opened(desk)
    desk.add("hello", thread_of="open")
    desk.add("name", Retitle(title="working"), thread_of="open")
    assert set(desk.choose()) == {"hello", "name"}


@pytest.mark.parametrize("dead", [True, False])
def test_nothing_is_renamed_where_no_thread_opened(dead: bool) -> None:
    desk = Desk(can=NAMED)
    desk.add("name", Retitle(title="working"), thread_of="open")
    if dead:
        desk.add("open", OpenThread(title="coder0", message=Message(text="up")))
        desk.choose()
        desk.lanes.died("open", desk.now)
    else:
        opened(desk, as_a_thread=False)
    assert desk.choose() == []
    assert "name" in desk.superseded
    assert not desk.dead


def test_names_are_left_out_where_threads_have_none(desk: Desk) -> None:
    opened(desk)
    desk.add("name", Retitle(title="working"), thread_of="open")
    assert desk.choose() == []
    assert "name" in desk.superseded


# --- what may stand already --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "scope", "remembers", "looks"),
    [
        (10.0, SCOPE, 86400.0, False),
        (86400.0 - 59.0, SCOPE, 86400.0, True),
        (10.0, "device-0", 86400.0, True),
        (10.0, SCOPE, None, True),
        (-10.0, SCOPE, 86400.0, True),
    ],
)
def test_an_old_attempt_is_looked_for_when_its_key_may_be_forgotten(
    age: float, scope: str, remembers: float | None, *, looks: bool
) -> None:
    desk = Desk(can=replace(ALL_CAPABILITIES, remembers_keys=remembers))
    desk.add("old", attempts=1, first_attempt_at=desk.now - age, attempt_scope=scope)
    desk.add("fresh", to="elsewhere")
    assert {attempt.row.key: attempt.look_first for attempt in desk.attempts()} == {"old": looks, "fresh": False}


# --- what a chat system cannot do --------------------------------------------------------------------------------


def test_a_chat_system_that_can_do_little_is_given_what_it_can_show() -> None:
    desk = Desk(can=Capabilities())
    desk.add("thread", OpenThread(title="coder0", message=Message(text="here")))
    desk.add("in it", thread_of="thread")
    desk.add("file", File(path="/f", name="f", media_type="text/plain", caption="see f"))
    desk.add("heart", React(target="$x", key="h"))
    shown = []
    while attempts := desk.attempts():
        for attempt in attempts:
            shown.append((attempt.conversation, attempt.outbound.content))
            desk.sent(attempt.row.key)
    assert ("room", Message(text="here")) in shown
    assert ("room", Message(text="in it")) in shown
    assert ("room", Message(text="see f")) in shown
    assert set(desk.superseded) == {"heart"}


def test_without_edits_the_final_text_is_a_message_of_its_own() -> None:
    desk = Desk(can=Capabilities())
    desk.lanes.learn("m", OutboxRowState(state="sent", event_id="$m", conversation="room"), desk.now)
    desk.add("progress", Replace(target="m", message=Message(text="...")), priority=Priority.PROGRESS)
    assert desk.attempts() == []
    desk.add("final", Replace(target="m", message=Message(text="done"), final=True))
    assert [attempt.outbound.content for attempt in desk.attempts()] == [Message(text="done")]


# --- whatever happens --------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32))
def test_everything_ends_and_keeps_its_order_whatever_fails(seed: int) -> None:
    """Each row is sent once, dead or superseded; messages of a place keep their order; the newest change wins."""
    rng = random.Random(seed)
    desk = Desk(rate=rng.choice([None, 0.2, 5.0]), burst=rng.choice([1, 10]))
    openers = ["o0", "o1"]
    targets: list[str] = []
    sent: list[str] = []
    flying: list[Attempt] = []
    added: dict[str, Row] = {}

    def add() -> None:
        if desk.count < len(openers):
            opener = openers[desk.count]
            added[opener] = desk.add(opener, OpenThread(title="t", message=Message(text="t")))
            return
        key = f"k{desk.count}"
        place = rng.choice(["room", "side", *openers])
        where: dict[str, Any] = {"thread_of": place} if place in openers else {"to": place}
        if targets and rng.random() < 0.4:
            target = rng.choice(targets)
            priority = rng.choice([Priority.PROGRESS, Priority.FINAL])
            content: OutboundContent = Replace(target=target, message=Message(text=key))
            if rng.random() < 0.3:
                content, priority = React(target=target, key="x", own=True), Priority.RECEIPT
            added[key] = desk.add(key, content, priority=priority)
        elif rng.random() < 0.2:
            content = React(target=f"${rng.randrange(3)}", key=key)
            added[key] = desk.add(key, content, priority=Priority.RECEIPT)
        else:
            targets.append(key)
            added[key] = desk.add(key, priority=rng.choice(list(Priority)), **where)

    def land(attempt: Attempt) -> None:
        key, chance = attempt.row.key, rng.random()
        if chance < 0.2:
            desk.later(key, limited=rng.random() < 0.3, after=rng.choice([None, 1.0]))
        elif chance < 0.25:
            desk.dead[key] = "refused"
            desk.lanes.died(key, desk.now)
        else:
            sent.append(key)
            made = f"thread {key}" if key in openers else None
            desk.sent(key, conversation=made)

    for _ in range(60):
        if rng.random() < 0.6 or desk.count < 2:
            add()
        if flying and rng.random() < 0.5:
            land(flying.pop(rng.randrange(len(flying))))
        if rng.random() < 0.5:
            flying += desk.attempts(room=3)
        desk.now += rng.choice([0.0, 0.3, 2.0])
    for _ in range(3000):
        if not len(desk.lanes):
            break
        flying += desk.attempts(room=3)
        if flying:
            land(flying.pop(rng.randrange(len(flying))))
        else:
            moment = desk.lanes.next_at(desk.now)
            assert moment is not None, f"stuck with {len(desk.lanes)} rows, seed {seed}"
            desk.now = max(desk.now, moment)
    desk.note(desk.lanes.take())

    assert len(sent) == len(set(sent))
    ends = [set(sent), set(desk.dead), set(desk.superseded)]
    assert set().union(*ends) == set(added)
    assert sum(len(end) for end in ends) == len(added)
    for place in ("room", "side", *openers):
        messages = [
            key
            for key in sent
            if isinstance(added[key].outbound.content, Message)
            and (added[key].outbound.conversation or added[key].outbound.thread_of) == place
        ]
        assert messages == sorted(messages, key=lambda key: added[key].seq)
    for target in targets:
        changes = [
            key
            for key, row in added.items()
            if isinstance(row.outbound.content, Replace) and row.outbound.content.target == target
        ]
        delivered = [key for key in changes if key in sent]
        assert delivered == sorted(delivered, key=lambda key: added[key].seq)
        if changes and target in sent:
            newest = changes[-1]
            folded = target in desk.rewritten and f"{target} says it" in desk.superseded.get(newest, "")
            assert newest in sent or newest in desk.dead or folded
