"""Complete request bodies: short ones in memory, long ones in unnamed files, all within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from core.errors import MusterError
from egress.request import content_encoding
from egress.request.agent_request import AgentRequest, BrokenBody, Content

_T = TypeVar("_T")

#: Longer bodies are kept in a file.
IN_MEMORY: Final = 2**20
LONGEST: Final = 128 * 2**20
#: The total size of all bodies in memory and in files, over all agents; beyond it, clients must retry later.
MOST_IN_MEMORY: Final = 128 * 2**20
MOST_ON_DISK: Final = 2 * 2**30
#: One agent's maximum part of each total: an agent with many unfinished requests cannot block the others.
SHARE: Final = 1 / 4
#: The number of long bodies parsed at a time, over all agents.
MOST_PARSED: Final = 2
#: A client that is silent for this long in the middle of a request is considered gone.
SILENCE_S: Final = 60.0
_PIECE: Final = 2**18


class TooLong(MusterError):
    """The request exceeds the maximum length."""


class TooManyRequests(MusterError):
    """Too many requests are in progress, so this one must wait."""


class Stalled(MusterError):
    """The request did not arrive completely in time."""


@dataclass(slots=True)
class Body:
    """One body. Must be closed."""

    _content: bytes
    _file: int | None
    _size: int
    _store: Bodies
    whose: str
    """The agent's name."""
    begun: bool = False
    """Whether part of it may have been sent to the provider."""

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self._size

    @property
    def long(self) -> bool:
        """Whether it is in a file, which must be read in a thread."""
        return self._file is not None

    def content(self) -> bytes:
        """Return all of it, in memory."""
        if self._file is None:
            return self._content
        return b"".join(_Pieces(self._file, self._size))

    def put(self, content: bytes) -> None:
        """Replace its content."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            _write(self._file, content)
        else:
            self._content = content
        self._size = len(content)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield its content for sending; a long body is read piece by piece."""
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
        """Release its memory or file."""
        self._store.give_back(self)


class Bodies:
    """Reads bodies, and keeps their total size within bounds."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._in_memory = _Room()
        self._on_disk = _Room()
        self._turns = AgentTurns(MOST_PARSED)
        self._held: dict[int, tuple[int, int]] = {}

    async def work_on(self, whose: str, work: Callable[[], _T]) -> _T:
        """Parse or rewrite a long body in a thread. Only a few run at a time: each needs several times its size in
        memory."""
        async with self._turns.turn(whose):
            return await _in_thread(work)

    def made(self, content: bytes) -> Body:
        """Return a body in memory that belongs to no agent."""
        return Body(content, None, len(content), self, "")

    async def read(self, request: AgentRequest, whose: str, longest: int | None = None) -> Body:
        """Read the whole body of a request.

        Args:
            request: the request as received.
            whose: the agent's name.
            longest: the maximum length in bytes; None: the general maximum.

        Raises:
            TooLong, TooManyRequests, Stalled: the body was not read; the rest of it is still in the connection.
            ConnectionError, BrokenBody: the client left, or what it sent cannot be read.
        """
        longest = LONGEST if longest is None else longest
        announced = request.content_length
        if announced is not None and announced > longest:
            raise TooLong(f"the request is {announced} bytes long; the maximum is {longest}.")
        return await self._take(request.content, whose, longest, request.headers.get("Content-Encoding"))

    async def _take(self, content: Content, whose: str, longest: int, encoded: str | None = None) -> Body:
        plain = encoded is None or encoded.strip().lower() in {"", "identity"}
        first = content.read_nowait() if plain else b""
        if plain and content.at_eof() and len(first) <= min(longest, IN_MEMORY):
            # The usual case: a short body that has arrived completely.
            self._in_memory.take(whose, len(first), MOST_IN_MEMORY)
            return self._made(first, None, len(first), whose, (len(first), 0))
        parts: list[bytes] = []
        size = 0
        file: int | None = None
        memory = disk = 0
        kept = False
        try:
            async for piece in _pieces(content, first, None if plain else encoded):
                size += len(piece)
                if size > longest:
                    raise TooLong(f"the request is longer than the maximum of {longest} bytes.")
                parts.append(piece)
                if file is None and size <= IN_MEMORY:
                    self._in_memory.take(whose, len(piece), MOST_IN_MEMORY)
                    memory += len(piece)
                    continue
                if file is None:
                    file = _nameless(self._spool)
                waiting = sum(map(len, parts))
                if waiting >= _PIECE or memory:
                    disk += await self._spill(file, parts, waiting, whose)
                    self._in_memory.give(whose, memory)
                    memory = 0
            whole = b""
            if file is None:
                whole = b"".join(parts)
            else:
                disk += await self._spill(file, parts, sum(map(len, parts)), whose)
            kept = True
            return self._made(whole, file, size, whose, (memory, disk))
        finally:
            if not kept:
                self._in_memory.give(whose, memory)
                self._on_disk.give(whose, disk)
                if file is not None:
                    os.close(file)

    def _made(self, content: bytes, file: int | None, size: int, whose: str, held: tuple[int, int]) -> Body:
        body = Body(content, file, size, self, whose)
        self._held[id(body)] = held
        return body

    async def _spill(self, file: int, parts: list[bytes], size: int, whose: str) -> int:
        self._on_disk.take(whose, size, MOST_ON_DISK)
        content = b"".join(parts)
        parts.clear()
        try:
            await _in_thread(lambda: _write(file, content))
        except BaseException:
            self._on_disk.give(whose, size)
            raise
        return size

    def give_back(self, body: Body) -> None:
        """Release a body's memory or file. `Body.close` calls this, possibly more than once."""
        memory, disk = self._held.pop(id(body), (0, 0))
        self._in_memory.give(body.whose, memory)
        self._on_disk.give(body.whose, disk)
        if body._file is not None:
            with contextlib.suppress(OSError):
                os.close(body._file)
            body._file = None
        body._content = b""


