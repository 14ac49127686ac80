"""Every post of Muster's ends with a folded record, whatever names are in it."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from markdown_it import MarkdownIt

from forge.cleaning import disarming
from forge.provenance.record import ProvenanceRecord, RunEnding
from forge.provenance.rendering import LONGEST_RECORD, duration, render
from tests.forge.provenance.records import LARGEST, PLAIN, RECORDS

FORGE = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
OURS = {"details", "summary", "table", "tr", "td", "code", "br", "p", "a"}


class Reader(HTMLParser):
    """Reads HTML, and says which tags it has, whether they close, and what stands outside of code."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.outside = ""
        self.links: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name == "href"]
        assert tag == "a" or not attrs
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "code" not in self.open:
            self.outside += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


@given(RECORDS)
def test_no_name_breaks_the_record(record: ProvenanceRecord) -> None:
    text = render(record)
    assert len(text) <= LONGEST_RECORD
    tokens = FORGE.parse(f"words\n\n{text}\n\nafter")
    assert [token.type for token in tokens if token.level == 0] == [
        "paragraph_open", "paragraph_close", "html_block", "paragraph_open", "paragraph_close",
    ]  # fmt: skip
    reader = read(text)
    assert reader.tags <= OURS
    assert "@" not in reader.outside
    assert not re.search("#[0-9]", reader.outside)
    for link in reader.links:
        assert link is not None
        assert link.startswith("https://")
    shown = html.unescape(re.sub("<[^>]*>", "", text))
    assert not re.search("(?<![A-Za-z0-9])@[A-Za-z0-9]", shown)
    assert disarming.keywords(shown) == shown
    assert disarming.keywords(text) == text


def test_a_record_says_what_was_done_by_what_and_for_how_much() -> None:
    shown = re.sub("<[^>]*>", " ", render(PLAIN))
    shown = re.sub(" +", " ", shown)
    for words in (
        "agent coder0", "role coder", "runtime claude 2.1.0", "models that answered opus-5", "sandboxes bubblewrap",
        "run run-1", "session s-1", "started 2026-01-02 03:04:05 UTC", "duration 4m 12s", "exit 0", "turns 7",
        "tokens projected 40,000, actual 31,250", "cost projected $1.20, actual $0.8730", "secret scan clean",
        "ended by signal_done", "egress routes api.anthropic.com with api key internal", "posted a comment on #17",
        "refused a comment on #500 : out of scope", "approvals git push by Ana", "configuration sha256:ab12 ",
        "Traffic to the forge is no route of the agent",
    ):  # fmt: skip
        assert words in shown
    assert read(render(PLAIN)).links == ["https://git.example.org/o/r/src/commit/abc/muster.yaml"]


def test_two_names_together_say_nothing_to_a_forge() -> None:
    text = render(replace(PLAIN, models=("fixes", "#17"), sandboxes=("@", "org")))
    assert "fixes" not in text
    assert "@\u200b</code>" in text


def test_what_is_unknown_is_said_or_left_out() -> None:
    unknown = replace(PLAIN, ending=RunEnding.WATCHDOG, duration_s=None, routes=None, cost_actual=None, session=None)
    text = render(unknown)
    assert "watchdog: the agent did not signal, may be incomplete" in text
    assert "<td>duration</td><td>unknown</td>" in text
    assert "actual unknown" in text
    assert "egress routes" not in text


def test_the_largest_record_says_what_was_left_out() -> None:
    text = render(LARGEST)
    assert len(text) <= LONGEST_RECORD
    assert "more entries of these lists are left out" in text
    read(text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "unknown"), (0, "0s"), (30, "30s"), (252, "4m 12s"), (60, "1m 0s"), (3_725, "1h 2m 5s")],
)
def test_durations(seconds: int | None, shown: str) -> None:
    assert duration(seconds) == shown
