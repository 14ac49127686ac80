"""An agent's journal: what happened to it, entry by entry, in files that outlive every process.

``FOLDER/journal/00000003.jsonl`` is the third incarnation, one entry (`fleet.journal.events.JournalEntry`) a line. A
writer always begins a new incarnation and never continues an old one; so whatever a crash or a full disk left at the
end of a file stays the end of that file, and readers go over to the next. This module also reads journals, of running
agent hosts and of those that are gone; `fleet.host.journal_writer` writes them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet.journal.events import JournalEntry, JournalPosition, Opened

#: No line of a journal is longer; what is would be damage, not an entry.
LINE_LIMIT = 16 * 2**20

_NAME = re.compile(r"(\d{8,})\.jsonl")
#: Bytes that are read at once.
BLOCK = 2**18
_PAGE_BYTES = 2**22


@dataclass(frozen=True, slots=True)
class Durable:
    """How much of the newest incarnation is on disk for certain."""

    incarnation: int
    size: int
    """Bytes."""


def path_of(folder: Path, incarnation: int) -> Path:
    """Return where an incarnation's file is. `folder` is the agent's."""
    return folder / "journal" / f"{incarnation:08d}.jsonl"


def incarnations(folder: Path) -> list[int]:
    """Return the incarnations that have a file, oldest first."""
    try:
        names = [entry.name for entry in (folder / "journal").iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


class JournalCursor:
    """A place in a journal from which whole lines are read, each once, in order.

    `after` is the position that the reader knows already; what comes next is the first entry beyond it.
    """

    def __init__(self, folder: Path, after: JournalPosition) -> None:
        self._folder = folder
        self._incarnation = after.incarnation
        self._skip = after.seq
        self._offset = 0

    def read(self, limit_bytes: int, until: Durable | None = None) -> list[bytes]:
        """Return the next lines, without their newline, together about `limit_bytes`; empty when there are no more now.

        With `until` nothing beyond that point is read (the writer knows what is durable). Without it, the newest file
        is read as far as it holds whole lines.
        """
        lines: list[bytes] = []
        size = 0
        while size < limit_bytes:
            # Looked up before reading: once a file has a successor, nothing is added to it any more.
            successor = self._successor(until)
            block, over = self._read_block(limit_bytes - size, until)
            lines.extend(block)
            size += sum(map(len, block))
            if not block:
                if over or successor is None:
                    break
                self._incarnation, self._skip, self._offset = successor, 0, 0
        return lines

    def _read_block(self, limit_bytes: int, until: Durable | None) -> tuple[list[bytes], bool]:
        """Whole lines from the current file, and whether its end is not to be passed yet."""
        if until is not None and self._incarnation > until.incarnation:
            return [], True
        end = until.size if until is not None and self._incarnation == until.incarnation else None
        try:
            with path_of(self._folder, self._incarnation).open("rb") as file:
                file.seek(self._offset)
                lines: list[bytes] = []
                taken = 0
                while taken < limit_bytes and (end is None or self._offset < end):
                    line = file.readline(LINE_LIMIT)
                    seq = _seq_of(line)
                    if seq is None:
                        break
                    self._offset += len(line)
                    if seq > self._skip:
                        lines.append(line[:-1])
                        taken += len(line)
                return lines, end is not None
        except FileNotFoundError:
            return [], False

    def _successor(self, until: Durable | None) -> int | None:
        newest = until.incarnation if until is not None else None
        later = (n for n in incarnations(self._folder) if n > self._incarnation and (newest is None or n <= newest))
        return next(later, None)


_SEQ = re.compile(rb'\{"incarnation": ?\d+, ?"seq": ?(\d+),')


def _seq_of(line: bytes) -> int | None:
    """Return the number of an entry's line; None for a torn or damaged one, behind which nothing of its file counts."""
    if not line.endswith(b"}\n"):
        return None
    head = _SEQ.match(line)
    return int(head[1]) if head else None


def encode(entry: JournalEntry) -> bytes:
    """Return the entry's line."""
    return json.dumps(entry.to_json(), separators=(",", ":")).encode("ascii") + b"\n"


def decode(lines: list[bytes]) -> Iterator[JournalEntry]:
    """Yield the entries of lines; one that is damaged, or that lacks what it must have, is left out."""
    for line in lines:
        try:
            source = json.loads(line)
            if isinstance(source, dict):
                yield JournalEntry.from_json(source)
        except (ValueError, RecursionError):
            continue


def pages(folder: Path, after: JournalPosition, limit: int = 1000) -> Iterator[list[JournalEntry]]:
    """Yield all entries after a position, at most `limit` at a time (fewer of long ones), from the files alone: the
    agent host may be gone."""
    cursor = JournalCursor(folder, after)
    waiting: list[JournalEntry] = []
    size = 0
    while lines := cursor.read(BLOCK):
        waiting.extend(decode(lines))
        size += sum(map(len, lines))
        while len(waiting) >= limit or (waiting and size >= _PAGE_BYTES):
            yield waiting[:limit]
            del waiting[:limit]
            size = 0
    if waiting:
        yield waiting


