"""What an operator sees of a turn while it goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.agents.journal.turn_view import LONGEST_TEXT, TurnView
from bot.text import markdown
from core.redaction import SecretMasker
from fleet.journal.events import Closing, Event, PlanUpdated, TextChunk, ThoughtChunk, ToolCall

START = TurnView("1", "m1")


def told(*happened: Event) -> TurnView:
    view = START
    for event in happened:
        view = view.after(event)
    return view


def said(text: str) -> TextChunk:
    return TextChunk(turn="1", text=text)


def called(call: str, title: str | None = None, status: str | None = None) -> ToolCall:
    return ToolCall(turn="1", call=call, title=title, status=status)


@given(st.lists(st.text()))
def test_chunks_become_exactly_the_text(chunks: list[str]) -> None:
    assert told(*map(said, chunks)).text == "".join(chunks)


def test_what_is_said_after_a_tool_call_is_a_new_paragraph() -> None:
    assert told(said("I look."), called("a", "ls"), said("Found"), said(" it.")).text == "I look.\n\nFound it."
    assert told(called("a", "ls"), said("Found.")).text == "Found."
    assert told(said("One.\n\n"), called("a"), called("a", status="completed"), said("Two.")).text == "One.\n\nTwo."


def test_thoughts_and_foreign_events_show_nothing() -> None:
    view = told(said("a"))
    assert view.after(ThoughtChunk(turn="1", text="hm")) is view
    assert view.after(Closing(reason="x")) is view


def test_tool_calls_show_what_became_of_them() -> None:
    view = told(called("a", "ls"), called("b", "cat x"), called("c", "rm y"), called("a", status="completed"))
    view = view.after(called("b", status="failed"))
    assert view.activity(str) == "✓ `ls`  \n✗ `cat x`  \n… `rm y`"
    running = view.running()
    assert running is not None
    assert running.title == "rm y"
    assert view.after(called("c", status="completed")).running() is None


def test_a_tool_call_runs_since_it_was_called_however_often_it_changes() -> None:
    view = START.after(called("a", "make"), 100.0).after(called("a", "make test", "in_progress"), 160.0)
    running = view.running()
    assert running is not None
    assert (running.title, running.at) == ("make test", 100.0)


def test_an_update_changes_only_what_it_says() -> None:
    view = told(called("a", "ls", "in_progress"), called("a", title="ls -l"), called("a", status="completed"))
    assert view.activity(str) == "✓ `ls -l`"


def test_of_very_many_tool_calls_the_last_are_shown_and_the_rest_counted() -> None:
    lines = (told(*(called(str(n), f"tool {n}") for n in range(100))).activity(str) or "").split("\n")
    assert len(lines) <= 21
    assert "80 earlier" in lines[0]
    assert "tool 99" in lines[-1]


def test_a_plan_shows_its_steps_and_is_replaced_whole() -> None:
    plan = PlanUpdated(
        turn="1", entries=({"content": "look", "status": "completed"}, {"content": "mend"}, {"status": "in_progress"})
    )
    assert told(plan).activity(str) == "● look  \n○ mend  \n◐"
    assert told(plan, PlanUpdated(turn="1", entries=())).activity(str) is None


def test_nothing_done_tells_nothing() -> None:
    assert START.activity(str) is None
    assert START.running() is None


@pytest.mark.parametrize(
    "title", ["`", "a\nb", "```\n# big", "<b>x</b>", "![x](http://evil/)", "\x1b[2J", "\u202etxt", "", "x" * 9000]
)
def test_no_title_of_a_tool_makes_more_than_its_line(title: str) -> None:
    view = told(called("a", title), called("b", "after"))
    activity = view.activity(str) or ""
    assert activity.count("\n") == 1
    assert len(activity) < 300
    html = markdown.html(activity)
    assert html.count("<code>") == 2
    assert not any(mark in html for mark in ("<a", "<b>", "<h1", "<pre", "\x1b", "\u202e"))


def test_a_long_title_ends_between_words_so_that_redaction_still_knows_a_key() -> None:
    activity = told(called("a", f"curl {'-v ' * 30} sk-ant-aQ7{'x' * 60}")).activity(str) or ""
    assert "sk-ant" not in activity


def test_of_an_endless_answer_the_beginning_is_kept_and_the_rest_counted() -> None:
    view = told(said("a" * LONGEST_TEXT), said("b" * 7), called("a", "ls"), said("c" * 5))
    assert view.text == "a" * LONGEST_TEXT
    secret = told(said("a " * (LONGEST_TEXT // 2 - 10) + "correct horse battery staple")).said(
        SecretMasker(known=frozenset({"correct horse battery staple"}))
    )
    assert "correct" not in secret
    assert view.said(SecretMasker()).endswith("… 12 more characters of this answer were left out.")
    assert told(said("short")).said(SecretMasker()) == "short"


def test_of_endless_tool_calls_only_the_last_are_remembered() -> None:
    view = told(*(called(str(number), f"tool {number}") for number in range(1000)), called("3", status="completed"))
    assert len(view.tools) < 200
    assert "… 980 earlier" in (view.activity(str) or "")
    assert "tool 999" in (view.activity(str) or "")
