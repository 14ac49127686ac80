"""Charts in characters."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest

from bot.figures.letters import window_letters
from bot.figures.model import Figure
from tests.bot.figures.weeks import DAY, ODD, WEEK


@pytest.mark.parametrize("name", [name for name in ODD if name != "long words"])
def test_whatever_the_numbers_are_something_is_drawn(name: str) -> None:
    made = window_letters(Figure(panels=[ODD[name]]))
    assert "main 7d" in made
    assert all(len(line) <= 80 for line in made.splitlines())


def test_names_reach_no_terminal_as_sequences() -> None:
    hostile = "\x1b[31m\u202e"
    made = window_letters(Figure(panels=[replace(WEEK, title=hostile, note=hostile, ticks=[(DAY, hostile)])]))
    assert not [char for char in made if unicodedata.category(char).startswith("C") and char != "\n"]
