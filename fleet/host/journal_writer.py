"""The writing side of an agent's journal.

Entries are written in groups: what gathers while one group goes to disk is the next one. An entry is on disk before
anybody is told of it, be it the one who awaits it, the state that is folded from it, or a follower.

When the disk takes no more, the group that failed is cut off the file again and nothing further goes into that file.
Whoever awaited an entry of it is told so; entries that no one awaits (a runtime's text) are kept, the runtime that
makes more of them is slowed down through its pipe, and once there is space they follow in a new incarnation.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from core.crash_points import around, declare
from core.durable_files import append, sync_folder
from fleet.errors import FleetError
from fleet.journal import reader
from fleet.journal.events import Event, JournalEntry, JournalPosition, Opened, TextChunk, ThoughtChunk
from fleet.journal.reader import Durable

OPEN: Final = declare("journal.open")
COMMIT: Final = declare("journal.commit")

#: Entries and characters that may wait to be written before whoever makes more has to wait.
ROOM_ENTRIES = 2000
ROOM_CHARACTERS = 4 * 2**20
#: A merged chunk of text is not longer than this.
_MERGE_CHARACTERS = 2**18
#: At this size a new incarnation is begun, so that old ones can be removed.
ROTATE_BYTES = 64 * 2**20


class JournalNotWritable(FleetError):
    """The agent's journal takes no entries (is the disk full?); until it does, no prompt is started."""


@dataclass(slots=True)
class _Waiting:
    event: Event
    at: float
    durable: asyncio.Future[JournalEntry] | None
    """None: nobody awaits it, so it is kept until it can be written."""

    @property
    def weight(self) -> int:
        return len(self.event.text) if isinstance(self.event, TextChunk | ThoughtChunk) else 500


