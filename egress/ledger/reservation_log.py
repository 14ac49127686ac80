"""Admitted requests that are not known to have ended: a file next to the ledger, to which each reservation is appended.

When `begin` returns, the reservation is in the kernel's cache, so that the end of the egress cannot lose it, not even
`kill -9`. It is on disk at most a tenth of a second later. A power failure can lose the reservations of unanswered
requests that left within that time. A stream that reports its usage appends another line with the same id: the last
line is valid. Only a ledger entry with the same id ends a reservation. So a file only grows. When it is long, another
one starts with the open reservations. The older one is removed when the entries of all requests that had ended by then
are durable.

A file is text. Its first line is an object, ``{"ledger": ID, "after": SEQ}``: the entries of its reservations are in
that ledger after that seq. Each further line is empty, or a reservation as a list of its fields.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog
from pydantic import TypeAdapter
from pydantic_core import to_json

from core.crash_points import around, declare, passing
from core.durable_files import append, sync_folder
from egress.ledger.table_rows import Reservation

RESERVE: Final = declare("ledger.reserve")
TELL: Final = declare("ledger.tell")
TURN: Final = declare("ledger.turn")

_BEFORE: Final = f"{RESERVE}.before"
_AFTER: Final = f"{RESERVE}.after"

_log = structlog.get_logger(__name__)

#: The size in bytes at which a file is long.
LONG: Final = 4 * 2**20
#: A disk block: on a full disk, less may still fit into the last block.
_BLOCK: Final = 4096
_reservation: Final = TypeAdapter(Reservation)
#: The largest integer of a column (sqlite.org/datatype3.html).
_MOST: Final = 2**63 - 1


class ReservationLog:
    """The current reservation file. Its methods are called from one thread, and never wait for the disk.

    Args:
        ledger: the ledger's file; reservation files are next to it.
        id: the ledger's id.
        after: the last seq in the ledger.
        long: the size in bytes at which another file starts.

    Raises:
        OSError: no file can be created.
    """

    def __init__(self, ledger: Path, *, id: str, after: int, long: int = LONG) -> None:
        self._ledger = ledger
        self._id = id
        self._least_long = long
        self._open: dict[int, Reservation] = {}
        self._older: dict[Path, tuple[int, int]] = {}
        self._named: Path | None = None
        self._start(after, ())

    def begin(self, reservation: Reservation) -> None:
        """Save a reservation before its request leaves.

        Raises:
            OSError: it cannot be saved, and no part of it was.
        """
        passing(_BEFORE)
        self._append(_line(reservation))
        self._open[reservation.number] = reservation
        passing(_AFTER)

    def tell(self, reservation: Reservation) -> None:
        """Replace the assumed usage of an open request.

        Raises:
            OSError: it cannot be saved; the earlier reservation stays.
        """
        if reservation.number in self._open:
            with around(TELL):
                self._append(_line(reservation))
                self._open[reservation.number] = reservation

    def probe(self) -> None:
        """Test whether the disk accepts writes, with empty lines.

        Raises:
            OSError: it does not.
        """
        self._append(b"\n" * _BLOCK)

    def end(self, number: int) -> None:
        """Note that the entry of a reservation was queued: new files omit the reservation."""
        self._open.pop(number, None)

    @property
    def is_long(self) -> bool:
        """Whether it is time to `turn`."""
        return self._size >= self._long

    def turn(self, after: int) -> None:
        """Start another file. The older ones stay until `drop`.

        Args:
            after: a seq that is in the ledger; the entries of open reservations will have higher ones.

        Raises:
            OSError: it cannot be created; the current file stays in use.
        """
        (number, path), began = self._file, self._after
        with around(TURN):
            self._start(after, self._open.values())
        # The old file stays open until it is dropped: another thread may be syncing it.
        self._older[path] = number, began

    def sync(self) -> None:
        """Sync the file to disk; called from one other thread."""
        # Read once: meanwhile another file may be begun.
        number, path = self._file
        os.fdatasync(number)
        if self._named != path:
            sync_folder(path.parent)
            self._named = path

    def drop(self, older: Iterable[Path]) -> None:
        """Remove files that are no longer needed and that no thread is syncing.

        Raises:
            OSError: a file cannot be removed; it stays in `older`.
        """
        for path in older:
            path.unlink(missing_ok=True)
            number, _ = self._older.pop(path, (None, 0))
            if number is not None:
                os.close(number)

    @property
    def older(self) -> tuple[Path, ...]:
        """The files before the current one."""
        return tuple(self._older)

    @property
    def after(self) -> int:
        """The seq up to which recovery never needs entries."""
        return min(self._after, *(began for _, began in self._older.values())) if self._older else self._after

    def close(self) -> None:
        """Close the files without removing them."""
        for number in (self._file[0], *(number for number, _ in self._older.values())):
            os.close(number)

    def _start(self, after: int, reservations: Iterable[Reservation]) -> None:
        path = _next(self._ledger)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        content = b"".join([to_json({"ledger": self._id, "after": after}) + b"\n", *map(_line, reservations)])
        try:
            append(number, content, size=0)
        except OSError:
            os.close(number)
            path.unlink(missing_ok=True)
            raise
        self._file, self._size, self._after = (number, path), len(content), after
        # If many reservations are open, files must not be rewritten repeatedly.
        self._long = max(self._least_long, len(content) * 4)

    def _append(self, line: bytes) -> None:
        number, _ = self._file
        try:
            append(number, line, size=self._size)
        except OSError:
            # A full disk may even refuse to truncate a file (copy-on-write file systems).
            self._size = os.fstat(number).st_size
            raise
        self._size += len(line)


def pending(ledger: Path, id: str) -> tuple[int, list[Reservation], list[Path]]:
    """Return the reservations in the files next to the ledger, in the order of their admission.

    Files of an earlier ledger are left alone: the entries of their reservations are in that ledger.

    Args:
        ledger: the ledger's file.
        id: the ledger's id.

    Returns:
        The seq after which to look for the entries of these reservations, the reservations, and the files.
    """
    after: int | None = None
    found: dict[str, Reservation] = {}
    files = []
    for path in _files(ledger):
        whose, begins, reservations = _read(path)
        if whose not in (None, id):
            _log.warning("reservations_of_another_ledger", file=str(path), ledger=whose)
            continue
        files.append(path)
        if reservations:
            after = begins if after is None else min(after, begins)
            found |= {reservation.id: reservation for reservation in reservations}
    return after or 0, list(found.values()), files


def remove(ledger: Path, files: Iterable[Path]) -> None:
    """Remove files whose reservations all have durable entries."""
    for path in files:
        path.unlink()
    sync_folder(ledger.parent)


def _files(ledger: Path) -> list[Path]:
    """Return the reservation files, oldest first."""
    prefix = f"{ledger.name}-open-"
    named = [path for path in ledger.parent.iterdir() if path.name.startswith(prefix)]
    return sorted(
        (path for path in named if path.name[len(prefix) :].isdecimal()),
        key=lambda path: int(path.name[len(prefix) :]),
    )


def _next(ledger: Path) -> Path:
    files = _files(ledger)
    last = int(files[-1].name.rpartition("-")[2]) if files else 0
    return ledger.with_name(f"{ledger.name}-open-{last + 1}")


def _read(path: Path) -> tuple[str | None, int, list[Reservation]]:
    """Return the file's ledger id (None if unreadable), the seq after which it begins, and its reservations."""
    whose, after, reservations = None, 0, []
    # After a power failure, the last line may be incomplete, or zeros.
    for place, line in enumerate(path.read_bytes().split(b"\n")):
        try:
            if place == 0:
                first = json.loads(line)
                whose, after = str(first["ledger"]), int(first["after"])
            elif line:
                reservations.append(_readable(line))
        except (ValueError, TypeError, KeyError):
            _log.warning("reservation_unreadable", file=path.name, line=place + 1)
    return whose, after, reservations


def _readable(line: bytes) -> Reservation:
    found = _reservation.validate_json(line)
    if any(isinstance(value, int) and not 0 <= value <= _MOST for value in found):
        raise ValueError("no column takes so much")
    return found


def _line(reservation: Reservation) -> bytes:
    # The preceding bytes may be a partial line that could not be removed; the following bytes may be zeros after a
    # power failure.
    return b"\n" + to_json(reservation) + b"\n"
