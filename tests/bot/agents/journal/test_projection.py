"""What operators are told of a journal: everything once, and the same however often it is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.agents.journal.projection import (
    AgentCondition,
    AsideOver,
    Called,
    CallOver,
    Effect,
    Fell,
    Handover,
    JournalProjection,
    Note,
    Progress,
    Receipt,
    digest,
)
from bot.approvals.requests import AskPermission, Settle
from bot.commands.syntax import written
from core.redaction import SecretMasker
from fleet.journal import events
from fleet.journal.events import Event, JournalEntry, JournalPosition

OPENED = events.Opened(agent="coder0", launch_id="l1", marker="m", pid=1, protocol=1)
READY = events.RuntimeStarted(pid=2, session="s", loaded=False)
LOG_OF_STDERR = "All of its standard error is in `STATE/agents/coder0/runtime.log`."
DIED = events.RuntimeDied(reason="The runtime died.", stderr="Killed\n")
CLOSING = events.Closing(reason="asked to stop")


def started(turn: str = "1") -> Event:
    return events.TurnStarted(turn=turn, message=f"m{turn}", session="s")


def said(text: str, turn: str = "1") -> Event:
    return events.TextChunk(turn=turn, text=text)


def ended(turn: str = "1", reason: str = "end_turn", **more: Any) -> Event:
    return events.TurnEnded(turn=turn, message=f"m{turn}", stop_reason=reason, **more)


def asked(request: str = "1") -> events.PermissionAsked:
    return events.PermissionAsked(
        request=request, turn="1", session="s", digest="d", title="ls", detail="ls", options=(), expires_at=60
    )


def answered(request: str = "1", outcome: str = "selected") -> events.PermissionAnswered:
    return events.PermissionAnswered(request=request, outcome=outcome)


def journal(happened: Iterable[Event]) -> list[JournalEntry]:
    """Entries at rising positions; each `Opened` begins an incarnation."""
    result, position = list[JournalEntry](), JournalPosition(1, 0)
    for event in happened:
        begins = isinstance(event, events.Opened) and position.seq > 0
        position = (
            JournalPosition(position.incarnation + 1, 1)
            if begins
            else JournalPosition(position.incarnation, position.seq + 1)
        )
        result.append(JournalEntry(position=position, at=100.0 + len(result), event=event))
    return result


def read(
    entries: Iterable[JournalEntry], projection: JournalProjection | None = None
) -> tuple[JournalProjection, list[Effect]]:
    projection, effects = projection or JournalProjection("coder0"), list[Effect]()
    for entry in entries:
        projection, following = projection.after(entry)
        effects += following
    return projection, effects


def told(*happened: Event) -> list[Effect]:
    return read(journal(happened))[1]


def notes(effects: Iterable[Effect]) -> list[str]:
    return [effect.text for effect in effects if isinstance(effect, Note)]


def finals(effects: Iterable[Effect]) -> list[str]:
    return [effect.view.text for effect in effects if isinstance(effect, Progress) and effect.final]


def receipts(effects: Iterable[Effect]) -> list[tuple[str, str]]:
    return [(effect.message, effect.state) for effect in effects if isinstance(effect, Receipt)]


TURNS = st.sampled_from("123")
ANY = st.one_of(
    st.sampled_from(
        [OPENED, READY, DIED, CLOSING, events.RuntimeFailed(reason="no"), events.Noise(lines=3, sample="`x")]
    ),
    st.builds(started, TURNS),
    st.builds(said, st.sampled_from(["a", "b ", "\n"]), TURNS),
    st.builds(
        ended, TURNS, st.sampled_from(["end_turn", "cut", "error", "cancelled", "other"]), accepted=st.booleans()
    ),
    st.builds(asked, TURNS),
    st.builds(answered, TURNS),
    st.builds(lambda turn: events.ToolCall(turn=turn, call="c", title="ls"), TURNS),
    st.builds(lambda turn: events.MessageQueued(id=f"m{turn}", text="x"), TURNS),
    st.builds(lambda turn: events.TurnAccepted(turn=turn, message=f"m{turn}"), TURNS),
    st.just(events.Unknown(kind="of the future", fields={})),
)
JOURNALS = st.lists(ANY, max_size=40).map(journal)


# --- any journal -------------------------------------------------------------------------------------------------


@given(JOURNALS)
def test_the_same_journal_tells_the_same(entries: list[JournalEntry]) -> None:
    assert read(entries) == read(entries)


@given(JOURNALS)
def test_no_two_notes_of_a_journal_share_a_key(entries: list[JournalEntry]) -> None:
    keys = [effect.key for effect in read(entries)[1] if isinstance(effect, Note)]
    assert len(set(keys)) == len(keys)


@given(JOURNALS, st.integers(0, 40))
def test_who_goes_on_after_a_kill_tells_the_rest_alike(entries: list[JournalEntry], cut: int) -> None:
    projection, _ = read(entries[:cut])
    seen = [entry for entry in entries[:cut] if entry.position > projection.view_start]
    again, _ = read(seen, JournalProjection("coder0", position=projection.view_start, view_start=projection.view_start))
    assert again.view == projection.view
    going_on = JournalProjection(
        "coder0", projection.position, projection.view_start, again.view, projection.launch_id, projection.over
    )
    assert read(entries[cut:], going_on) == read(entries[cut:], projection)


@given(JOURNALS)
def test_the_story_stands_where_the_journal_ends(entries: list[JournalEntry]) -> None:
    projection, _ = read(entries)
    assert projection.position == (entries[-1].position if entries else JournalPosition())
    assert projection.view_start <= projection.position


@given(JOURNALS)
def test_the_journal_tells_how_it_ended_exactly_when_its_last_incarnation_does(entries: list[JournalEntry]) -> None:
    ends = (events.Closing, events.RuntimeDied, events.RuntimeFailed)
    last = [entry.event for entry in entries if isinstance(entry.event, (events.Opened, *ends))]
    assert read(entries)[0].over == (not any(isinstance(event, events.Opened) for event in last[-1:]))


# --- lives -------------------------------------------------------------------------------------------------------


def fallen(effects: Iterable[Effect]) -> list[str]:
    return [effect.text for effect in effects if isinstance(effect, Fell)]


def conditions(effects: Iterable[Effect]) -> list[str]:
    return [effect.state for effect in effects if isinstance(effect, AgentCondition)]


def test_an_orderly_life_begins_and_ends_with_a_word() -> None:
    effects = told(OPENED, READY, CLOSING)
    assert conditions(effects) == ["starting", "idle", "stopped"]
    assert notes(effects) == ["▶ Ready, in a new conversation.", "⏹ Stopped: asked to stop."]


def test_whom_the_egress_ended_is_not_told_the_reason_twice() -> None:
    reason = "freeze: The budget of coder0 is used up. Opened by `muster budget set agent:coder0 LIMIT`."
    _, effects = read(journal([OPENED, READY, events.Closing(reason=reason)]))
    assert notes(effects) == ["▶ Ready, in a new conversation."], "bot.egress_client.event_import tells it"


def test_a_death_is_told_once_with_the_last_words() -> None:
    effects = told(OPENED, READY, DIED, CLOSING)
    assert conditions(effects) == ["starting", "idle", "failed"]
    assert fallen(effects) == [f"✖ The runtime died.\n\n```\nKilled\n```\n{LOG_OF_STDERR}"]
    assert notes(effects)[1:] == [], "what follows is told together with it"


def test_last_words_cannot_leave_their_block() -> None:
    (note,) = fallen(told(OPENED, events.RuntimeFailed(reason="It failed.", stderr="```\n# all is well")))
    assert note == f"✖ It failed.\n\n````\n```\n# all is well\n````\n{LOG_OF_STDERR}"


def test_going_on_in_a_new_file_is_no_new_life() -> None:
    more = events.Opened(agent="coder0", launch_id="l1", marker="m", pid=1, protocol=1, continues=True)
    projection, effects = read(journal([OPENED, READY, started(), said("a"), more, said("b")]))
    assert conditions(effects) == ["starting", "idle"]
    assert projection.view is not None
    assert projection.view.text == "ab"
    assert not projection.over


# --- turns -------------------------------------------------------------------------------------------------------


def test_a_turn_ends_with_its_whole_text_and_a_receipt() -> None:
    effects = told(
        OPENED, READY, events.TurnAccepted(turn="1", message="m1"), started(), said("Hel"), said("lo."), ended()
    )
    assert finals(effects) == ["Hello."]
    assert receipts(effects) == [("m1", "accepted"), ("m1", "finished")]
    assert notes(effects)[1:] == []


@pytest.mark.parametrize(
    ("end", "state", "word"),
    [
        (ended(reason="cancelled"), "cancelled", "cancelled"),
        (ended(reason="cancelled", steered=True), "steered", "!steer"),
        (ended(reason="max_tokens"), "finished", "limit of output tokens"),
        (ended(reason="refusal"), "finished", "refused"),
        (ended(reason="error", detail="Overloaded."), "failed", "Overloaded."),
        (ended(reason="error"), "failed", "no reason"),
        (ended(reason="cut"), "failed", "`!retry m1`"),
        (ended(reason="cut", accepted=False), "uncertain", "may have read it"),
        (ended(reason="invented\n# by a runtime"), "finished", "ended: `invented # by a runtime`."),
    ],
)
def test_a_turn_that_ends_otherwise_says_so_where_it_was_asked(end: Event, state: str, word: str) -> None:
    effects = told(OPENED, READY, started(), end)
    (note,) = [effect for effect in effects if isinstance(effect, Note) and effect.message == "m1"]
    assert word in written(note.text, "!")
    assert receipts(effects) == [("m1", state)]


REASON = "API Error: 403 The agent coder0 was cut off by ana. `muster restore coder0` opens it again."


def test_a_turn_that_failed_says_why_once_and_names_commands_as_they_are_typed_there() -> None:
    quoted = f"It answered with an error: ``Internal error: {REASON}``"
    *_, alone = notes(told(OPENED, READY, started(), ended(reason="error", detail=quoted)))
    assert "by ana. `!restore coder0` opens it again." in written(alone, "!")
    effects = told(OPENED, READY, started(), said(f"First.\n\n{REASON}"), ended(reason="error", detail=quoted))
    *_, short = notes(effects)
    assert written(short, "!") == "✖ The turn failed: the reason is above. Here it is `!restore coder0`."
    effects = told(OPENED, READY, started(), said("API Error: 403 The agent"), ended(reason="error", detail=quoted))
    *_, whole = notes(effects)
    assert "was cut off by ana" in whole, "a part of the reason is not the reason"
    (receipt,) = [each for each in effects if isinstance(each, Receipt) and each.state == "failed"]
    assert receipt.detail is not None
    assert quoted in receipt.detail, "the watchdog compares the causes"
    other = told(
        OPENED, READY, started(), said("Working on it, give me a moment."), ended(reason="error", detail=quoted)
    )
    assert "cut off by ana" in notes(other)[-1]


def test_what_was_said_before_a_death_is_told_by_the_next_life() -> None:
    effects = told(OPENED, READY, started(), said("half a "), OPENED, ended(reason="cut"), READY)
    assert finals(effects) == ["half a "]
    assert receipts(effects) == [("m1", "failed")]


def test_the_late_end_of_one_turn_does_not_end_another() -> None:
    projection, effects = read(journal([OPENED, started("1"), started("2"), said("two", "2"), ended("1")]))
    assert finals(effects) == []
    assert projection.view is not None
    assert projection.view.turn == "2"


def test_progress_shows_once_there_is_something_to_see() -> None:
    projection, _ = read(journal([OPENED, READY, started()]))
    assert projection.progress() is None
    projection, _ = projection.after(JournalEntry(position=JournalPosition(1, 4), at=1.0, event=said("a")))
    progress = projection.progress()
    assert progress is not None
    assert (progress.view.text, progress.final) == ("a", False)


# --- permissions and the rest ------------------------------------------------------------------------------------


def test_a_request_is_asked_for_its_message_and_settled_in_its_incarnation() -> None:
    lost = events.PermissionAnswered(request="1", outcome="lost", asked_in=1)
    effects = told(OPENED, started(), asked(), OPENED, lost)
    (ask,) = [effect for effect in effects if isinstance(effect, AskPermission)]
    (settle,) = [effect for effect in effects if isinstance(effect, Settle)]
    assert ask.message == "m1"
    assert (ask.incarnation, settle.incarnation) == (1, 1)


def test_noise_is_told_as_one_line_that_does_nothing() -> None:
    (note,) = notes(told(events.Noise(lines=7, sample="`\x1b[2J\n# x")))
    assert "7 lines" in note
    assert "\n" not in note
    assert "\x1b" not in note


# --- after an absence --------------------------------------------------------------------------------------------


def test_a_digest_has_a_line_for_each_turn_and_the_whole_for_a_file() -> None:
    turns = [event for n in "1234" for event in (started(n), said(f"text {n}\nmore", n), ended(n))]
    condensed = digest(
        told(OPENED, READY, *turns, ended("5", "error", detail="Overloaded.")), prefix="!", redact=SecretMasker()
    )
    assert condensed.turns == 4
    assert [line for line in condensed.text.split("\n") if "text" in line] == [f"- text {n} more" for n in "1234"]
    assert "Overloaded." in condensed.text
    assert all(f"text {n}\nmore" in condensed.full for n in "1234")


def test_a_digest_spells_commands_as_they_are_typed() -> None:
    condensed = digest(told(OPENED, READY, started(), ended(reason="cut")), prefix=".", redact=SecretMasker())
    assert "`.retry m1`" in condensed.text
    assert "`.retry m1`" in condensed.full
    (receipt,) = [effect for effect in condensed.effects if isinstance(effect, Receipt)]
    assert "retry" not in str(receipt.detail)


def test_a_digest_still_finishes_the_message_that_was_growing_before() -> None:
    effects = told(OPENED, started("1"), said("begun and ended"), ended("1"), started("2"), said("b", "2"), ended("2"))
    assert finals(digest(effects, prefix="!", redact=SecretMasker(), growing="1").effects) == ["begun and ended"]
    assert finals(digest(effects, prefix="!", redact=SecretMasker()).effects) == []


def test_a_digest_keeps_the_requests_that_are_still_open_and_only_those() -> None:
    condensed = digest(
        told(OPENED, asked("1"), asked("2"), answered("1"), answered("0")), prefix="!", redact=SecretMasker()
    )
    assert [effect.asked.request for effect in condensed.effects if isinstance(effect, AskPermission)] == ["2"]
    assert [effect.answered.request for effect in condensed.effects if isinstance(effect, Settle)] == ["0"]


def test_a_request_of_an_earlier_life_is_not_taken_for_that_of_a_later_one() -> None:
    condensed = digest(told(OPENED, asked("1"), OPENED, asked("1"), answered("1")), prefix="!", redact=SecretMasker())
    assert [effect.incarnation for effect in condensed.effects if isinstance(effect, AskPermission)] == [1]


@given(JOURNALS)
def test_a_digest_leaves_every_message_and_the_agent_in_the_state_that_they_reached(
    entries: list[JournalEntry],
) -> None:
    effects = read(entries)[1]
    condensed = digest(effects, prefix="!", redact=SecretMasker())
    assert dict(receipts(condensed.effects)) == dict(receipts(effects))
    assert conditions(condensed.effects)[-1:] == conditions(effects)[-1:]
    assert not notes(condensed.effects)


def test_a_call_of_a_tool_is_taken_up_and_dropped_once_the_agent_was_told_that_nothing_came_of_it() -> None:
    call = events.ToolAsked(call="1-1", turn="1", tool="launch", arguments={})
    over = events.ToolAnswered(call="1-1", outcome="lapsed")
    entries = journal([OPENED, READY, started(), call, over, ended()])
    _, effects = read(entries)
    assert [effect for effect in effects if isinstance(effect, Called | CallOver)] == [
        Called(call, 103.0),
        CallOver("1-1", 104.0),
    ]
    condensed = digest(effects, prefix="!", redact=SecretMasker()).effects
    assert [effect for effect in condensed if isinstance(effect, Called | CallOver)] == [
        Called(call, 103.0),
        CallOver("1-1", 104.0),
    ]


@pytest.mark.parametrize("outcome", ["done", "refused", "unknown"])
def test_a_call_that_was_begun_is_not_dropped(outcome: str) -> None:
    answer = events.ToolAnswered(call="1-1", outcome=outcome)
    _, effects = read(journal([OPENED, READY, answer]))
    assert not any(isinstance(effect, CallOver) for effect in effects)


def test_a_cut_message_that_stays_in_the_conversation_is_said_to() -> None:
    entries = journal([OPENED, READY, started(), said("half"), ended(reason="cut")])
    _, effects = read(entries, JournalProjection("coder0", keeps_cut="opencode"))
    assert "opencode keeps this message and its partial answer" in notes(effects)[-1]
    assert "sends it a second time" in notes(effects)[-1]
    _, effects = read(entries)
    assert "keeps" not in notes(effects)[-1]


def test_a_handover_is_told_at_its_begin_and_end() -> None:
    over, back = events.HandedOver(by="ana", session="s"), events.HandedBack(by="ana", reason="It was left.")
    _, effects = read(journal([OPENED, READY, over, back]))
    told = [each for each in effects if isinstance(each, Handover)]
    assert [(each.by, each.ended) for each in told] == [("ana", None), ("ana", "It was left.")]
    assert len({each.key for each in told}) == 2


def test_a_question_on_the_side_is_told_with_its_answer_wherever_the_reading_began() -> None:
    ask = events.AsideAsked(id="q1", text="why?")
    over = events.AsideEnded(id="q1", outcome="answered", text="because")
    told = AsideOver("aside/coder0/q1", over, "why?")
    entries = journal([OPENED, READY, started(), said("a"), ask, said("b"), ended(), started("2"), over, ended("2")])
    for stopped in range(len(entries)):
        projection = JournalProjection("coder0")
        for entry in entries[: stopped + 1]:
            projection, _ = projection.after(entry)
        # A restart of the orchestrator reads again from the beginning of what was open.
        again = JournalProjection("coder0", position=projection.view_start, view_start=projection.view_start)
        for entry in entries[: stopped + 1]:
            if entry.position > projection.view_start:
                again, _ = again.after(entry)
        assert (again.aside, again.view) == (projection.aside, projection.view)
        effects: list[Effect] = []
        for entry in entries[stopped + 1 :]:
            again, following = again.after(entry)
            effects += following
        assert [each for each in effects if isinstance(each, AsideOver)] == ([told] if stopped < 8 else [])


def test_a_question_that_is_lost_with_its_host_is_told_under_the_same_key_as_by_the_next_host() -> None:
    ask = events.AsideAsked(id="q1", text="why?")
    projection = JournalProjection("coder0")
    for entry in journal([OPENED, READY, ask]):
        projection, _ = projection.after(entry)
    lost = projection.lost_aside("It ended.")
    assert lost is not None
    assert (lost.key, lost.question, lost.ended.outcome) == ("aside/coder0/q1", "why?", "lost")
    again = journal([OPENED, READY, ask, OPENED, events.AsideEnded(id="q1", outcome="lost", detail="x")])[-1]
    projection, (effect,) = projection.after(again)
    assert isinstance(effect, AsideOver)
    assert effect.key == lost.key
    assert projection.lost_aside("It ended.") is None


def test_an_answer_on_the_side_survives_a_digest() -> None:
    over = AsideOver("aside/coder0/q1", events.AsideEnded(id="q1", outcome="answered", text="because"), "why?")
    assert digest([over, Note("n", "x")], prefix="!", redact=SecretMasker()).effects == (over,)
