"""A file of lines in the connector's folder: each is appended as it comes; all are rewritten once there are many."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from core import durable_files
from core.crash_points import Step, around


class LineFile:
    """At most so many lines, one of which a crash or a full disk may have cut off."""

    def __init__(self, path: Path, step: Step, *, most: int) -> None:
        self._path = path
        self._step = step
        self._most = most
        self._count = 0
        self._whole = False
        """Whether the last line is known to have its end."""
        self._writing = asyncio.Lock()

    def read(self) -> list[str]:
        """Return the lines that are there; none where the file cannot be read."""
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        self._count = len(lines)
        return lines

    async def append(self, line: str, *, all_lines: Callable[[], Iterable[str]]) -> None:
        """Write a line, behind those that were appended before.

        Args:
            line: what to write, without an end.
            all_lines: what the file is to hold with this line, where it has become too long.

        Raises:
            OSError: it could not be written.
        """
        async with self._writing:
            anew = list(all_lines()) if self._count >= self._most else None
            await asyncio.to_thread(self._write, line, anew)

    async def appended(self) -> None:
        """Wait for what is being written."""
        async with self._writing:
            pass

    def _write(self, line: str, anew: list[str] | None) -> None:
        with around(self._step):
            if anew is not None:
                durable_files.write(self._path, "".join(f"{each}\n" for each in anew))
                self._count, self._whole = len(anew), True
                return
            # The line before may be cut off, so this one begins on a new line.
            raw = (f"{line}\n" if self._whole else f"\n{line}\n").encode()
            self._whole = False
            number = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                durable_files.append(number, raw, size=os.fstat(number).st_size)
            finally:
                os.close(number)
            self._whole = True
            self._count += 1