class JournalReader:
    """Reads a journal in pages; asked for what follows the page before, it goes on where it was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._at = JournalPosition()
        self._pages: Iterator[list[JournalEntry]] = iter(())

    def read(self, after: JournalPosition, limit: int = 1000) -> list[JournalEntry]:
        """Return the first `limit` entries after a position; empty when there are none yet."""
        page = next(self._pages, None) if after == self._at and after != JournalPosition() else None
        if page is None or len(page) > limit:
            self._pages = pages(self._folder, after, limit)
            page = next(self._pages, [])
        if page:
            self._at = page[-1].position
        return page


def read(folder: Path, after: JournalPosition, limit: int = 1000) -> list[JournalEntry]:
    """Return the first `limit` entries after a position; `JournalReader` is for reading on."""
    return next(pages(folder, after, limit), [])


def read_last(folder: Path, count: int) -> list[JournalEntry]:
    """Return the last `count` entries, oldest first, over as many incarnations as that takes."""
    return list(decode(last_lines(folder, count)))


def last_lines(
    folder: Path, count: int, *, before: JournalPosition | None = None, most_bytes: int | None = None
) -> list[bytes]:
    """Return the lines of the last entries, without newlines, oldest first, over as many incarnations as that takes.

    Args:
        folder: the agent's folder.
        count: how many at most.
        before: only entries before this position; None: of all.
        most_bytes: how long they may be together; the last one is returned however long it is.
    """
    lines: list[bytes] = []
    for incarnation in reversed(incarnations(folder)):
        if before is not None and incarnation > before.incarnation:
            continue
        end = before.seq if before is not None and incarnation == before.incarnation else None
        room = math.inf if most_bytes is None else most_bytes - sum(map(len, lines))
        found, is_all = _last_lines(folder, incarnation, count - len(lines), end, room, least=0 if lines else 1)
        lines = [*found, *lines]
        if not is_all or len(lines) >= count:
            break
    return lines


def _last_lines(
    folder: Path, incarnation: int, count: int, before: int | None, room: float, *, least: int
) -> tuple[list[bytes], bool]:
    """Return the last lines of a file whose numbers are below `before`, and whether they are all of these: `room` bytes
    of them, and at least `least` lines. It is read from its end, so its length does not matter; a damaged one is read
    from its beginning, since nothing behind the damage counts."""
    path = path_of(folder, incarnation)
    end = Durable(incarnation, path.stat().st_size)
    lines: list[bytes] = []
    for line in _lines_backwards(path, end.size):
        seq = _seq_of(line)
        if seq is None:
            break
        if before is None or seq < before:
            room -= len(line)
            if room < 0 and len(lines) >= least:
                return lines[::-1], False
            lines.append(line[:-1])
        if seq == 1:
            return lines[::-1], True
        if len(lines) == count:
            return lines[::-1], False
    cursor = JournalCursor(folder, JournalPosition(incarnation, 0))
    lines = []
    while block := cursor.read(BLOCK, end):
        lines += [line for line in block if before is None or (_seq_of(line + b"\n") or 0) < before]
        lines = lines[-count:]
    return lines, True


def _lines_backwards(path: Path, size: int) -> Iterator[bytes]:
    """Yield the lines of the first `size` bytes, the last first. What follows the last newline is left out: it is still
    being written, or was when its writer died."""
    with path.open("rb") as file:
        rest = b""
        is_last = True
        while size and len(rest) <= LINE_LIMIT:
            start = max(0, size - BLOCK)
            file.seek(start)
            rest = file.read(size - start) + rest
            size = start
            first, newline, whole = rest.partition(b"\n") if start else (b"", b"\n", rest)
            if not newline:
                continue
            lines = whole.splitlines(keepends=True)
            if is_last and lines and not lines[-1].endswith(b"\n"):
                lines.pop()
            is_last = False
            yield from reversed(lines)
            rest = first + b"\n"


def last_entry(folder: Path) -> JournalEntry | None:
    """Return the newest entry of all."""
    entries = read_last(folder, 1)
    return entries[0] if entries else None


def last_opened(folder: Path) -> Opened | None:
    """Return how the newest incarnation that can be read began: of which launch it is."""
    for incarnation in reversed(incarnations(folder)):
        for entry in read(folder, JournalPosition(incarnation, 0), 1):
            if isinstance(entry.event, Opened):
                return entry.event
    return None


def prune(folder: Path, before: JournalPosition, keep_bytes: int) -> list[Path]:
    """Remove the oldest incarnations that were read to their end, until at most `keep_bytes` of them remain.

    The newest file is always kept: it carries the state that the next incarnation begins with.
    """
    everything = incarnations(folder)
    candidates = [path_of(folder, n) for n in everything[:-1] if n < before.incarnation]
    sizes = {path: path.stat().st_size for path in candidates}
    removed = []
    for path in candidates:
        if sum(sizes.values()) <= keep_bytes:
            break
        path.unlink(missing_ok=True)
        del sizes[path]
        removed.append(path)
    return removed
