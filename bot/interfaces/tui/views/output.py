"""Answers of commands, and diffs."""

from __future__ import annotations

from typing import Final

from bot.interfaces.tui.widgets.text_pane import Look, TextLine
from core.text_columns import aligned

#: How a line of a diff looks, by its beginning.
_DIFF: Final[tuple[tuple[str, Look], ...]] = (
    ("diff ", "strong"), ("index ", "dim"), ("--- ", "strong"), ("+++ ", "strong"), ("@@ ", "accent"), ("+", "good"),
    ("-", "bad"),
)  # fmt: skip


def output_lines(text: str) -> list[TextLine]:
    """Return an answer in Markdown as text with aligned tables."""
    return [TextLine(line.rstrip()) for line in aligned(text, rules=False).split("\n")]


def diff_lines(diff: str) -> list[TextLine]:
    """Return a diff in git's format, with added and removed lines marked."""
    return [TextLine(line, _look(line)) for line in diff.split("\n")]


def _look(line: str) -> Look:
    return next((look for begin, look in _DIFF if line.startswith(begin)), "")
