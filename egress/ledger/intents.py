"""What was admitted and is not known to have ended: a file beside the ledger, to which each reservation is appended.

A reservation is with the kernel when `begin` returns, so that the end of the egress, by `kill -9` or otherwise, loses
none. On the disk it is a tenth of a second later at most: a loss of power can take along what had left within that
time and was not answered. It is taken back by nothing but its entry in the ledger, which has the same id. So a file
only grows; when it is long, another is begun with what is still open, and the older one goes when everything that had
ended by then is in the ledger, durably.

A file is text. Its first line is an object, ``{"after": SEQ}``: what became of its reservations stands in the ledger
after that seq. Each further line is a reservation, the list of its fields, or empty.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import structlog

from egress.ledger.rows import Reservation
from register.crashpoints import around, declare, passing
from register.files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RESERVE: Final = declare("ledger.reserve")
TURN: Final = declare("ledger.turn")

_BEFORE: Final = f"{RESERVE}.before"
_AFTER: Final = f"{RESERVE}.after"

_log = structlog.get_logger(__name__)

#: A file of so many bytes is long.
LONG: Final = 4 * 2**20
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class Intents:
    """The file that is written now. Its methods are called from one thread, and wait for no disk.

    Args:
        ledger: the ledger's file; these lie beside it.
        after: the last seq that is in the ledger.
        long: when another file is begun, bytes.

    Raises:
        OSError: no file can be made.
    """

    def __init__(self, ledger: Path, *, after: int, long: int = LONG) -> None:
        self._ledger = ledger
        self._long = long
        self._open: dict[int, Reservation] = {}
        self._older: dict[Path, int] = {}
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

    def probe(self) -> None:
        """Find out whether anything can be kept, by an empty line.

        Raises:
            OSError: nothing can.
        """
        self._append(b"\n")

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
        number, path, began = self._number, self._path, self._after
        with around(TURN):
            self._start(after, self._open.values())
        os.close(number)
        self._older[path] = began

    def sync(self) -> None:
        """Have the file on the disk; from any thread."""
        # A number of its own: meanwhile another file may be begun.
        number = os.dup(self._number)
        try:
            os.fdatasync(number)
        finally:
            os.close(number)

    def drop(self, older: Iterable[Path]) -> None:
        """Remove files of which nothing is needed any more."""
        for path in older:
            path.unlink(missing_ok=True)
            self._older.pop(path, None)

    @property
    def older(self) -> tuple[Path, ...]:
        """Files before this one."""
        return tuple(self._older)

    @property
    def after(self) -> int:
        """Only of entries up to this seq nobody will ask whether they are in the ledger."""
        return min(self._after, *self._older.values()) if self._older else self._after

    def close(self) -> None:
        """Let go of the file, which stays."""
        os.close(self._number)

    def _start(self, after: int, reservations: Iterable[Reservation]) -> None:
        path = _next(self._ledger)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        content = b"".join([_encode({"after": after}).encode() + b"\n", *map(_line, reservations)])
        try:
            _write(number, content, 0)
        except OSError:
            os.close(number)
            path.unlink(missing_ok=True)
            raise
        self._number, self._path, self._size, self._after = number, path, len(content), after
        if len(content) * 4 > self._long:
            # So much is open that it is not written anew again and again.
            self._long = len(content) * 4

    def _append(self, line: bytes) -> None:
        _write(self._number, line, self._size)
        self._size += len(line)


def pending(ledger: Path) -> tuple[int, list[Reservation], list[Path]]:
    """What the files beside a ledger hold, in the order in which it was admitted.

    Returns:
        After which seq of the ledger to look for the entries of all this, the reservations, and the files.
    """
    after: int | None = None
    found: dict[str, Reservation] = {}
    files = _files(ledger)
    for path in files:
        begins, reservations = _read(path)
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


def _read(path: Path) -> tuple[int, list[Reservation]]:
    after, reservations = 0, []
    # After a loss of power, the last line may be a part of one, or zeros.
    for place, line in enumerate(path.read_bytes().split(b"\n")):
        try:
            found: Any = json.loads(line)
            if place == 0:
                after = int(found["after"])
            else:
                reservations.append(Reservation._make(found))
        except (ValueError, TypeError, KeyError):
            if line:
                _log.warning("reservation_unreadable", file=path.name, line=place + 1)
    return after, reservations


def _line(reservation: Reservation) -> bytes:
    return _encode(reservation).encode() + b"\n"


def _write(number: int, content: bytes, size: int) -> None:
    """Append to a file of this size, all of it or nothing."""
    rest = content
    try:
        while written := os.write(number, rest):
            if written == len(rest):
                return
            rest = rest[written:]
        raise OSError("nothing was written")
    except OSError:
        os.ftruncate(number, size)
        raise
