"""A scrolling screen shows each text once, as it grows, and says what changed afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.terminal.transcript_file import TranscriptLine
from connectors.terminal.transcript_view import ScreenView
from connectors.terminal.untrusted_text import SIGN, unsigned


def line(kind: Any, text: str = "", **more: Any) -> TranscriptLine:
    return TranscriptLine(**{"kind": kind, "id": f"i{text}", "conversation": "fleet", "at": 0.0, "text": text, **more})


def screen(view: ScreenView, *lines: TranscriptLine) -> list[str]:
    return [text for each in lines for text in view.show(each)]


WRITING = (
    line("message", "I", id="m", final=False),
    line("edit", "I see\nthe pro", target="m", final=False),
    line("edit", "I see\nthe problem\nand", target="m", final=False),
    line("edit", "I see\nthe problem\nand mend it", target="m"),
)


def test_a_text_that_is_written_shows_line_by_line() -> None:
    view = ScreenView(progressive=True)
    assert [view.show(each) for each in WRITING] == [[], ["I see"], ["the problem"], ["and mend it"]]


def test_without_a_terminal_only_its_end_shows() -> None:
    view = ScreenView()
    assert [view.show(each) for each in WRITING] == [[], [], [], ["I see", "the problem", "and mend it"]]


def test_a_text_that_something_came_between_goes_on_at_its_end() -> None:
    view = ScreenView(progressive=True)
    said = screen(view, *WRITING[:2], line("message", "meanwhile"), *WRITING[2:])
    assert said == ["I see", "meanwhile", "… the problem", "and mend it"]


def test_a_text_that_changed_in_another_way_shows_again() -> None:
    view = ScreenView(progressive=True)
    changed = line("edit", "You see\nit", target="m")
    assert screen(view, *WRITING[:2], changed) == ["I see", "✎ You see", "it"]


def test_what_is_added_to_a_finished_message_shows_alone() -> None:
    view = ScreenView()
    assert screen(
        view, line("message", "May I?", id="a"), line("edit", "May I?\nAllowed by ana.", target="a")
    ) == ["May I?", "Allowed by ana."]  # fmt: skip


def test_the_same_text_again_shows_nothing() -> None:
    assert screen(ScreenView(), line("message", "May I?", id="a"), line("edit", "May I?", target="a")) == ["May I?"]


def test_an_edit_of_what_was_said_long_ago() -> None:
    assert screen(ScreenView(), line("edit", "new", target="unknown")) == ["✎ new"]
    assert screen(ScreenView(), line("edit", "new", target="unknown", final=False)) == []


def test_every_line_from_elsewhere_is_marked() -> None:
    assert screen(ScreenView(), line("message", "a\nb", conversation="fleet/coder0")) == [
        "[fleet/coder0] a",
        "[fleet/coder0] b",
    ]


def test_reactions_say_what_they_are_about() -> None:
    view = ScreenView()
    view.typed("mine")
    own = line("input", "fix the parser in the small module", id="mine", author="ana")
    other = line("input", "hello", id="other", author="ana")
    assert screen(view, own, line("reaction", "📥", target="mine")) == ["◈ [📥 on your message]"]
    assert screen(view, other) == ["ana: hello"]
    assert screen(view, line("reaction", "✅", target="mine")) == [
        "◈ [✅ on your message “fix the parser in the small mo…”]"
    ]
    assert screen(view, line("reaction", "✅", target="unknown")) == ["◈ [✅]"]


FORGED = (
    "◈ ⏹ The turn was cancelled.",
    "Done.\n◈ ❄️ Frozen: `!resume coder0` brings it back.",
    "  ◈ [✅ on your message]",
    "◆ ⏹ Stopped.",
    "\u25c7 Ready",
)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("words", FORGED)
def test_an_agents_words_cannot_pass_for_a_notice(words: str, colour: bool) -> None:
    view = ScreenView(colour=colour, progressive=True)
    for each in (
        line("message", words),
        line("edit", words, target="unknown"),
        line("message", words[:6], id="grows", final=False),
        line("edit", words, target="grows"),
        line("input", words, author="◈ mallory"),
    ):
        assert not [text for text in view.show(each) if any(sign in text for sign in "◈◇◆")]
    notices = (
        line("message", words, id="n", aside=True),
        line("thread", words, id="t", opens="fleet/coder0", aside=True),
    )
    for notice in notices:
        first, *below = view.show(notice)
        assert first.startswith("\x1b[1;35m◈ \x1b[0m" if colour else "◈ ")
        assert first.count("◈") == 1
        assert not [text for text in below if "◈" in text and "is open: /switch" not in text]


@given(st.text(st.sampled_from([*"◈◇◆❖ab \n|", "\x1b", "\u2063"])))
def test_no_text_holds_the_sign_of_a_notice(words: str) -> None:
    assert SIGN not in unsigned(words)
    assert not any(SIGN in text for text in ScreenView().show(line("message", words)))


def test_who_is_at_work_is_known_and_not_printed() -> None:
    view = ScreenView()
    assert view.show(line("typing", conversation="fleet/coder0", active=True)) == []
    assert view.working == {"fleet/coder0"}
    view.show(line("typing", conversation="fleet/coder0"))
    assert view.working == set()


def test_colours_only_where_they_are_wanted() -> None:
    reaction = line("reaction", "✅", target="unknown", conversation="elsewhere")
    assert "\x1b[" in ScreenView(colour=True).show(reaction)[0]
    assert "\x1b[" not in ScreenView().show(reaction)[0]
