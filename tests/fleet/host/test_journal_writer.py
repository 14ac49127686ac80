from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fleet.host import journal_writer as writing
from fleet.host.journal_writer import JournalNotWritable, JournalWriter
from fleet.journal import reader
from fleet.journal.events import JournalEntry, JournalPosition, MessageQueued, Opened, TextChunk, ThoughtChunk

LIMIT_S = 20


class Book:
    """A writer, and what it told of itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.durable: list[JournalEntry] = []
        self.troubles: list[bool] = []
        self.changed = asyncio.Event()
        self.writer: JournalWriter

    async def open(self, **settings: Any) -> JournalWriter:
        self.writer = await JournalWriter.open(
            self.folder,
            opened=lambda: Opened(agent="a", launch_id="l", marker="m", pid=1, protocol=1),
            on_durable=self.durable.extend,
            on_trouble=self.trouble,
            retry_s=0.01,
            **settings,
        )
        return self.writer

    def trouble(self, writable: bool) -> None:
        self.troubles.append(writable)
        self.changed.set()

    async def until(self, writable: bool) -> None:
        async with asyncio.timeout(LIMIT_S):
            while self.writer.writable is not writable:
                self.changed.clear()
                await self.changed.wait()

    def entries(self) -> list[JournalEntry]:
        return [entry for page in reader.pages(self.folder, JournalPosition()) for entry in page]


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[Book]:
    book = Book(tmp_path)
    yield book
    await book.writer.close()


def say(text: str, turn: str = "t") -> TextChunk:
    return TextChunk(turn=turn, text=text)


async def test_each_opening_is_a_new_incarnation_above_all_others(book: Book) -> None:
    assert (await book.open()).incarnation == 1
    await book.writer.close()
    assert (await book.open(floor=6)).incarnation == 7
    await book.writer.close()
    assert (await book.open()).incarnation == 8
    assert all(isinstance(entry.event, Opened) for entry in book.entries())
    assert oct(reader.path_of(book.folder, 8).stat().st_mode)[-3:] == "600"


async def test_an_entry_is_on_disk_when_its_append_returns_and_told_in_order(book: Book) -> None:
    writer = await book.open()
    messages = [MessageQueued(id=f"m{number}", text="x") for number in range(200)]
    entries = await asyncio.gather(*[writer.append(message) for message in messages])
    assert [entry.event for entry in entries] == messages
    assert [entry.position for entry in book.entries()] == [JournalPosition(1, seq) for seq in range(1, 202)]
    assert book.durable == book.entries()
    assert writer.position == JournalPosition(1, 201)
    assert writer.durable.size == reader.path_of(book.folder, 1).stat().st_size


async def test_waiting_chunks_of_one_turn_become_one_entry(book: Book) -> None:
    writer = await book.open()
    for part in "abc":
        writer.record(say(part))
    writer.record(ThoughtChunk(turn="t", text="hm"))
    writer.record(say("d"))
    writer.record(say("e", turn="u"))
    await writer.flushed()
    assert [entry.event for entry in book.entries()[1:]] == [
        say("abc"),
        ThoughtChunk(turn="t", text="hm"),
        say("d"),
        say("e", turn="u"),
    ]


async def test_a_flood_has_to_wait_for_room(book: Book) -> None:
    writer = await book.open()
    for _ in range(writing.ROOM_ENTRIES + 1):
        writer.record(say("x"))
    waiting = asyncio.ensure_future(writer.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    async with asyncio.timeout(LIMIT_S):
        await waiting


async def test_a_full_disk_refuses_keeps_and_goes_on_in_a_new_file(book: Book) -> None:
    writer = await book.open()
    await writer.append(MessageQueued(id="before", text="x"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = reader.path_of(book.folder, 1).stat().st_size
    # Half of the next entry still fits.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, hard))
    try:
        writer.record(say("kept "))
        with pytest.raises(JournalNotWritable):
            await writer.append(MessageQueued(id="refused", text="x" * 100))
        await book.until(writable=False)
        with pytest.raises(JournalNotWritable):
            await writer.append(MessageQueued(id="refused too", text="x"))
        writer.record(say("whole"))
        assert reader.path_of(book.folder, 1).stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await book.until(writable=True)
    await writer.append(MessageQueued(id="after", text="x"))
    events = [entry.event for entry in book.entries()]
    assert [event.id for event in events if isinstance(event, MessageQueued)] == ["before", "after"]
    assert [event.text for event in events if isinstance(event, TextChunk)] == ["kept whole"]
    assert book.durable == book.entries()
    assert book.troubles == [True, False, True]
    assert writer.incarnation > 1


async def test_a_large_file_is_followed_by_a_new_one(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROTATE_BYTES", 1000)
    writer = await book.open()
    for number in range(20):
        await writer.append(MessageQueued(id=f"m{number}", text="x" * 100))
    assert writer.incarnation > 2
    ids = [entry.event.id for entry in book.entries() if isinstance(entry.event, MessageQueued)]
    assert ids == [f"m{number}" for number in range(20)]
    assert book.durable == book.entries()


@pytest.mark.root
async def test_a_folder_that_cannot_be_written_refuses_to_open(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "journal").write_text("in the way")
        tmp_path = tmp_path / "journal"
    else:
        tmp_path.chmod(0o500)
    with pytest.raises((JournalNotWritable, OSError)):
        await Book(tmp_path).open()
