"""What an agent did, turn by turn, as its journal tells it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.agents.journal.timeline import turns_of
from bot.read_models.agent import NoticeItem, PermissionItem, SaidItem, ThoughtItem, ToolItem, TurnModel
from bot.read_models.codec import from_wire, to_wire
from fleet.journal import reader
from fleet.journal.events import (
    Event,
    JournalEntry,
    JournalPosition,
    MessageQueued,
    Notice,
    PermissionAnswered,
    PermissionAsked,
    RuntimeDied,
    RuntimeStarted,
    TextChunk,
    ThoughtChunk,
    ToolCall,
    TurnEnded,
    TurnStarted,
)
from tests.bot.orchestrator import House


def entries(*happened: Event, incarnation: int = 1) -> list[JournalEntry]:
    """Each event a second after the one before it."""
    return [
        JournalEntry(position=JournalPosition(incarnation, seq), at=float(seq), event=event)
        for seq, event in enumerate(happened, 1)
    ]


def turns(*happened: Event) -> tuple[TurnModel, ...]:
    return turns_of(entries(*happened))


def text(said: str, turn: str | None = "1") -> TextChunk:
    return TextChunk(turn=turn, text=said)


def asked(request: str, turn: str | None = "1") -> PermissionAsked:
    return PermissionAsked(
        request=request, turn=turn, session="s", digest="d", title="rm", detail="rm -r /w", options=(), expires_at=99.0
    )


BEGUN = (MessageQueued(id="m1", text="mend it", sender="memory:@ana"), TurnStarted(turn="1", message="m1", session="s"))


def test_a_turn_has_what_was_asked_and_all_that_it_did_in_order() -> None:
    (turn,) = turns(
        *BEGUN,
        ThoughtChunk(turn="1", text="I should "),
        ThoughtChunk(turn="1", text="look."),
        text("I "),
        text("look."),
        ToolCall(turn="1", call="a", title="ls", tool_kind="execute", status="pending"),
        asked("7"),
        PermissionAnswered(request="7", outcome="selected", option="once", by="memory:@ana", asked_in=1),
        text("Mean"),
        ToolCall(turn="1", call="a", status="completed"),
        text("while."),
        Notice(text="It is slow.", turn="1"),
        TurnEnded(turn="1", message="m1", stop_reason="end_turn"),
    )
    assert (turn.turn, turn.message, turn.asked, turn.asked_by) == ("1", "m1", "mend it", "memory:@ana")
    assert (turn.began_at, turn.ended_at, turn.stop_reason) == (2.0, 14.0, "end_turn")
    assert turn.items == (
        ThoughtItem(text="I should look.", at=3.0),
        SaidItem(text="I look.", at=5.0),
        ToolItem(call="a", title="ls", tool_kind="execute", status="completed", at=7.0),
        PermissionItem(
            incarnation=1, request="7", title="rm", detail="rm -r /w", outcome="selected", option="once",
            by="memory:@ana", expires_at=99.0, answered_at=9.0, at=8.0,
        ),
        SaidItem(text="Meanwhile.", at=10.0),
        NoticeItem(text="It is slow.", at=13.0),
    )  # fmt: skip


def test_what_rules_decide_stands_in_the_turn_that_goes_on() -> None:
    (turn,) = turns(*BEGUN, PermissionAnswered(request="1", outcome="denied", rule="r1", title="rm", why="No."))
    (item,) = turn.items
    assert isinstance(item, PermissionItem)
    assert (item.outcome, item.rule, item.title, item.why) == ("denied", "r1", "rm", "No.")


def test_requests_of_two_incarnations_are_two() -> None:
    first = entries(*BEGUN, asked("1"))
    second = entries(PermissionAnswered(request="1", outcome="lost", asked_in=1), asked("1"), incarnation=2)
    (turn,) = turns_of([*first, *second])
    told = [(item.incarnation, item.outcome) for item in turn.items if isinstance(item, PermissionItem)]
    assert told == [(1, "lost"), (2, None)]


def test_why_an_agent_ended_follows_the_turn_before() -> None:
    first, second = turns(
        RuntimeStarted(pid=1, session="s", loaded=False, note="The session is new."),
        *BEGUN,
        RuntimeDied(reason="The runtime crashed.", turn="1"),
        TurnEnded(turn="1", message="m1", stop_reason="cut", detail="it crashed"),
    )
    assert (first.turn, first.items) == (None, (NoticeItem(text="The session is new.", at=1.0),))
    assert [each.text for each in second.items if isinstance(each, NoticeItem)] == ["The runtime crashed."]
    assert (second.stop_reason, second.detail) == ("cut", "it crashed")


def test_turns_are_kept_apart() -> None:
    tools = [ToolCall(turn=turn, call="a", title=title) for turn, title in (("1", "ls"), ("2", "cat"))]
    first, second = turns(text("one", "1"), text("two", "2"), *tools)
    assert first.items == (SaidItem(text="one", at=1.0), ToolItem(call="a", title="ls", at=3.0))
    assert second.items == (SaidItem(text="two", at=2.0), ToolItem(call="a", title="cat", at=4.0))


def test_a_page_that_begins_in_a_turn_shows_what_it_has() -> None:
    (turn,) = turns(text("by now."), ToolCall(turn="1", call="a", status="failed"))
    assert (turn.turn, turn.message, turn.began_at) == ("1", None, None)
    assert turn.items == (SaidItem(text="by now.", at=1.0), ToolItem(call="a", status="failed", at=2.0))


TURNS = st.sampled_from(("1", "2"))
OF = st.none() | TURNS
WORDS = st.sampled_from(("", "a", "b "))
EVENTS = st.one_of(
    st.builds(MessageQueued, id=TURNS, text=WORDS),
    st.builds(TurnStarted, turn=TURNS, message=TURNS, session=st.just("s")),
    st.builds(text, WORDS, OF),
    st.builds(ThoughtChunk, turn=OF, text=WORDS),
    st.builds(
        ToolCall,
        turn=OF,
        call=TURNS,
        title=st.none() | WORDS,
        status=st.none() | st.just("completed"),
        detail=st.none() | WORDS,
    ),
    st.builds(asked, TURNS, OF),
    st.builds(
        PermissionAnswered, request=TURNS, outcome=st.sampled_from(("denied", "selected")), asked_in=st.integers(0, 2)
    ),
    st.builds(Notice, text=WORDS, turn=OF),
    st.builds(RuntimeDied, reason=WORDS, turn=OF),
    st.builds(TurnEnded, turn=TURNS, message=TURNS, stop_reason=st.sampled_from(("end_turn", "cut"))),
)


@given(st.lists(EVENTS, max_size=30), st.integers(0, 30))
def test_the_turns_of_any_journal_say_everything_once(happened: list[Event], restarted_after: int) -> None:
    journal = [
        *entries(*happened[:restarted_after]),
        *entries(*happened[restarted_after:], incarnation=2),
    ]
    whole = turns_of(journal)
    for turn in whole:
        assert from_wire(TurnModel, json.loads(json.dumps(to_wire(turn, str)))) == turn
    said = "".join(event.text for event in happened if isinstance(event, TextChunk))
    items = [item.text for turn in whole for item in turn.items if isinstance(item, SaidItem)]
    assert sorted("".join(items)) == sorted(said), "nothing is lost, and nothing is said twice"


@pytest.mark.parametrize("outcome", ["approve", "deny"])
async def test_a_recorded_journal_is_read_as_what_happened(home: House, outcome: str) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        home.say("[[think: it is simple]] [[say: I look.]] [[run: echo hi]] [[say: Done.]]", thread)
        question = await home.heard(thread, "asks for permission")
        request = question.split("permission `")[1].split("`")[0]
        await home.ask(f"!{outcome} {request}", conversation=thread)
        await home.marks(home.say("[[say: and again]]", thread), "✅")
    journal = reader.read(home.paths.agent_folder("coder0"), JournalPosition())
    first, second = (turn for turn in turns_of(journal) if turn.turn is not None)
    assert first.asked is not None
    assert "[[run: echo hi]]" in first.asked
    assert first.stop_reason == second.stop_reason == "end_turn"
    (permission,) = [item for item in first.items if isinstance(item, PermissionItem)]
    assert "echo hi" in permission.detail
    assert (permission.outcome, permission.by) == (
        ("selected", "memory:@ana") if outcome == "approve" else ("denied", "memory:@ana")
    )
    (tool,) = [item for item in first.items if isinstance(item, ToolItem)]
    assert tool.status == ("completed" if outcome == "approve" else "failed")
    assert "it is simple" in "".join(item.text for item in first.items if isinstance(item, ThoughtItem))
    assert "and again" in "".join(item.text for item in second.items if isinstance(item, SaidItem))
