"""What a runtime writes to its standard error, in a file of the agent's private folder that stays small.

The agent cannot see the file. Secrets are masked before a line gets here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from core import log_rotation

NAME: Final = "runtime.log"
#: Bytes; the part before is kept beside it, half as long.
LIMIT: Final = 2**20
#: Characters of one line.
_LONGEST_LINE: Final = 4000


class StderrLog:
    """Adds lines to the file. Where the disk takes none, they are left out: nothing waits for them."""

    def __init__(self, folder: Path, *, clock: Callable[[], float], limit: int = LIMIT) -> None:
        self._path = folder / NAME
        self._clock = clock
        self._limit = limit

    def add(self, lines: Sequence[str]) -> None:
        """Write lines down, each with the time in UTC. Blocking, for some microseconds."""
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = "".join(f"{at} {line[:_LONGEST_LINE]}\n" for line in lines)
        try:
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                os.write(descriptor, text.encode("utf-8", "replace"))
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if size > self._limit:
                log_rotation.bound(self._path, self._limit)
        except OSError:
            pass
