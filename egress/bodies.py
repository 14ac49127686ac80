"""The body of a request, whole: short ones in memory, long ones in a file without a name, none without a bound."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from register.errors import MusterError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from pathlib import Path

    from aiohttp import StreamReader, web

_T = TypeVar("_T")

#: Longer ones lie in a file.
IN_MEMORY: Final = 2**20
LONGEST: Final = 128 * 2**20
#: All that lie in memory and in files at a time, over all agents; who comes then is told to come again.
MOST_IN_MEMORY: Final = 128 * 2**20
MOST_ON_DISK: Final = 2 * 2**30
#: Of either, the part that one agent may have: who sends many and never ends them keeps no other from asking.
SHARE: Final = 1 / 4
#: Long ones that are parsed at a time, over all agents.
MOST_PARSED: Final = 2
#: A client that sends nothing for so long, and has not sent all, is gone.
SILENCE_S: Final = 60.0
_PIECE: Final = 2**18


class TooLong(MusterError):
    """The request is longer than is taken here."""


class NoRoom(MusterError):
    """So many requests are on their way that this one must wait."""


class Stalled(MusterError):
    """The request did not come whole in time."""


@dataclass(slots=True)
class Body:
    """One body. To be closed."""

    _content: bytes
    _file: int | None
    _size: int
    _store: Bodies
    _whose: str
    begun: bool = False
    """Some of it may have left for the provider."""
    kept: bool = False
    """It is needed beyond the end of its request's handler. Whoever set this closes it."""

    @property
    def size(self) -> int:
        """In bytes."""
        return self._size

    @property
    def long(self) -> bool:
        """It lies in a file: whoever reads it, does so in a thread."""
        return self._file is not None

    def content(self) -> bytes:
        """All of it, in memory."""
        if self._file is None:
            return self._content
        return b"".join(_Pieces(self._file, self._size))

    def put(self, content: bytes) -> None:
        """Something else stands in its place."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            _write(self._file, content)
        else:
            self._content = content
        self._size = len(content)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """For sending it: a long one is read piece by piece."""
        if self._file is None:
            yield self._content
            return
        place = 0
        while place < self._size:
            piece = await asyncio.to_thread(os.pread, self._file, _PIECE, place)
            if not piece:
                return
            place += len(piece)
            yield piece

    def close(self) -> None:
        """Give back what it took."""
        self._store.give_back(self)


class Bodies:
    """Reads bodies, and keeps the sum of all within bounds."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._in_memory: Counter[str] = Counter()
        self._on_disk: Counter[str] = Counter()
        """In bytes, by whose they are."""
        self._turns = Turns(MOST_PARSED)
        self._held: dict[int, tuple[int, int]] = {}

    async def work_on(self, whose: str, work: Callable[[], _T]) -> _T:
        """Parse or rewrite a long one in a thread, which needs several times its size in memory; so in turn."""
        async with self._turns.turn(whose):
            return await _in_thread(work)

    async def read(self, request: web.BaseRequest, whose: str, longest: int | None = None) -> Body:
        """Take the whole of a request's body.

        Args:
            request: as it came.
            whose: the agent's name.
            longest: so many bytes are taken; None: as many as of any request.

        Raises:
            TooLong, NoRoom, Stalled: it is not had; the rest of it is still in the connection.
            ConnectionError, aiohttp.web.RequestPayloadError: the client left, or its coding is broken.
        """
        longest = LONGEST if longest is None else longest
        announced = request.content_length
        if announced is not None and announced > longest:
            raise TooLong(f"the request is {announced} bytes long; at most {longest} are taken.")
        return await self._take(request.content, whose, longest)

    async def _take(self, reader: StreamReader, whose: str, longest: int) -> Body:
        parts: list[bytes] = []
        size = 0
        file: int | None = None
        memory = disk = 0
        kept = False
        try:
            while True:
                piece = await _next(reader)
                if not piece:
                    break
                size += len(piece)
                if size > longest:
                    raise TooLong(f"the request is longer than the {longest} bytes that are taken.")
                parts.append(piece)
                if file is None and size <= IN_MEMORY:
                    if _is_full(self._in_memory, whose, len(piece), MOST_IN_MEMORY):
                        raise NoRoom
                    self._in_memory[whose] += len(piece)
                    memory += len(piece)
                    continue
                if file is None:
                    file = _nameless(self._spool)
                waiting = sum(map(len, parts))
                if waiting >= _PIECE or memory:
                    disk += await self._spill(file, parts, waiting, whose)
                    _less(self._in_memory, whose, memory)
                    memory = 0
            if file is None:
                content = parts[0] if len(parts) == 1 else b"".join(parts)
            else:
                disk += await self._spill(file, parts, sum(map(len, parts)), whose)
                content = b""
            body = Body(content, file, size, self, whose)
            self._held[id(body)] = (memory, disk)
            kept = True
            return body
        finally:
            if not kept:
                _less(self._in_memory, whose, memory)
                _less(self._on_disk, whose, disk)
                if file is not None:
                    os.close(file)

    async def _spill(self, file: int, parts: list[bytes], size: int, whose: str) -> int:
        if _is_full(self._on_disk, whose, size, MOST_ON_DISK):
            raise NoRoom
        content = b"".join(parts)
        parts.clear()
        self._on_disk[whose] += size
        try:
            await _in_thread(lambda: _write(file, content))
        except BaseException:
            _less(self._on_disk, whose, size)
            raise
        return size

    def give_back(self, body: Body) -> None:
        """Called by `Body.close`, once or more."""
        memory, disk = self._held.pop(id(body), (0, 0))
        _less(self._in_memory, body._whose, memory)
        _less(self._on_disk, body._whose, disk)
        if body._file is not None:
            with contextlib.suppress(OSError):
                os.close(body._file)
            body._file = None
        body._content = b""


