"""Many ids in parts that one query can name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

#: A query names so many at most; SQLite and PostgreSQL take more.
AT_ONCE: Final = 500


def batches(ids: Iterable[str]) -> Iterator[list[str]]:
    """Yield the ids in order, each once, at most `AT_ONCE` together."""
    wanted = sorted(set(ids))
    for begin in range(0, len(wanted), AT_ONCE):
        yield wanted[begin : begin + AT_ONCE]