class _Room:
    """Counts the held bytes, in total and by agent."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._all = 0

    def take(self, whose: str, more: int, most: int) -> None:
        """Add bytes of an agent.

        Raises:
            TooManyRequests: that would exceed the limit of all agents, or of this one.
        """
        if not more:
            return
        mine = self._held.get(whose, 0) + more
        if mine > most * SHARE or self._all + more > most:
            raise TooManyRequests("there are too many long requests on their way. Try again in a few seconds.")
        self._held[whose] = mine
        self._all += more

    def give(self, whose: str, size: int) -> None:
        """Remove bytes of an agent."""
        if not size:
            return
        self._all -= size
        left = self._held[whose] - size
        if left:
            self._held[whose] = left
        else:
            del self._held[whose]


class AgentTurns:
    """A queue that runs a limited number of tasks at a time, at most one of each agent, with agents taking turns.

    An agent has at most one entry in the common queue; its other tasks wait behind that one. So each agent waits for at
    most one task of every other agent.
    """

    def __init__(self, most: int) -> None:
        self._all = asyncio.Semaphore(most)
        self._own: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, whose: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it while the block runs."""
        lock, users = self._own.get(whose, (None, 0))
        lock = lock or asyncio.Lock()
        self._own[whose] = lock, users + 1
        try:
            # Both queues are first come, first served (asyncio documents this for locks and semaphores).
            async with lock, self._all:
                yield
        finally:
            _, users = self._own.pop(whose)
            if users > 1:
                self._own[whose] = lock, users - 1


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Run `work` in a thread, and wait for it even if canceled. Otherwise the file could be closed, and the thread
    would use a descriptor that another file has reused."""
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


@dataclass(slots=True)
class _Pieces:
    file: int
    left: int
    place: int = 0

    def __iter__(self) -> Iterator[bytes]:
        # A read may return less than requested.
        while self.left and (piece := os.pread(self.file, self.left, self.place)):
            self.place += len(piece)
            self.left -= len(piece)
            yield piece


async def _pieces(content: Content, first: bytes, encoded: str | None) -> AsyncIterator[bytes]:
    """Yield the body decoded, beginning with `first`, which was read before.

    Raises:
        Stalled, ConnectionError, BrokenBody: the rest cannot be read.
    """
    piece = first or await _next(content)
    if encoded is None:
        while piece:
            yield piece
            piece = await _next(content)
        return
    try:
        decoder = content_encoding.decoder(encoded)
        while piece:
            for part in decoder.feed(piece):
                yield part
                # A few bytes may decompress into many; let other tasks run.
                await asyncio.sleep(0)
            piece = await _next(content)
        for part in decoder.end():
            yield part
    except content_encoding.BadEncoding as error:
        raise BrokenBody(str(error)) from None


async def _next(content: Content) -> bytes:
    # Data that has already arrived needs no timeout.
    piece = content.read_nowait()
    if piece or content.at_eof():
        return piece
    try:
        async with asyncio.timeout(SILENCE_S):
            return await content.readany()
    except TimeoutError:
        raise Stalled(f"the request stopped in the middle for {SILENCE_S:.0f} seconds.") from None


def _nameless(folder: Path) -> int:
    """Open a new file that disappears with its descriptor."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}:
            raise
    # The file system does not support O_TMPFILE.
    file, path = tempfile.mkstemp(dir=folder)
    os.unlink(path)
    return file


def _write(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
