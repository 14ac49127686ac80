"""A register in a file opens whole, refuses what it cannot use, and is written wholly or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.crash_points import declare
from core.errors import RegisterError
from database import migrations
from database.engine import sqlite
from database.engine.store import RegisterFull, Store, insert_once
from database.schema import cursors
from tests.crash.deaths import ended

STEP = declare("test.step")


def url(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "register.db"


@pytest.fixture
async def register(file: Path) -> AsyncIterator[Store]:
    opened = await Store.open(url(file), tenant_id="acme", host="mill")
    yield opened
    await opened.close()


async def put(tx: AsyncConnection, name: str) -> bool:
    return await insert_once(tx, cursors, connector=name, cursor="x", updated_at=1.0)


async def count(register: Store) -> int:
    async with register.read() as tx:
        return await tx.scalar(select(func.count()).select_from(cursors)) or 0


async def put_much(register: Store) -> None:
    async with register.write(STEP) as tx:
        await put(tx, "small")
        for number in range(100):
            await insert_once(tx, cursors, connector=f"{number}", cursor="x" * 10_000, updated_at=1.0)


def fill(ballast: Path) -> None:
    """Take all the room that is left on a disk."""
    with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"x" * 4096)


async def make(file: Path) -> bytes:
    """A register with one row, closed. Returns its bytes."""
    opened = await Store.open(url(file))
    async with opened.write(STEP) as tx:
        await put(tx, "matrix")
    await opened.close()
    return file.read_bytes()


# --- opening -----------------------------------------------------------------------------------------------------


async def test_a_new_register_belongs_to_its_owner_alone(register: Store, file: Path) -> None:
    async with register.write(STEP) as tx:
        await put(tx, "matrix")
    assert file.parent.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}
    assert modes == {"register.db": 0o600, "register.db-wal": 0o600, "register.db-shm": 0o600}


async def test_a_register_that_others_could_read_is_closed_to_them(file: Path) -> None:
    await make(file)
    file.chmod(0o644)
    again = await Store.open(url(file))
    await again.close()
    assert file.stat().st_mode & 0o777 == 0o600


async def test_two_processes_that_open_a_new_register_at_once_share_it(file: Path) -> None:
    first, second = await asyncio.gather(Store.open(url(file)), Store.open(url(file)))
    async with first.write(STEP) as tx:
        await put(tx, "matrix")
    assert await count(second) == 1
    await first.close()
    await second.close()
    assert [path.name for path in file.parent.iterdir()] == ["register.db"]


async def test_a_register_waits_for_who_reads_a_copy_without_a_log_and_gives_it_one(file: Path) -> None:
    await (await Store.open(f"sqlite:///{file}")).close()
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("PRAGMA journal_mode = DELETE")  # as a copy that a backup tool made may be
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM cursors").fetchone()
        opening = asyncio.create_task(Store.open(f"sqlite:///{file}"))
        done, _ = await asyncio.wait({opening}, timeout=0.1)
        assert not done
        reader.execute("COMMIT")
        store = await opening
    await store.close()
    # https://www.sqlite.org/fileformat.html, section 1.3.3
    assert file.read_bytes()[18:20] == b"\x02\x02"


@pytest.mark.usefixtures("real_syncs")
async def test_durability_is_what_was_promised(register: Store) -> None:
    async with register.write(STEP) as tx:
        settings = [await tx.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "busy_timeout")]
    assert settings == ["wal", 2, sqlite.BUSY_TIMEOUT_MS]


async def test_what_is_written_stays_though_this_process_opened_the_register_twice(register: Store, file: Path) -> None:
    """The locks of a process are lost when it closes any of its handles on the file. Then the next one that closes it
    would delete the write-ahead log in which this one goes on writing."""
    async with register.write(STEP) as tx:
        await put(tx, "one")
    await (await Store.open(url(file))).close()
    look = "with closing(sqlite3.connect(sys.argv[1])) as c: print(*c.execute('SELECT count(*) FROM cursors'))"
    program = f"import sqlite3, sys\nfrom contextlib import closing\n{look}"

    def another_process() -> str:
        return subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=True).stdout

    assert "(1,)" in another_process()
    async with register.write(STEP) as tx:
        await put(tx, "two")
    assert "(2,)" in another_process()


# --- refusing ----------------------------------------------------------------------------------------------------


async def refused(file: Path, *words: str) -> None:
    """Opening fails with these words, and leaves everything as it was."""
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(RegisterError) as caught:
        await Store.open(url(file))
    for word in (*words, file.name):
        assert word in str(caught.value)
    assert (file.read_bytes() if file.is_file() else None) == before


async def test_another_kind_of_file_is_refused(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("Dear diary, " * 50)
    await refused(file, "not an SQLite database", "Restore it from a backup")


async def test_an_empty_file_is_refused(file: Path) -> None:
    file.parent.mkdir()
    file.touch()
    await refused(file, "is empty")


async def test_a_folder_in_its_place_is_refused(file: Path) -> None:
    file.mkdir(parents=True)
    await refused(file, "is not a file")


async def test_a_database_of_another_program_is_refused(file: Path) -> None:
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE recipes (name)")
        other.commit()
    await refused(file, "another program", "recipes")


async def test_a_damaged_register_is_refused(file: Path) -> None:
    content = bytearray(await make(file))
    content[5000:] = b"\xff" * (len(content) - 5000)
    file.write_bytes(content)
    await refused(file, "damaged", "backup")


async def test_a_register_that_lost_its_end_is_refused(file: Path) -> None:
    content = await make(file)
    file.write_bytes(content[: len(content) // 2])
    await refused(file, "damaged")


async def test_damage_in_a_large_register_is_found_by_its_header_and_catalogue(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "FULL_CHECK_BYTES", 0)
    content = bytearray(await make(file))
    content[100:4096] = b"\xff" * 3996
    file.write_bytes(content)
    await refused(file, "damaged")


async def test_a_register_of_a_newer_muster_is_refused(file: Path) -> None:
    await make(file)
    with closing(sqlite3.connect(file)) as newer:
        newer.execute(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'")
        newer.commit()
    await refused(file, "newer Muster", "9999", migrations.head())


async def test_what_is_left_of_a_lost_register_is_not_written_over(file: Path) -> None:
    file.parent.mkdir()
    leftover = file.with_name("register.db-wal")
    leftover.write_bytes(b"committed, and nowhere else")
    await refused(file, "register.db-wal", "missing")
    assert leftover.read_bytes() == b"committed, and nowhere else"


@pytest.mark.root
async def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    locked = Path("/proc/muster") if os.geteuid() == 0 else tmp_path / "locked"
    if os.geteuid() != 0:
        locked.mkdir(mode=0o500)
    with pytest.raises(RegisterError, match="Check"):
        await Store.open(url(locked / "register.db"))


@pytest.mark.parametrize("address", ["", "register.db", "mysql://db/muster", "sqlite://", "sqlite:///:memory:"])
async def test_an_address_that_is_no_file_is_refused(address: str) -> None:
    with pytest.raises(RegisterError, match="sqlite:///"):
        await Store.open(address)


async def test_a_register_that_another_program_holds_is_refused_after_a_while(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    await make(file)
    register = await Store.open(url(file))
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegisterError, match="locked by another program"):
            async with register.write(STEP) as tx:
                await put(tx, "terminal")
        other.execute("ROLLBACK")
    async with register.write(STEP) as tx:
        await put(tx, "terminal")
    assert await count(register) == 2
    await register.close()


# --- writing -----------------------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_the_whole_transaction_and_recovers(register: Store) -> None:
    async with register.write(STEP) as tx:
        await tx.exec_driver_sql(f"PRAGMA max_page_count = {await tx.scalar(text('PRAGMA page_count')) or 0}")
    with pytest.raises(RegisterFull, match="disk is full"):
        await put_much(register)
    assert await count(register) == 0
    async with register.write(STEP) as tx:
        await tx.exec_driver_sql("PRAGMA max_page_count = 1000000")
        await put(tx, "small")
    assert await count(register) == 1


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
async def test_a_real_full_disk_refuses_the_whole_transaction_and_recovers(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        register = await Store.open(url(disk / "register.db"))
        ballast = disk / "ballast"
        fill(ballast)
        with pytest.raises(RegisterError, match="disk"):
            await put_much(register)
        ballast.unlink()
        async with register.write(STEP) as tx:
            await put(tx, "small")
        assert await count(register) == 1
        await register.close()

        fill(ballast)
        with pytest.raises(RegisterError, match="disk"):
            await Store.open(url(disk / "other.db"))
        assert not list(disk.glob("*other*"))
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


async def test_a_register_that_is_taken_away_is_noticed(register: Store, file: Path) -> None:
    file.rename(file.with_name("elsewhere.db"))
    with pytest.raises(RegisterError, match="removed or replaced"):
        async with register.write(STEP) as tx:
            await put(tx, "matrix")
    file.with_name("elsewhere.db").rename(file)
    async with register.write(STEP) as tx:
        await put(tx, "matrix")
    assert await count(register) == 1


# --- dying -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [sqlite.CREATE, migrations.MIGRATE])
@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_register_whose_making_was_cut_off_is_made_anew(file: Path, step: str, side: str) -> None:
    assert await ended(Store.open, url(file), place=f"{step}.{side}") == -signal.SIGKILL
    register = await Store.open(url(file))
    assert await count(register) == 0
    await register.close()
