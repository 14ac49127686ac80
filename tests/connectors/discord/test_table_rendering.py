"""Tables as they are read on Discord, whose Markdown has none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.discord.table_rendering import WIDEST, redrawn


def test_a_table_stands_in_columns() -> None:
    text = "The fleet:\n\n| agent | state |\n| --- | :---: |\n| `coder0` | **idle** \\| 3 s |\n| b |  |\n\nThat is all."
    block = "```\nagent   state\n------  ----------\ncoder0  idle | 3 s\nb\n```"
    assert redrawn(text) == f"The fleet:\n\n{block}\n\nThat is all."


def test_a_wide_table_is_a_list() -> None:
    long = "word " * 20
    text = f"agent | doing | used\n--- | --- | ---\n`coder0` | {long}| 3 \\| 4\nb | | 5"
    assert redrawn(text) == f"- `coder0` · doing: {long.strip()} · used: 3 | 4\n- b · used: 5"


@pytest.mark.parametrize(
    "text",
    ["```\n| a | b |\n| --- | --- |\n```", "a | b\nc | d", "| a |", "---\n---", "a|b\n--|--|--", "`a | b`\n\n---", ""],
)
def test_what_is_no_table_stays_as_it_is(text: str) -> None:
    assert redrawn(text) == text


@given(st.text(alphabet="|-:` \\\0\nab漢*", max_size=80))
def test_no_table_opens_a_block_that_it_does_not_close(text: str) -> None:
    drawn = redrawn(f"a | b\n--|--\n{text}")
    lines = drawn.split("\n")
    assert lines[0] == "```"
    inside = lines[1 : lines.index("```", 1)]
    assert all(len(line) <= WIDEST and "`" not in line for line in inside)
