"""The page of ``muster --help`` from a file, because building it takes 80 ms of CPU.

``python -m docs.reference_pages`` writes a file for each usual width, and a test compares each with what click renders.
Click renders the page for every other width.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Columns of a terminal that the page uses at most.
WIDEST = 100
#: Widths in columns for which a page is shipped: a wide terminal, and the width that stands for output into a pipe.
WIDTHS = (80, WIDEST)


def page(words: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Return the page if the words ask for it and a file has its width, or None."""
    if list(words) not in ([], ["--help"], ["-h"], ["help"]) or "_MUSTER_COMPLETE" in environ:
        return None
    width = min(_columns(environ), WIDEST)
    if width not in WIDTHS:
        return None
    try:
        with open(file_of(width), encoding="ascii") as file:
            return file.read()
    except OSError:
        return None


def file_of(width: int) -> str:
    """Return the path of the page for a terminal of this width."""
    return os.path.join(os.path.dirname(__file__), f"help-{width}.txt")


def _columns(environ: Mapping[str, str]) -> int:
    """Return what `shutil.get_terminal_size` returns, which takes longer to import than all else here."""
    try:
        columns = int(environ.get("COLUMNS", ""))
    except ValueError:
        columns = 0
    if columns > 0:
        return columns
    try:
        assert sys.__stdout__ is not None
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80
    except (AssertionError, AttributeError, ValueError, OSError):
        return 80
