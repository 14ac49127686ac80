"""A post is an agent's words, the record and the marker, and fits what a forge takes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from forge.model.values import Comment, ForgeUser
from forge.provenance.markers import find, key_of, mark
from forge.provenance.posts import LONGEST_POST, compose
from forge.provenance.rendering import render
from tests.forge.provenance.records import HOSTILE, LARGEST, PLAIN

FORGE = MarkdownIt("commonmark", {"html": True})
SECRET = b"k" * 32
US, THEM = ForgeUser(id=1, login="muster"), ForgeUser(id=2, login="eve")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def comment(number: int, author: ForgeUser, body: str) -> Comment:
    return Comment(id=number, author=author, body=body, created_at=NOON, updated_at=NOON, url="")


@given(HOSTILE)
def test_the_record_follows_any_words(words: str) -> None:
    post = compose(words, PLAIN, key="run-1.comment", secret=SECRET)
    blocks = [token for token in FORGE.parse(post) if token.type == "html_block"]
    assert [block.content.split("\n", 1)[0][:10] for block in blocks] == ["<details>", "<!-- muste"]
    assert blocks[0].content.rstrip() == render(PLAIN)
    assert key_of(post, SECRET) == "run-1.comment"


@pytest.mark.parametrize("piece", ["a", "<b ", "```\n@org\n", "\n> - `", "fixes #1 ", "\u202ea"])
def test_long_words_are_shortened_and_it_is_said(piece: str) -> None:
    for record in (PLAIN, LARGEST):
        post = compose(piece * (150_000 // len(piece)), record, key="k", secret=SECRET)
        assert len(post) <= LONGEST_POST
        assert "Muster shortened this text: " in post
        assert render(record) in post
        assert key_of(post, SECRET) == "k"


def test_words_that_fit_are_not_shortened() -> None:
    post = compose("I moved the parser.", PLAIN, key="k", secret=SECRET)
    assert post.startswith("I moved the parser.\n\n<details>\n<summary>Written by the agent <code>coder0</code>")
    assert "shortened" not in post


def test_an_order_is_found_in_our_own_comments_alone() -> None:
    post = mark("words", "run-1", SECRET)
    others, ours = comment(1, THEM, post), comment(2, US, post)
    assert find([others, ours], "run-1", SECRET, US.id) == ours
    assert find([others], "run-1", SECRET, US.id) is None
    assert find([ours], "run-2", SECRET, US.id) is None
    assert find([ours], "run-1", b"another" * 5, US.id) is None


def test_a_forge_may_change_line_ends_and_the_end() -> None:
    post = mark("words\nmore", "run-1", SECRET).replace("\n", "\r\n") + "\r\n"
    assert key_of(post, SECRET) == "run-1"


def test_a_marker_that_an_agent_copied_is_not_one() -> None:
    marker = mark("", "run-1", SECRET)
    post = compose(f"```\n{marker}\n```\n{marker}", PLAIN, key="run-2", secret=SECRET)
    assert key_of(post, SECRET) == "run-2"
    assert marker.strip() not in post
    assert key_of(post.rpartition("<!--")[0], SECRET) is None


@given(st.text(max_size=20))
def test_keys_of_markers_are_plain(key: str) -> None:
    if not key.isascii() or not key or any(not (each.isalnum() or each in "._-") for each in key):
        with pytest.raises(ValueError, match="no key of a marker"):
            mark("words", key, SECRET)
    else:
        assert key_of(mark("words", key, SECRET), SECRET) == key
