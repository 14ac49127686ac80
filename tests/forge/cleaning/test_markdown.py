"""What an agent writes reaches a forge without anything that the forge acts on."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from forge.cleaning.disarming import GAP
from forge.cleaning.markdown import as_code, clean_line, clean_markdown, clean_plain

#: As a forge reads it: with HTML, tables and struck text.
FORGE = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

VERBS = ("close", "closes", "closed", "fix", "fixes", "fixed", "resolve", "resolves", "resolved", "reopen", "reopens")
ISSUES = ("#17", "owner/repo#3", "GH-4", "!5", "https://git.example.org/owner/repo/issues/3", "owner/repo!3")

#: Pieces that mean something to Markdown or to a forge, in every order.
PIECES = st.sampled_from(
    [
        *VERBS, *ISSUES, "FIXES", "fi**x**es", "fi&#120;es", "&#35;17", "&num;17", ":", "\u017f", "\u200d",
        "@org", "@org/team", "&#64;org", "&commat;org", "&#x40;o", "@", "a", "&", ";", "\\", "\u00e9", "a@b.c",
        "`", "``", "```", "~~~", "\n", "\n\n", " ", "    ", "\t", "> ", "- ", "1. ", "# ", "---\n", "===\n",
        "*", "**", "_", "~~", "|", "\n|-|-|\n", "[", "](", "]", ")", "(", "!", "![x](https://spy.example/p.png)",
        "<!-- muster:a:b -->", "<!--", "-->", "<details>", "</details>", "<img src=x>", "<b", ">", "<", "</", "<?",
        "<pre>", "<script>", "<![CDATA[", "<https://a.example/@x>", "https://social.example/@ana",
        "[x]: https://e.example\n", "\u202e", "\u200b", "\u2066", "\x00", "\r\n", "\x1b[31m",
    ]
)  # fmt: skip
TEXTS = st.one_of(st.lists(PIECES, max_size=25).map("".join), st.text(max_size=200))


def tokens(text: str) -> Iterator[Token]:
    for token in FORGE.parse(text):
        yield token
        yield from token.children or ()


def shown(text: str) -> str:
    """The text that a forge shows, with code in it left out."""
    said = ""
    for token in FORGE.parse(text):
        for child in token.children or ():
            said += child.content if child.type in ("text", "code_inline") else " " * (child.type == "softbreak")
        said += "\n"
    return said


def assert_quiet(text: str) -> None:
    for token in tokens(text):
        assert token.type not in ("html_block", "html_inline", "image"), text
        if token.type == "text":
            plain = re.sub(r"https://social\.example/@ana", "x", token.content)
            assert not re.search(r"(?<![A-Za-z0-9])@[A-Za-z0-9]", plain), text
    for whole in (text, shown(text)):
        closing = rf"(?<![A-Za-z0-9])({'|'.join(VERBS)})(:|\s|\*|_|~|`)+(#|GH-|!|[\w-]+/[\w-]+[#!])\d"
        assert not re.search(closing, whole, re.IGNORECASE), text
    assert "<!-- muster:" not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)


@given(TEXTS)
@example("`a\n\n@org`")
@example("| a | b |\n|-|-|\n| `x | @org` |")
@example("> ```\n@org")
@example("<div>\n```\n@org\n```\n</div>")
@example(">" * 200 + " <!-- x --> @org")
def test_a_forge_finds_nothing_to_act_on(text: str) -> None:
    assert_quiet(clean_markdown(text))
    assert_quiet(as_code(clean_plain(text)))


@given(TEXTS)
def test_cleaning_again_changes_nothing(text: str) -> None:
    cleaned = clean_markdown(text)
    assert clean_markdown(cleaned) == cleaned
    assert clean_plain(clean_plain(text)) == clean_plain(text)


@given(TEXTS)
def test_what_follows_a_text_is_read_by_itself(text: str) -> None:
    """An open block of code must not swallow the record of where the text came from."""
    after = FORGE.parse(clean_markdown(text) + "\n\n<details>\n<b>record</b>\n</details>")[-1]
    assert (after.type, after.level, after.content.splitlines()[0]) == ("html_block", 0, "<details>")


WORDS = st.lists(
    st.sampled_from(("I", "moved", "the parser.", "Issue #17", "|", "it*", "_fails_", "`x`", "now", "ana@example.org")),
    max_size=20,
)


@given(WORDS)
def test_a_clean_text_passes_unchanged(words: list[str]) -> None:
    text = " ".join(words)
    assert clean_markdown(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "# What I did\n\n- moved `parse()`\n- see #17 and owner/repo#3\n\n| a | b |\n| - | - |\n| 1 | `2` |",
        "```python\n@decorator\ndef f(x: list[int]) -> None: ...  # <b>\n```",
        "    @indented\n    <b>code</b>",
        "An emoji 👩‍💻, and <https://example.org/a>, and [a link](https://example.org).",
        "Written with ``a ` and <b> and @x`` in it, and https://social.example/@ana/1 beside it.",
    ],
)
def test_ordinary_markdown_passes_unchanged(text: str) -> None:
    assert clean_markdown(text) == text


@pytest.mark.parametrize("verb", [*VERBS, "FIXES", "Closes"])
@pytest.mark.parametrize("issue", ISSUES)
@pytest.mark.parametrize("between", [" ", ": ", " **", "\n", "</b> ", " <!-- x --> ", "&nbsp;", "_ "])
def test_no_keyword_closes_an_issue(verb: str, issue: str, between: str) -> None:
    text = f"This {verb}{between}{issue}"
    for cleaned in (clean_markdown(text), clean_plain(text), clean_markdown(f"```\n{text}\n```")):
        assert f"{verb[0]}{GAP}{verb[1:]}" in cleaned
        assert issue in cleaned, "the link to the issue stays"


def test_a_block_of_code_that_was_left_open_is_closed() -> None:
    assert clean_markdown("See:\n\n~~~~\n@org") == "See:\n\n~~~~\n@org\n~~~~"


def test_a_title_is_one_short_line() -> None:
    assert clean_line("Fix\nthe   @org  parser\u202e", 15) == f"Fix the @{GAP}org p…"
    assert clean_line("fixes #3", 80) == f"f{GAP}ixes #3"


def test_a_long_text_of_openings_is_read_in_reasonable_steps() -> None:
    for piece in ("fixes ", "`", "`` ` ", "[", "![", "<", "@", "fixes <", "*a ", "> ", "- ", "https://a.b/", "&", "a/"):
        assert_quiet(clean_markdown(piece * (20_000 // len(piece))))
