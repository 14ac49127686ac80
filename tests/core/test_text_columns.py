"""Tables of Markdown as text in columns."""

from __future__ import annotations

import pytest

from core.text_columns import aligned


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("| a | b |\n| --- | --- |\n| long | x |", "a     b\n----  -\nlong  x"),
        ("before\n| a |\n| --- |\nafter", "before\na\n-\nafter"),
        ("| 中 | b |\n|---|---|\n| a\\|b | c |", "中   b\n---  -\na|b  c"),
        ("no | table", "no | table"),
        ("| a |\n\n| b |", "a\n\nb"),
        ("| a | b |\n| --- | --- |\n| one |", "a    b\n---  -\none"),
    ],
)
def test_tables_are_in_line(markdown: str, shown: str) -> None:
    assert aligned(markdown) == shown


def test_a_table_for_a_pipe_has_no_rule() -> None:
    assert aligned("| a | b |\n| --- | --- |\n| long | x |", rules=False) == "a     b\nlong  x"
