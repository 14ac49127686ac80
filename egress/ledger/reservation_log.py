"""What was admitted and is not known to have ended: a file beside the ledger, to which each reservation is appended.

A reservation is with the kernel when `begin` returns, so that the end of the egress, by `kill -9` or otherwise, loses
none. On the disk it is a tenth of a second later at most: a loss of power can take along what had left within that
time and was not answered. A stream that tells what it uses is appended once more, with the same id: the last line
holds. It is taken back by nothing but its entry in the ledger, which has the same id. So a file
only grows; when it is long, another is begun with what is still open, and the older one goes when everything that had
ended by then is in the ledger, durably.

A file is text. Its first line is an object, ``{"ledger": ID, "after": SEQ}``: what happened to its reservations is in
that ledger after that seq. Each further line is a reservation, the list of its fields, or empty.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

import structlog
from pydantic import TypeAdapter
from pydantic_core import to_json

from core.crash_points import around, declare, passing
from core.durable_files import append, sync_folder
from egress.ledger.table_rows import Reservation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RESERVE: Final = declare("ledger.reserve")
TELL: Final = declare("ledger.tell")
TURN: Final = declare("ledger.turn")

_BEFORE: Final = f"{RESERVE}.before"
_AFTER: Final = f"{RESERVE}.after"

_log = structlog.get_logger(__name__)

#: A file of so many bytes is long.
LONG: Final = 4 * 2**20
#: A block of a disk: less may find room at the end of the last one, on a disk that is full.
_BLOCK: Final = 4096
_reservation: Final = TypeAdapter(Reservation)
#: What a column takes (sqlite.org/datatype3.html).
_MOST: Final = 2**63 - 1


class Intents:
    """The file that is written now. Its methods are called from one thread, and wait for no disk.

    Args:
        ledger: the ledger's file; these lie beside it.
        id: of the ledger.
        after: the last seq that is in the ledger.
        long: when another file is begun, bytes.

    Raises:
        OSError: no file can be made.
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
        """Keep a reservation before its request leaves.

        Raises:
            OSError: it cannot be kept, and nothing of it is there.
        """
        passing(_BEFORE)
        self._append(_line(reservation))
        self._open[reservation.number] = reservation
        passing(_AFTER)

    def tell(self, reservation: Reservation) -> None:
        """Keep what is assumed of an open request now, in place of what `begin` was told.

        Raises:
            OSError: it cannot be kept; what was kept before holds.
        """
        if reservation.number in self._open:
            with around(TELL):
                self._append(_line(reservation))
                self._open[reservation.number] = reservation

    def probe(self) -> None:
        """Find out whether anything can be kept, by empty lines.

        Raises:
            OSError: nothing can.
        """
        self._append(b"\n" * _BLOCK)

    def end(self, number: int) -> None:
        """Its entry was asked for: a file that is begun from now on need not have it."""
        self._open.pop(number, None)

    @property
    def is_long(self) -> bool:
        """It is time to `turn`."""
        return self._size >= self._long

    def turn(self, after: int) -> None:
        """Begin another file. The older ones are there until `drop`.

        Args:
            after: a seq that is in the ledger; the entries of what is open will have higher ones.

        Raises:
            OSError: it cannot be made; the one that is there goes on.
        """
        (number, path), began = self._file, self._after
        with around(TURN):
            self._start(after, self._open.values())
        # It stays open until it is dropped: someone may just be syncing it.
        self._older[path] = number, began

    def sync(self) -> None:
        """Have the file on the disk; from one other thread."""
        # Read once: meanwhile another file may be begun.
        number, path = self._file
        os.fdatasync(number)
        if self._named != path:
            sync_folder(path.parent)
            self._named = path

    def drop(self, older: Iterable[Path]) -> None:
        """Remove files of which nothing is needed any more. No one syncs them.

        Raises:
            OSError: one cannot be removed; it is still among the older ones.
        """
        for path in older:
            path.unlink(missing_ok=True)
            number, _ = self._older.pop(path, (None, 0))
            if number is not None:
                os.close(number)

    @property
    def older(self) -> tuple[Path, ...]:
        """Files before this one."""
        return tuple(self._older)

    @property
    def after(self) -> int:
        """Only of entries up to this seq no one will ask whether they are in the ledger."""
        return min(self._after, *(began for _, began in self._older.values())) if self._older else self._after

    def close(self) -> None:
        """Let go of the files, which stay."""
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
        # However much is open, it is not rewritten again and again.
        self._long = max(self._least_long, len(content) * 4)

    def _append(self, line: bytes) -> None:
        number, _ = self._file
        try:
            append(number, line, size=self._size)
        except OSError:
            # A full disk may refuse even that a file becomes shorter (file systems that copy on write).
            self._size = os.fstat(number).st_size
            raise
        self._size += len(line)


def pending(ledger: Path, id: str) -> tuple[int, list[Reservation], list[Path]]:
    """Return what the files beside a ledger hold, in the order in which it was admitted.

    Files of another ledger, which was here before it, are left alone: what they hold has its entries there.

    Args:
        ledger: its file.
        id: its own.

    Returns:
        After which seq of the ledger to look for the entries of all this, the reservations, and the files.
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
    """Remove files whose reservations all have their entries, durably."""
    for path in files:
        path.unlink()
    sync_folder(ledger.parent)


def _files(ledger: Path) -> list[Path]:
    """Oldest first."""
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
    """Return whose file it is (None: it does not say so), after which seq it begins, and what it holds."""
    whose, after, reservations = None, 0, []
    # After a loss of power, the last line may be a part of one, or zeros.
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
    # What is before it may be a part that could not be taken back; after it, zeros after a loss of power.
    return b"\n" + to_json(reservation) + b"\n"
