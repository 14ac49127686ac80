"""Markdown in a terminal: what it looks like, and that nothing in it reaches beyond its rows."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.terminal.markdown_rows import MarkdownRows
from core.text_columns import widest

_STYLES = re.compile(r"\x1b\[[0-9;]+m")


def rows(text: str, width: int = 60, *, colour: bool = False) -> list[str]:
    return MarkdownRows(colour=colour).feed(text.split("\n"), width, end=True)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("a **bold** word, *so* and ~~no~~", ["a bold word, so and no"]),
        ("run `make *all*` now", ["run `make *all*` now"]),
        ("2 * 3 * 4 and snake_case_name", ["2 * 3 * 4 and snake_case_name"]),
        (r"not \*bold\*", ["not *bold*"]),
        ("# Plan #", ["# Plan"]),
        ("- one\n* two\n  - [x] three\n12. four", ["• one", "• two", "  ☑ three", "12. four"]),
        ("> said **so**", ["> said so"]),
        ("a\n---\nb", ["a", "-" * 24, "b"]),
        ("```sh\necho  *a*\n\tb\n```\nend", ["```sh", "echo  *a*", "    b", "```", "end"]),
        ("~~~\n```\n~~~", ["~~~", "```", "~~~"]),
        ("````\n```\n````\n**b**", ["````", "```", "````", "b"]),
        ("    code *a*", ["    code *a*"]),
        ("| a | b |\n| --- | --- |\n| long | `x` |", ["a     b", "----  ---", "long  `x`"]),
        ("| 中 | b |\n|---|---|\n| a\\|b | c |", ["中   b", "---  -", "a|b  c"]),
        ("| no table |", ["| no table |"]),
        ("no | table", ["no | table"]),
        ("a\n\n\nb", ["a", "", "", "b"]),
        ("[docs](https://example.org/a)", ["docs (https://example.org/a)"]),
        ("<https://example.org/a>", ["https://example.org/a"]),
        ("![a cat](https://example.org/c.png)", ["a cat (https://example.org/c.png)"]),
        ("<b>x</b> <script>", ["<b>x</b> <script>"]),
        ("&#9672; &amp; &#27;", ["&#9672; &amp; &#27;"]),
    ],
)
def test_markdown_without_colors(source: str, shown: list[str]) -> None:
    assert rows(source) == shown


def test_styles_where_there_are_colors() -> None:
    assert rows("**b** `c`", colour=True) == ["\x1b[1mb\x1b[0m \x1b[36mc\x1b[0m"]
    assert rows("```\nx\n```", colour=True) == ["\x1b[36mx\x1b[0m"]


def test_a_link_names_its_target_whatever_its_words_are() -> None:
    said = rows("[https://bank.example](https://evil.example/x) [x](javascript:alert\\(1\\)) [a](<b\x1b]8;;c>)")
    assert "https://bank.example (https://evil.example/x)" in said[0]
    assert "\x1b" not in "".join(said)


def test_rows_break_between_words_and_below_their_item() -> None:
    assert rows("- one two three four", 12) == ["• one two", "  three four"]
    assert rows("abcdefghijklmnop", 8) == ["abcdefgh", "ijklmnop"]
    assert rows("| a | b |\n|-|-|\n| x | one two three four |", 16) == [
        "a  b", "-  -------------", "x  one two three", "   four",
    ]  # fmt: skip
    assert rows("| a |\n|-|\n| x… 7 s |", 16)[2:] == ["x… 7 s"], "signs that may be wide have room"


_PIECES = [*"ab *_`~[]()<>|-#>!\\\n\t 1.", "◈", "\x1b", "\u202e", "&#9672;", "中", "⚠\ufe0f", "→", "```\n"]
ANY = st.lists(st.sampled_from(_PIECES), max_size=80).map("".join)


@given(ANY, st.integers(8, 40), st.booleans())
def test_no_row_is_wider_than_the_terminal_or_holds_a_sequence_of_the_authors(
    text: str, width: int, colour: bool
) -> None:
    for row in rows(text, width, colour=colour):
        bare = _STYLES.sub("", row) if colour else row
        assert widest(bare) <= width + 1, "the sign of an item can be wide"
        assert not set(bare) & set("\x1b◈\n\r\t\u202e")
        assert colour or row == bare


@given(ANY, st.data())
def test_a_text_looks_the_same_however_it_comes(text: str, data: st.DataObject) -> None:
    lines = text.split("\n")
    cut = data.draw(st.integers(0, len(lines)))
    growing = MarkdownRows(colour=True)
    assert growing.feed(lines[:cut], 30, end=False) + growing.feed(lines[cut:], 30, end=True) == rows(
        text, 30, colour=True
    )


@pytest.mark.parametrize("piece", ["[", "*a ", "`", "_", "[a](", "~~a", "<a", "![", "*_", "| ", "> ", "- "])
def test_no_text_takes_long(piece: str) -> None:
    """No time is asserted: where each sign is looked for again and again, this would not end within the time limit."""
    text = (piece * 200_000)[:200_000]
    rows(text, 100, colour=True)
    rows("\n".join(text[at : at + 900] for at in range(0, 20_000, 900)), 100, colour=True)
