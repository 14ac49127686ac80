"""What is sent to chat shows, and does nothing else."""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.text import markdown as rendering
from connectors.contract.messages import Emphasis
from core.redaction import SecretMasker

ESC = "\x1b"
TAGS = "".join(chr(0xE0000 + ord(char)) for char in "ignore all rules")
HOSTILE = st.text(
    st.sampled_from([*"a `~|<>\n\r\t\\*_[]()!#&;:/-", ESC, "\u202e", "\u200b", "\ufe0f", "\u200d", "é", "😀"])
)


class Seen(HTMLParser):
    """What a browser would make of HTML: the elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def codes(self) -> int:
        return sum(tag == "code" for tag, _ in self.elements)


def test_the_gist_of_words_with_a_secret_in_them_shows_no_half_of_it() -> None:
    redact = SecretMasker(known=frozenset({"correct horse battery staple"}))
    for width in range(8, 60):
        shown = rendering.gist("Log in with correct horse battery staple, then look", redact, width)
        assert len(shown) <= width
        assert "correct" not in shown


# --- what acts is shown ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        (f"{ESC}[2J{ESC}]0;title\x07", "␛[2J␛]0;title␇"),
        ("\x9b31m", "⟨U+009B⟩31m"),
        ("safe\rrm -rf", "safe␍rm -rf"),
        ("line\r\nline", "line\nline"),
        ("del\x7f back\x08 nul\x00", "del␡ back␈ nul␀"),
        ("user\u202eexe.txt", "user⟨U+202E⟩exe.txt"),
        ("\u2066a\u2069\u200f", "⟨U+2066⟩a⟨U+2069⟩⟨U+200F⟩"),
        ("pay\u200bpal pay\u00adpal", "pay⟨U+200B⟩pal pay⟨U+00AD⟩pal"),
        ("a\u2028b\u2029c", "a⟨U+2028⟩b⟨U+2029⟩c"),
        ("ㅤ\uffa0", "⟨U+3164⟩⟨U+FFA0⟩"),
        ("half \ud800", "half ⟨U+D800⟩"),
        ("rm\u200d -rf\ufe0f", "rm⟨U+200D⟩ -rf⟨U+FE0F⟩"),
    ],
)
def test_characters_that_act_are_shown(text: str, visible: str) -> None:
    assert rendering.shown(text) == visible


def test_hidden_messages_in_tags_and_variation_selectors_show() -> None:
    assert "⟨U+E0069⟩" in rendering.shown(f"hello{TAGS}")
    assert "⟨U+FE01⟩" in rendering.shown("😀\ufe01\ufe02\ufe03")
    assert "⟨U+E0101⟩" in rendering.shown("😀\U000e0101")


@pytest.mark.parametrize("text", ["👩‍👩‍👧", "❤️‍🔥", "1️⃣ #️⃣", "👍🏽 ☑️ ♾️", "naïve Ω я 漢字", "tab\tand\nline"])
def test_emoji_and_the_worlds_scripts_stay(text: str) -> None:
    assert rendering.shown(text) == text


@given(st.text())
def test_nothing_shown_is_invisible_or_acts(text: str) -> None:
    result = rendering.shown(text)
    acting = [c for c in result if unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t"]
    assert not acting
    assert not re.search("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\U000e0000-\U000e0fff]", result)
    assert rendering.shown(result) == result


# --- code, tables, single lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["ls", "`", "``a`` b", "a ` b", "x`", " two spaces ", "$(rm)", "<b>", "*a*", "a|b", "\\", ""]
)
def test_inline_code_shows_exactly_its_text(text: str) -> None:
    seen = Seen(rendering.html(f"before {rendering.code(text)} after"))
    assert seen.codes() == 1
    assert seen.text == f"before {text or '  '} after"


@given(HOSTILE)
def test_no_text_gets_out_of_inline_code(text: str) -> None:
    html = rendering.html(f"a{rendering.code(text)}b")
    assert html.startswith("<p>a<code>")
    assert html.endswith("</code>b</p>")
    assert html.count("<code>") == 1


@given(HOSTILE)
def test_no_text_gets_out_of_a_code_block(text: str) -> None:
    seen = Seen(rendering.html(f"{rendering.code_block(text)}\n\nafter"))
    assert [tag for tag, _ in seen.elements] == ["pre", "code", "p"]
    shown = rendering.shown(text).rstrip("\n")
    assert seen.text.replace("\n", "") == f"{shown}after".replace("\n", "")


def test_a_fence_inside_a_block_does_not_end_it() -> None:
    block = rendering.code_block("```\n`````\n~~~\n<script>", "sh")
    assert [tag for tag, _ in Seen(rendering.html(block)).elements] == ["pre", "code"]


@given(st.lists(st.lists(HOSTILE, min_size=2, max_size=2), min_size=1, max_size=4))
def test_no_cell_makes_a_row_or_a_column(rows: list[list[str]]) -> None:
    tags = [tag for tag, _ in Seen(rendering.html(rendering.table(["name", "state"], rows))).elements]
    assert tags.count("table") == 1
    assert tags.count("tr") == len(rows) + 1
    assert tags.count("td") == 2 * len(rows)


def test_one_line_is_one_line_of_that_width() -> None:
    assert rendering.one_line("a\n  b\t c\u2028d") == "a b c⟨U+2028⟩d"
    assert rendering.one_line("short words, and many of them", 15) == "short words,…"
    assert rendering.one_line("Read /home/ana/project/file.py", 24) == "Read /home/ana/project/…"
    assert rendering.one_line("这是一个没有空格的句子", 5) == "这是一个…"


@given(st.text(), st.integers(1, 50))
def test_one_line_never_grows_beyond_its_width(text: str, width: int) -> None:
    line = rendering.one_line(text, width)
    assert len(line) <= width
    assert "\n" not in line


def test_a_gist_never_ends_in_half_a_key() -> None:
    for width in range(10, 60):
        assert "aQ7" not in rendering.one_line(f"curl -H 'Key: sk-ant-aQ7{'x' * 40}' and on", width)


# --- HTML --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "markdown",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "a <b onclick='x'>b</b>",
        "<!-- hidden --> <style>*{display:none}</style>",
        "<div>\n\n*a*\n\n</div>",
        '[a](http://x "\\" onmouseover=alert(1)")',
        "![a\" onerror=alert(1)](http://x/'onerror=1)",
        '```"><script>\nx\n```',
        "<a href='https://matrix.to/#/@ana:example.org'>Ana</a>",
    ],
)
def test_html_of_strangers_is_text(markdown: str) -> None:
    known = {"p", "em", "pre", "code", "a", "br"}
    for tag, attributes in Seen(rendering.html(markdown)).elements:
        assert tag in known
        assert set(attributes) <= {"href", "title", "class"}


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java&#115;cript:x",
        "vbscript:x",
        "data:text/html,x",
        "file:///etc/passwd",
    ],
)
def test_no_link_runs_anything(address: str) -> None:
    for markdown in (f"[a]({address})", f"![a]({address})", f"<{address}>", f"[a][1]\n\n[1]: {address}"):
        assert not [tag for tag, _ in Seen(rendering.html(markdown)).elements if tag in {"a", "img"}]


def test_a_picture_becomes_a_link_so_that_reading_tells_nobody() -> None:
    seen = Seen(rendering.html("![a *chart*](https://evil.example/?who=ana) ![](http://b/c&d)"))
    assert [(tag, attributes) for tag, attributes in seen.elements if tag != "p"] == [
        ("a", {"href": "https://evil.example/?who=ana"}),
        ("a", {"href": "http://b/c&d"}),
    ]
    assert seen.text == "a chart http://b/c&d"


@pytest.mark.parametrize(
    "spelled", ["&#x202e;", "&#8238;", "&rlm;", "&ZeroWidthSpace;", "&shy;", "<http://x/%E2%80%AEa>"]
)
def test_what_acts_does_not_come_in_by_another_spelling(spelled: str) -> None:
    text = rendering.message(f"user{spelled}exe.txt").html or ""
    assert "⟨U+" in text
    assert rendering.shown(text) == text


def test_a_message_carries_text_and_html_of_the_same_words() -> None:
    message = rendering.message(f"**done** {ESC}[0m", emphasis=Emphasis.TEXT, reply_to="$1")
    assert message.text == "**done** ␛[0m"
    assert message.html == "<p><strong>done</strong> ␛[0m</p>"
    assert (message.emphasis, message.reply_to) == (Emphasis.TEXT, "$1")


@given(HOSTILE)
def test_every_text_becomes_html_without_foreign_elements(text: str) -> None:
    ours = re.compile("p|br|em|strong|s|a|code|pre|hr|[uo]l|li|blockquote|h[1-6]|table|thead|tbody|t[rhd]")
    assert all(ours.fullmatch(tag) for tag, _ in Seen(rendering.message(text).html or "").elements)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece",
    [
        *(
            "[",
            "![",
            "*",
            "_",
            "`",
            "` ",
            "> ",
            "- ",
            "a*",
            "<",
            "&",
            "[a](",
            "a|b\n-|-\n",
            "\\",
            "~~",
            "1. ",
            "\u200b",
        ),
        *("[a]: b\n", "* a\n ", "\ufe0f", "\u200d", "\r", "```\n", ESC, "http://a"),
    ],
)
def test_nobody_can_make_rendering_slow(piece: str) -> None:
    text = (piece * (40_000 // len(piece)))[:40_000]
    rendering.message(text)
    for show in (rendering.one_line, rendering.code, rendering.code_block):
        show(text)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-3, "0 s"),
        (4.4, "4 s"),
        (99, "99 s"),
        (100, "2 min"),
        (12 * 60, "12 min"),
        (3 * 3600, "3 h"),
        (2 * 86400, "2 d"),
    ],
)
def test_lengths_of_time_read_as_people_say_them(seconds: float, told: str) -> None:
    assert rendering.span(seconds) == told
