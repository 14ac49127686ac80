"""The room on a person's screen: who speaks and when, and that nobody can pass for somebody else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.terminal.room_view import RoomView
from connectors.terminal.transcript_file import TranscriptLine
from core.text_columns import widest

NOW = 1_800_000_000.0


def view(*, columns: int = 60, rows: int = 40, **more: Any) -> RoomView:
    return RoomView(size=lambda: (columns, rows), clock=lambda: NOW, **more)


def line(kind: Any, text: str = "", **more: Any) -> TranscriptLine:
    return TranscriptLine(**{"kind": kind, "id": f"i{text}", "conversation": "fleet", "at": NOW, "text": text, **more})


def screen(of: RoomView, *lines: TranscriptLine) -> list[str]:
    """What is printed, with the time of day as TIME."""
    return [re.sub(r"\d\d:\d\d", "TIME", row) for each in lines for row in of.output(each).splitlines()]


def test_each_speaker_has_a_name_a_time_and_a_bar() -> None:
    assert screen(
        view(),
        line("message", "I see\n**it**", author="coder0"),
        line("input", "hello", author="ana"),
        line("message", "Stopped.\nSee `!ps`.", aside=True),
        line("message", "here", author="lead", conversation="fleet/lead"),
        line("message", "copied"),
    ) == [
        "coder0 TIME", "│ I see", "│ it",
        "ana TIME", "│ hello",
        "◈ TIME Stopped.", "  See `!ps`.",
        "lead TIME [fleet/lead]", "│ here",
        "agent TIME", "│ copied",
    ]  # fmt: skip


def test_what_has_columns_stands_below_musters_sign() -> None:
    table = "| agent | state |\n| --- | --- |\n| coder0 | idle |"
    assert screen(view(), line("message", table, aside=True)) == [
        "◈ TIME", "  agent   state", "  ------  -----", "  coder0  idle",
    ]  # fmt: skip
    assert screen(view(), line("message", f"Fleet:\n\n{table}", aside=True))[:3] == [
        "◈ TIME Fleet:", "  ", "  agent   state",
    ]  # fmt: skip


@pytest.mark.parametrize(("language", "rows"), [("C.UTF-8", 3), ("de_DE.UTF-8", 3), ("ja_JP.UTF-8", 4)])
def test_a_chart_is_broken_only_where_its_lines_may_be_drawn_wide(
    monkeypatch: pytest.MonkeyPatch, language: str, rows: int
) -> None:
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LC_CTYPE", language)
    chart = "Pace\n```\n100 ┤⠒⠒⠒" + "─" * 40 + "\n```"
    assert len(screen(view(columns=60), line("message", chart, aside=True))) == rows + 1


def test_what_was_said_on_another_day_has_its_date() -> None:
    of = view()
    assert re.fullmatch(r"coder0 \w{3} \d\d TIME", screen(of, line("message", "x", author="coder0", at=NOW - 9e5))[0])


def test_speakers_have_colors_that_stay() -> None:
    of = view(colour=True)
    heads = [of.output(line("message", str(n), author=name)).split()[0] for n, name in enumerate(["a", "b", "a"])]
    assert heads[0] == heads[2] != heads[1]
    assert of.output(line("message", "x", aside=True)).startswith("\x1b[1;35m◈\x1b[0m ")
    assert "\x1b" not in view().output(line("message", "**x**", author="coder0"))


def test_a_text_grows_and_goes_on_after_what_came_between() -> None:
    of = view()
    said = [
        line("message", "I", id="m", author="coder0", final=False),
        line("edit", "I see\n```\nx =", target="m", author="coder0", final=False),
        line("edit", "I see\n```\nx = *1*\n", target="m", author="coder0", final=False),
        line("message", "Stopped.", aside=True),
        line("edit", "I see\n```\nx = *1*\ny\n```\n*end*", target="m", author="coder0"),
    ]
    assert screen(of, *said) == [
        "coder0 TIME", "│ I see", "│ ```", "│ x = *1*",
        "◈ TIME Stopped.",
        "coder0 TIME …", "│ y", "│ ```", "│ end",
    ]  # fmt: skip
    changed = line("edit", "other", target="m", author="coder0")
    assert screen(of, changed) == ["coder0 TIME ✎", "│ other"]


# --- receipts --------------------------------------------------------------------------------------------------------


def receipt(mark: str, target: str) -> TranscriptLine:
    return line("reaction", mark, target=target)


def typed(of: RoomView, text: str, event_id: str) -> None:
    of.accepted(f"fleet> {text}")
    of.typed(event_id)
    assert of.output(line("input", text, id=event_id, author="ana")) == ""


def test_receipts_are_behind_the_message_that_they_are_about() -> None:
    of = view()
    typed(of, "hello", "m1")
    assert of.output(receipt("📥", "m1")) == "\x1b7\x1b[1A\x1b[14G📥\x1b8"
    of.output(line("message", "a\nb", author="coder0", id="said"))
    typed(of, "more", "m2")
    assert of.output(receipt("👀", "m1")) == "\x1b7\x1b[5A\x1b[14G📥 👀\x1b8", "three rows and another prompt below it"
    assert of.output(receipt("👀", "m1")) == ""
    assert of.output(receipt("👍", "said")) == "\x1b7\x1b[4A\x1b[14G👍\x1b8"
    of.printed("[now in fleet]")
    assert of.output(receipt("📥", "m2")) == "\x1b7\x1b[2A\x1b[13G📥\x1b8"


def test_a_receipt_of_what_left_the_screen_is_a_line() -> None:
    of = view(rows=24)
    typed(of, "hello", "m1")
    screen(of, line("message", "\n".join("abcdefghijkl"), author="coder0"))
    assert screen(of, receipt("✅", "m1")) == ["◈ TIME [✅ on your message]"]


@pytest.mark.parametrize("what", ["cleared", "resized", "long", "cannot", "many"])
def test_a_receipt_is_a_line_where_the_row_is_not_sure(what: str) -> None:
    columns = [60]
    of = RoomView(size=lambda: (columns[0], 40), clock=lambda: NOW, in_place=what != "cannot")
    typed(of, "x" * 60 if what == "long" else "hello", "m1")
    match what:
        case "cleared":
            of.forget_rows()
        case "resized":
            columns[0] = 50
        case "many":
            for mark in "abcdefg":
                of.output(receipt(mark, "m1"))
    assert "◈" in screen(of, receipt("✅", "m1"))[0]


def test_a_receipt_holds_no_sequence() -> None:
    of = view()
    typed(of, "hello", "m1")
    assert of.output(receipt("\x1b[2J\n", "m1")).count("\x1b") == 4


# --- untrusted text --------------------------------------------------------------------------------------------------

FORGED = (
    "◈ 12:00 Stopped.",
    "```\n◈ 12:00 Stopped.",
    "x\n```\n```\nlead 12:00\n│ do it",
    "[◈ Stopped](◈)",
    "&#9672; Stopped",
    "| ◈ Stopped |\n| --- |\n| fleet> |",
    "x" * 57 + " lead 12:00 fleet> " + "x" * 80,
    "⚠\ufe0f" * 40 + "lead 12:00",
    "\x1b[1A\x1b[2K◈ Stopped\x1b]8;;http://evil.example\x1b\\",
    "\u202e◈\r\rfleet> ",
    "# ◈ Stopped\n===\n> ◈ x\n- ◈ y",
)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("words", FORGED)
def test_an_agents_words_stay_behind_their_bar(words: str, colour: bool) -> None:
    of = view(colour=colour)
    for said in (
        line("message", words, author="coder0"),
        line("edit", words, target="unknown", author="coder0"),
        line("message", words[:6], id="grows", final=False, author="coder0"),
        line("edit", words, target="grows", author="coder0"),
        line("message", words, author="coder0", conversation="fleet/coder0"),
        line("input", words, author="mallory"),
    ):
        for row in of.output(said).splitlines():
            assert row_is_safe(re.sub(r"\x1b\[[0-9;]+m", "", row) if colour else row), row


_PIECES = [*"ab *`|-\n>[]()", "◈", "\x1b", "中", "⚠\ufe0f", "│", "\r"]


@given(st.lists(st.sampled_from(_PIECES), max_size=120).map("".join), st.data())
def test_no_text_reaches_the_first_column(words: str, data: st.DataObject) -> None:
    columns = data.draw(st.integers(24, 60))
    of = view(columns=columns)
    cut = data.draw(st.integers(0, len(words)))
    said = (
        line("message", words[:cut], id="m", author="coder0", final=False),
        line("edit", words, target="m", author="coder0"),
    )
    for each in said:
        for row in of.output(each).split("\n"):
            assert row_is_safe(row)
            assert widest(row) <= columns, "the terminal breaks none"


def row_is_safe(row: str) -> bool:
    head = re.fullmatch(r"(coder0|mallory) \d\d:\d\d( \[fleet/coder0\])?( […✎])?", row) is not None
    return (head or row == "" or row.startswith("│")) and not set(row) & set("◈\x1b\r\u202e")


@given(st.text(max_size=60))
def test_no_name_is_more_than_a_name(name: str) -> None:
    head = view().output(line("message", "x", author=name)).split("\n")[0]
    assert not set(head) & set("◈\x1b\r\u202e")
    assert view().output(line("message", "x", author=name)).count("\n") == 2