class JournalWriter:
    """Writes one agent's journal; the agent host's lock says that there is only one.

    Args:
        opened: makes the first entry of an incarnation, from the state as it is then.
        on_durable: is told of entries once they are on disk, in order, before anybody who awaits them.
        on_trouble: is told when the journal stops taking entries (False) and when it takes them again (True).
    """

    def __init__(
        self,
        folder: Path,
        *,
        opened: Callable[[], Opened],
        on_durable: Callable[[list[JournalEntry]], None],
        on_trouble: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        retry_s: float = 2.0,
    ) -> None:
        self._folder = folder
        self._opened = opened
        self._on_durable = on_durable
        self._on_trouble = on_trouble
        self._clock = clock
        self._retry_s = retry_s
        self._thread = ThreadPoolExecutor(1, "journal")
        self._fd = -1
        self._size = 0
        self._seq = 0
        self._waiting: list[_Waiting] = []
        self._weight = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False
        self._retry_at = 0.0
        self._busy = False
        self._idle: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self.writable = False
        self.position = JournalPosition()
        self.durable = Durable(0, 0)
        self.trouble: str | None = None
        """Why the journal is not writable, as the system says it."""

    @classmethod
    async def open(cls, folder: Path, *, floor: int = 0, **settings: Any) -> JournalWriter:
        """Begin an incarnation above all earlier ones, and above `floor`.

        Raises:
            JournalNotWritable: its first entry did not reach the disk.
        """
        writer = cls(folder, **settings)
        (folder / "journal").mkdir(mode=0o700, exist_ok=True)
        try:
            await writer._begin(floor)
        except OSError as error:
            writer._thread.shutdown(wait=False)
            raise JournalNotWritable(f"The journal in {folder} cannot be written: {error.strerror or error}.") from None
        writer._task = asyncio.create_task(writer._run(), name="journal")
        return writer

    @property
    def incarnation(self) -> int:
        return self.position.incarnation

    def record(self, event: Event) -> None:
        """Write `event` as soon as may be. It is kept while the disk is full, so makers of many should await `room`."""
        self._put(event, None)

    async def append(self, *events: Event) -> JournalEntry:
        """Write the events, in one group, and return the last one's entry once all of them are on disk.

        Raises:
            JournalNotWritable: they are not in the journal, and will not be.
        """
        if not self.writable or self._closing:
            raise JournalNotWritable
        loop = asyncio.get_running_loop()
        futures = [self._put(event, loop.create_future()) for event in events]
        results = await asyncio.gather(*[f for f in futures if f is not None], return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        last = results[-1]
        assert isinstance(last, JournalEntry)
        return last

    async def flushed(self) -> None:
        """Wait until what was recorded up to now is durable, or cannot be."""
        if (self._waiting or self._busy) and self.writable:
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle

    async def failed(self) -> None:
        """Wait for the writer to break down, which it never should; raise what broke it."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def room(self) -> None:
        """Wait until no more than the bound is waiting to be written."""
        await self._room.wait()

    async def close(self) -> None:
        """Write what waits, if it can be written, and end."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _put(self, event: Event, durable: asyncio.Future[JournalEntry] | None) -> asyncio.Future[JournalEntry] | None:
        waiting = _Waiting(event, self._clock(), durable)
        self._waiting.append(waiting)
        self._weight += waiting.weight
        self._measure()
        self._wake.set()
        return durable

    def _measure(self) -> None:
        if len(self._waiting) > ROOM_ENTRIES or self._weight > ROOM_CHARACTERS:
            self._room.clear()
        else:
            self._room.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._closing and not (self._waiting and self.writable):
                break
            if not self.writable and asyncio.get_running_loop().time() < self._retry_at:
                continue
            self._busy = True
            try:
                if not self.writable or self._size > ROTATE_BYTES:
                    await self._begin(0)
                while self._waiting:
                    await self._write_group()
            except OSError as error:
                self._falter(error)
            self._busy = False
            self._tell_idle()
        self._refuse(self._waiting)
        self._tell_idle()

    def _tell_idle(self) -> None:
        waiting, self._idle = self._idle, []
        for idle in waiting:
            if not idle.done():
                idle.set_result(None)

    def _falter(self, error: OSError) -> None:
        self.trouble = error.strerror or str(error)
        if self.writable:
            self.writable = False
            self._on_trouble(False)
        self._refuse(self._waiting)
        self._waiting = [waiting for waiting in self._waiting if waiting.durable is None]
        self._weight = sum(waiting.weight for waiting in self._waiting)
        self._measure()
        if self._closing:
            self._wake.set()
            return
        loop = asyncio.get_running_loop()
        self._retry_at = loop.time() + self._retry_s
        loop.call_at(self._retry_at, self._wake.set)

    @staticmethod
    def _refuse(waiting: list[_Waiting]) -> None:
        for one in waiting:
            if one.durable is not None and not one.durable.done():
                one.durable.set_exception(JournalNotWritable())

    async def _write_group(self) -> None:
        group = self._waiting
        merged = _merge(group)
        entries = []
        for seq, waiting in enumerate(merged, start=self._seq + 1):
            position = JournalPosition(self.position.incarnation, seq)
            entries.append(JournalEntry(position=position, at=waiting.at, event=waiting.event))
        self._waiting, self._weight = [], 0
        try:
            await self._write(entries)
        except OSError:
            self._waiting = [*group, *self._waiting]
            raise
        self._seq += len(entries)
        self._announce(entries)
        for waiting, entry in zip(merged, entries, strict=True):
            if waiting.durable is not None and not waiting.durable.done():
                waiting.durable.set_result(entry)

    def _announce(self, entries: list[JournalEntry]) -> None:
        self.position = entries[-1].position
        self.durable = Durable(self.position.incarnation, self._size)
        self._on_durable(entries)
        self._measure()

    async def _write(self, entries: list[JournalEntry]) -> None:
        lines = b"".join([reader.encode(entry) for entry in entries])
        fd, before = self._fd, self._size

        def write() -> None:
            with around(COMMIT):
                append(fd, lines, size=before, sync=True)

        await self._in_thread(write)
        self._size += len(lines)

    async def _begin(self, floor: int) -> None:
        """Open the next incarnation and write its first entry."""
        highest = max([floor, self.position.incarnation, *reader.incarnations(self._folder)])
        entry = JournalEntry(position=JournalPosition(highest + 1, 1), at=self._clock(), event=self._opened())
        path = reader.path_of(self._folder, highest + 1)
        line = reader.encode(entry)

        def begin() -> int:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                with around(OPEN):
                    append(fd, line, size=0)
                    os.fsync(fd)
                    sync_folder(path.parent)
            except OSError:
                os.close(fd)
                path.unlink(missing_ok=True)
                raise
            return fd

        fd = await self._in_thread(begin)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size, self._seq = fd, len(line), 1
        was_writable, self.writable, self.trouble = self.writable, True, None
        self._announce([entry])
        if not was_writable:
            self._on_trouble(True)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _merge(group: list[_Waiting]) -> list[_Waiting]:
    """Return the group with neighbouring chunks of one turn's text made one, where no one awaits them singly."""
    merged: list[_Waiting] = []
    for waiting in group:
        last = merged[-1] if merged else None
        if last is not None and last.durable is None and waiting.durable is None:
            together = _joined(last.event, waiting.event)
            if together is not None:
                merged[-1] = _Waiting(together, last.at, None)
                continue
        merged.append(waiting)
    return merged


def _joined(first: Event, second: Event) -> Event | None:
    for kind in (TextChunk, ThoughtChunk):
        if isinstance(first, kind) and isinstance(second, kind) and first.turn == second.turn:
            if len(first.text) + len(second.text) > _MERGE_CHARACTERS:
                return None
            return kind(turn=first.turn, text=first.text + second.text)
    return None