class Turns:
    """So many things are done at a time, of each agent's one; those of different agents in turn.

    An agent has at most one in the queue that all wait in. So who sends a hundred waits behind itself, and whoever
    else comes waits for one of each of the others' at most.
    """

    def __init__(self, most: int) -> None:
        self._all = asyncio.Semaphore(most)
        self._own: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, whose: str) -> AsyncIterator[None]:
        """Wait for one, and have it while the block runs."""
        lock, users = self._own.get(whose, (None, 0))
        lock = lock or asyncio.Lock()
        self._own[whose] = lock, users + 1
        try:
            # Both queues are first come, first served (asyncio's documentation says so of locks and semaphores).
            async with lock, self._all:
                yield
        finally:
            _, users = self._own.pop(whose)
            if users > 1:
                self._own[whose] = lock, users - 1


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Do this in a thread. Who is cancelled meanwhile goes only after it is done: the thread has the file's number,
    which after the file is closed may be another's."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        raise


def _is_full(held: Counter[str], whose: str, more: int, most: int) -> bool:
    return held[whose] + more > most * SHARE or held.total() + more > most


def _less(held: Counter[str], whose: str, size: int) -> None:
    held[whose] -= size
    if held[whose] <= 0:
        del held[whose]


@dataclass(slots=True)
class _Pieces:
    file: int
    left: int
    place: int = 0

    def __iter__(self) -> Iterator[bytes]:
        # One read may give less than it was asked for.
        while self.left and (piece := os.pread(self.file, self.left, self.place)):
            self.place += len(piece)
            self.left -= len(piece)
            yield piece


async def _next(reader: StreamReader) -> bytes:
    # Where it is here already, no clock need be wound up for it.
    piece = reader.read_nowait()
    if piece or reader.at_eof():
        return piece
    try:
        async with asyncio.timeout(SILENCE_S):
            return await reader.readany()
    except TimeoutError:
        raise Stalled(f"the request stopped in the middle for {SILENCE_S:.0f} seconds.") from None


def _nameless(folder: Path) -> int:
    """A new file that is gone with its descriptor."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}:
            raise
    # A file system that does not know of them.
    file, path = tempfile.mkstemp(dir=folder)
    os.unlink(path)
    return file


def _write(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
