"""What was acknowledged is in the ledger: once, whole, in order, over restarts and full disks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from budget.tokens import Tokens
from core import sqlite_vacuum
from core.durable_files import sync_folder
from egress.ledger import reservation_log, schema
from egress.ledger import service as book
from egress.ledger.model import LedgerEntry, LedgerUnwritable, Observation
from egress.ledger.schema import LedgerUnusable
from egress.ledger.table_rows import Denial, Reservation
from egress.ledger.writer_thread import LedgerHead
from egress.settings import AgentRegistration
from tests import waiting
from tests.egress.ledger.rows import Clock, entered, look, opened, reservation, settlement, under_way
from tests.small_disk import small

LIMIT_S = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


async def test_an_entry_is_read_as_it_was_settled(path: Path) -> None:
    async with opened(path) as ledger:
        made = reservation(ledger)
        ledger.reserve(made)
        assert await ledger.settle(settlement(made)) == 1
        (entry,) = await ledger.entries_after(0, 10)
    assert entry == LedgerEntry(
        seq=1,
        id=made.id,
        tenant_id="default",
        host="attic",
        agent="coder0",
        launch_id="coder0-1",
        role="coder",
        profile="strict",
        session="s1",
        turn="t1",
        task=None,
        account="main",
        provider="anthropic",
        api="anthropic",
        model_asked="claude-sonnet-4-5",
        model="claude-sonnet-4-5-20250929",
        attempt=1,
        tokens=Tokens(input=90, output=7, cache_read=5, cache_write=3, reasoning=2),
        reported=True,
        raw={"input_tokens": 90},
        status=200,
        ended="completed",
        detail=None,
        started_at=1_800_000_000.0,
        ended_at=1_800_000_001.5,
        first_byte_s=0.25,
        total_s=1.5,
        usd=0.123456789,
    )


async def test_entries_are_counted_without_gaps_in_the_order_of_settlement(path: Path) -> None:
    async with opened(path) as ledger:
        made = [reservation(ledger) for _ in range(200)]
        for each in made:
            ledger.reserve(each)
        random.Random(4).shuffle(made)
        seqs = await asyncio.gather(*(ledger.settle(settlement(each)) for each in made))
        assert seqs == list(range(1, 201))
        entries = [entry for after in range(0, 200, 50) for entry in await ledger.entries_after(after, 50)]
        assert [(entry.seq, entry.id) for entry in entries] == [(seq, made[seq - 1].id) for seq in range(1, 201)]
        assert under_way(path) == []


async def test_a_row_is_on_the_disk_before_anybody_is_told(path: Path) -> None:
    async with opened(path) as ledger:
        made = reservation(ledger)
        ledger.reserve(made)
        assert under_way(path) == [made.id]
        await ledger.settle(settlement(made))
        assert look(path, "SELECT id FROM entries") == [(made.id,)]
        assert look(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_commit_returns_when_the_disk_has_it(path: Path) -> None:
    with contextlib.closing(schema.open_for_writing(path)) as connection:
        # FULL (sqlite.org/pragma.html#pragma_synchronous): with a journal in WAL mode it is synced at each commit.
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_who_goes_away_while_waiting_takes_nothing_along(path: Path) -> None:
    async with opened(path) as ledger:
        made = reservation(ledger)
        ledger.reserve(made)
        waiting = asyncio.ensure_future(ledger.settle(settlement(made)))
        waiting.cancel()
        assert await entered(ledger) == 2
        assert [entry.id for entry in await ledger.entries_after(0, 1)] == [made.id]


async def test_what_is_open_is_found_again_however_often_its_file_was_turned(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egress.ledger.service.SYNC_S", 0.0)
    async with opened(path, long=3000) as ledger:
        stays = reservation(ledger)
        ledger.reserve(stays)
        for _ in range(100):
            await entered(ledger)
            await ledger.flushed()
        files = sorted(path.parent.glob("ledger.db-open-*"))
        assert len(files) <= 2, "older ones are gone"
        assert not files[0].name.endswith("-1")
        assert sum(file.stat().st_size for file in files) < 20_000
        assert under_way(path) == [stays.id]
    async with opened(path) as ledger:
        assert ledger.recovered == 1
        assert ledger.head.entries == 101


async def test_no_file_goes_before_the_name_of_the_next_one_is_on_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[set[str]] = []

    def noted(folder: Path) -> None:
        sync_folder(folder)
        synced.append({file.name for file in folder.glob("ledger.db-open-*")})

    monkeypatch.setattr("egress.ledger.reservation_log.sync_folder", noted)
    monkeypatch.setattr("egress.ledger.service.SYNC_S", 0.0)
    async with opened(path, long=1) as ledger:
        while path.with_name("ledger.db-open-1").exists():
            await entered(ledger)
            await ledger.flushed()
    assert any(names >= {"ledger.db-open-1", "ledger.db-open-2"} for names in synced)


async def test_a_file_of_what_is_open_stays_until_what_had_ended_is_in_the_ledger(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egress.ledger.service.SYNC_S", 0.0)
    async with opened(path, long=1) as ledger:
        settled = reservation(ledger)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            ledger.reserve(settled)
            with pytest.raises(LedgerUnwritable):
                await ledger.settle(settlement(settled))
            assert under_way(path) == [settled.id], "it would be an estimate"
            other.execute("ROLLBACK")
        await until_writable(ledger)
        assert under_way(path) == []


#: What SQLite would take for no row, which would keep the egress from starting.
ABSURD = (
    b"\n[" + b",".join([b"[]"] * len(Reservation._fields)) + b"]",
    b"\n[1," + b'"x",' * 15 + b"1,1," + b"%d," % 2**63 * 5 + b"1]",
)


@pytest.mark.parametrize("torn", [b'[7,"half', b"\0" * 600, b"{}\n[1,2]\nnull\n", *ABSURD])
async def test_a_loss_of_power_leaves_what_was_whole(path: Path, torn: bytes) -> None:
    async with opened(path) as ledger:
        made = reservation(ledger)
        ledger.reserve(made)
    (file,) = path.parent.glob("ledger.db-open-*")
    with file.open("ab") as end:
        end.write(torn)
    async with opened(path) as ledger:
        assert ledger.recovered == 1
        assert [entry.id for entry in await ledger.entries_after(0, 10)] == [made.id]


async def test_a_file_that_was_only_begun_makes_nobody_search_the_whole_ledger(path: Path) -> None:
    async with opened(path) as ledger:
        for _ in range(5):
            await entered(ledger)
    async with opened(path) as ledger:
        ledger.reserve(reservation(ledger))
        path.with_name("ledger.db-open-2").touch()
        after, found, files = reservation_log.pending(path, ledger.id)
        assert (after, len(found), len(files)) == (5, 1, 2)
    async with opened(path) as ledger:
        assert ledger.recovered == 1
        assert [file.name for file in path.parent.glob("ledger.db-open-*")] == ["ledger.db-open-1"]


async def test_what_was_under_way_is_no_matter_of_another_ledger(path: Path) -> None:
    aside = path.with_name("aside.db")
    async with opened(path) as ledger:
        await entered(ledger)
        stays = reservation(ledger)
        ledger.reserve(stays)
    path.rename(aside)
    for _ in range(2):
        async with opened(path) as ledger:
            assert ledger.recovered == 0, "it would use up budgets with what stands in the other one"
    # It was only moved away for a while.
    aside.rename(path)
    async with opened(path) as ledger:
        assert ledger.recovered == 1
        assert [entry.id for entry in await ledger.entries_after(1, 10)] == [stays.id]


async def test_what_a_copy_that_was_put_back_does_not_have_is_estimated_once(path: Path) -> None:
    aside, files = path.with_name("aside.db"), {}
    async with opened(path) as ledger:
        await entered(ledger)
    path.with_name("ledger.db-open-1").unlink()
    aside.write_bytes(path.read_bytes())
    async with opened(path) as ledger:
        for _ in range(3):
            await entered(ledger)
    async with opened(path) as ledger:
        made = [reservation(ledger) for _ in range(2)]
        for each in made:
            ledger.reserve(each)
        files = {file: file.read_bytes() for file in path.parent.glob("ledger.db-open-*")}
    aside.rename(path)
    for recovered in (2, 0):
        # It dies before the files are gone.
        for file, content in files.items():
            file.write_bytes(content)
        async with opened(path) as ledger:
            assert ledger.recovered == recovered
            assert [entry.id for entry in await ledger.entries_after(1, 10)] == [each.id for each in made]


async def test_two_egresses_one_after_the_other_use_the_same_numbers_and_other_ids(path: Path) -> None:
    made = []
    for _ in range(3):
        async with opened(path) as ledger:
            made.append(reservation(ledger))
            ledger.reserve(made[-1])
    async with opened(path) as ledger:
        assert [entry.id for entry in await ledger.entries_after(0, 10)] == [each.id for each in made]


async def test_what_was_under_way_is_entered_once_as_an_estimate(path: Path) -> None:
    async with opened(path) as ledger:
        first, second = reservation(ledger, at=1_800_000_000.0), reservation(ledger, at=1_800_000_050.0)
        ledger.reserve(first)
        ledger.reserve(second)
        ids = [first.id, second.id]
    for recovered in (2, 0):
        async with opened(path, Clock(1_800_009_000.0)) as ledger:
            assert ledger.recovered == recovered
            entries = await ledger.entries_after(0, 2)
            assert [(entry.seq, entry.id, entry.reported) for entry in entries] == [
                (1, ids[0], False),
                (2, ids[1], False),
            ]
            assert {(entry.ended, entry.detail, entry.status) for entry in entries} == {
                ("upstream_gone", "egress_ended", None)
            }
            assert entries[0].tokens == Tokens(input=100, output=20)
            # They count when they were used: at the last moment of which something is known.
            assert [(entry.started_at, entry.ended_at) for entry in entries] == [
                (1_800_000_000.0, 1_800_000_050.0),
                (1_800_000_050.0, 1_800_000_050.0),
            ]
            assert entries[0].usd == 0.0006
            assert await entered(ledger) == (3 if recovered else 4)


async def test_ids_are_never_used_again(path: Path) -> None:
    ids: list[str] = []
    for _ in range(3):
        async with opened(path) as ledger:
            await entered(ledger)
            ids = [entry.id for entry in await ledger.entries_after(0, 10)]
    assert len(set(ids)) == 3


async def test_the_file_is_its_owners_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        async with opened(path) as ledger:
            await entered(ledger)
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert modes == {f"ledger.db{end}": 0o600 for end in ("", "-wal", "-shm", "-open-1")}


async def test_a_newer_ledger_is_left_alone(path: Path) -> None:
    async with opened(path) as ledger:
        await entered(ledger)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(LedgerUnusable, match=r"newer Muster: its schema is version 99.*Start the newer Muster"):
        await book.UsageLedger.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["CREATE TABLE notes (text)", None])
async def test_what_is_no_ledger_is_not_made_one(path: Path, content: str | None) -> None:
    if content is None:
        path.write_bytes(b"Dear diary, " * 1000)
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(content)
    with pytest.raises(LedgerUnusable, match=r"is no ledger of Muster's|cannot be used"):
        await book.UsageLedger.open(path)


# --- a disk that takes nothing ----------------------------------------------------------------------------------------


async def until_writable(ledger: book.UsageLedger) -> None:
    await waiting.until(lambda: ledger.unwritable is None, limit=LIMIT_S)


async def test_while_somebody_holds_the_file_everybody_is_told_and_nothing_is_lost(path: Path) -> None:
    async with opened(path) as ledger:
        settled = reservation(ledger)
        ledger.reserve(settled)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            results = await asyncio.gather(
                ledger.settle(settlement(settled)),
                ledger.deny(Denial("coder0", "cutoff", "it went wild", "ann", "d1", 1.0), result="denied"),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [LedgerUnwritable] * 2
            assert "database is locked" in str(ledger.unwritable)
            with pytest.raises(LedgerUnwritable):
                ledger.reserve(reservation(ledger))
            other.execute("ROLLBACK")
        await until_writable(ledger)
        # What had happened is there, what had not is not.
        assert [entry.id for entry in await ledger.entries_after(0, 10)] == [settled.id]
        assert look(path, "SELECT agent, cause FROM denials") == [("coder0", "it went wild")]
        assert under_way(path) == []
        assert await entered(ledger) == 2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small(tmp_path, "1m") as mount:
        yield mount


@pytest.mark.root
async def test_on_a_full_disk_nothing_is_admitted_until_there_is_room(disk: Path) -> None:
    path = disk / "ledger.db"
    async with opened(path) as ledger:
        acknowledged: list[str] = []
        owed = ""
        filler = disk / "filler"
        filler.write_bytes(b"x" * 400_000)
        with contextlib.suppress(LedgerUnwritable):
            while True:
                made = reservation(ledger)
                ledger.reserve(made)
                owed = made.id
                await ledger.settle(settlement(made, raw="x" * 5000))
                acknowledged.append(made.id)
                owed = ""
        with pytest.raises(LedgerUnwritable, match="Make room on its disk"):
            ledger.reserve(reservation(ledger))
        filler.unlink()
        await until_writable(ledger)
        await entered(ledger)
        rows = look(path, "SELECT seq, id FROM entries ORDER BY seq")
        assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
        assert [id_ for _, id_ in rows][:-1] == acknowledged + [owed] * bool(owed)


@pytest.mark.root
async def test_on_a_full_disk_that_gives_nothing_back_no_reservation_harms_the_next(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(number: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path, filler = disk / "ledger.db", disk / "filler"
    kept: list[str] = []
    async with opened(path) as ledger:
        for _ in range(3):
            with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
            with monkeypatch.context() as patch, contextlib.suppress(LedgerUnwritable):
                patch.setattr(os, "ftruncate", refused)
                while True:
                    made = reservation(ledger)
                    ledger.reserve(made)
                    kept.append(made.id)
            filler.unlink()
            made = reservation(ledger)
            ledger.reserve(made)
            kept.append(made.id)
        assert under_way(path) == kept


@pytest.mark.root
async def test_room_for_a_few_bytes_is_no_room(disk: Path) -> None:
    filler = disk / "filler"
    with contextlib.closing(reservation_log.ReservationLog(disk / "ledger.db", id="l", after=0)) as kept:
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        # There is some, at the end of the block that it has.
        with pytest.raises(OSError, match="No space left"):
            kept.probe()
        filler.unlink()
        kept.probe()


async def test_what_could_not_be_synced_is_synced_once_it_can_be(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egress.ledger.service.SYNC_S", 0.0)
    monkeypatch.setattr("egress.ledger.service.PROBE_S", 0.01)
    async with opened(path, long=1) as ledger, asyncio.timeout(LIMIT_S):
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            made = reservation(ledger)
            ledger.reserve(made)
            await waiting.until(lambda: ledger.unwritable is not None)
            other.execute("ROLLBACK")
        # Nobody asks for anything any more.
        await waiting.until(lambda: not path.with_name("ledger.db-open-1").exists())
        assert under_way(path) == [made.id]


async def test_a_row_that_nothing_can_write_harms_nobody_else(path: Path) -> None:
    async with opened(path) as ledger:
        made = [reservation(ledger) for _ in range(3)]
        for each in made:
            ledger.reserve(each)
        seqs = await asyncio.gather(
            ledger.settle(settlement(made[0])),
            ledger.settle(settlement(made[1], output=2**70)),
            ledger.settle(settlement(made[2])),
        )
        assert [*seqs] == [1, 2, 3]
        assert ledger.unwritable is None
        # Something was used all the same.
        assert [(entry.reported, entry.tokens.output) for entry in await ledger.entries_after(0, 10)] == [
            (True, 7),
            (False, 20),
            (True, 7),
        ]


async def test_what_is_owed_at_the_end_is_written_whatever_is_beside_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egress.ledger.writer_thread.RETRY_S", (LIMIT_S,))
    async with opened(path) as ledger:
        made = [reservation(ledger) for _ in range(2)]
        for each in made:
            ledger.reserve(each)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for each, output in zip(made, (7, 2**70), strict=True):
                with pytest.raises(LedgerUnwritable):
                    await ledger.settle(settlement(each, output=output))
            other.execute("ROLLBACK")
    assert look(path, "SELECT id, reported FROM entries") == [(made[0].id, 1), (made[1].id, 0)]
    assert under_way(path) == []


# --- sums -------------------------------------------------------------------------------------------------------------


def recount(path: Path, start: float) -> dict[Any, Any]:
    """The same by adding up every entry."""
    rows = look(
        path,
        f"SELECT agent, launch_id, account, provider, profiles, input, output, cache_read, cache_write, reasoning, "
        f"coalesce(nano_usd, 0) FROM entries WHERE ended_at >= {start!r}",
    )
    found: dict[Any, Any] = {}
    for *who, one, two, three, four, five, nano in rows:
        count, tokens, nanos = found.get(tuple(who), (0, Tokens(), 0))
        more = Tokens(input=one, output=two, cache_read=three, cache_write=four, reasoning=five)
        found[tuple(who)] = (count + 1, tokens + more, nanos + nano)
    return found


async def test_what_was_used_since_any_moment_is_what_the_entries_come_to(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egress.ledger.writer_thread.SUM_EVERY", 37)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    now = 1_800_000_000.0
    for _ in range(3):
        async with opened(path) as ledger:
            for _ in range(80):
                made = reservation(
                    ledger,
                    agent=f"coder{dice.randrange(3)}",
                    account=dice.choice(["main", "spare"]),
                    profiles=dice.choice(["strict,base", "base", ""]),
                    at=now,
                )
                ledger.reserve(made)
                if dice.random() < 0.9:
                    nano = dice.choice([None, dice.randrange(10**9)])
                    ended_at = now + dice.random() * 100
                    await ledger.settle(
                        settlement(made, output=dice.randrange(10**6), nano_usd=nano, ended_at=ended_at)
                    )
                now += dice.random() * 400
            starts = [0.0, now + 1, *(1_800_000_000.0 + dice.random() * (now - 1_800_000_000.0) for _ in range(8))]
            starts += [start // 3600 * 3600 for start in starts]
            for start, used in (await ledger.used_since(starts)).items():
                told = {
                    (each.agent, each.launch_id, each.account, each.provider, ",".join(each.profiles)): (
                        each.requests,
                        each.tokens,
                        each.nano_usd,
                    )
                    for each in used
                    if not each.role
                }
                counted = recount(path, start)
                assert told == counted, start
                of_roles = {each.account: (each.requests, each.nano_usd) for each in used if each.role == "coder"}
                for account in ("main", "spare"):
                    rows = [each for who, each in counted.items() if who[2] == account]
                    sums = sum(each[0] for each in rows), sum(each[2] for each in rows)
                    assert of_roles.pop(account, (0, 0)) == sums, start
                assert of_roles == {}


async def test_a_ledger_from_before_roles_were_summed_up_counts_them_and_can_go_back(path: Path) -> None:
    async with opened(path) as ledger:
        await entered(ledger)
    with contextlib.closing(sqlite3.connect(path)) as older:
        # As an egress leaves it that knows nothing of roles' sums.
        older.executescript("DROP TABLE role_hours; DELETE FROM meta WHERE key = 'summed_roles'")
    async with opened(path) as ledger:
        await entered(ledger)
        assert [(each.role, each.requests) for each in (await ledger.used_since([0.0]))[0.0] if each.role] == [
            ("coder", 2)
        ]
    with contextlib.closing(sqlite3.connect(path)) as older:
        assert older.execute("PRAGMA user_version").fetchone() == (schema.VERSION,) == (1,)
        # It takes the newest entries into its own sums alone; a newer one then finds them by its own mark.
        older.execute("UPDATE meta SET value = value - 1 WHERE key = 'summed_roles'")
        older.execute("UPDATE role_hours SET requests = requests - 1")
        older.commit()
    async with opened(path) as ledger:
        used = (await ledger.used_since([0.0]))[0.0]
        assert [(each.role, each.requests) for each in used if each.role] == [("coder", 2)]
        assert sum(each.requests for each in used if not each.role) == 2


async def test_a_ledger_of_many_rows_opens_as_fast_as_one_of_few(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = schema.open_for_writing
    steps = 0

    def counted(where: Path) -> sqlite3.Connection:
        connection = real(where)

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        connection.set_progress_handler(step, 100)
        return connection

    async def cost() -> int:
        nonlocal steps
        steps = 0
        async with opened(path) as ledger:
            await ledger.used_since([0.0, 1_800_000_000.0])
            return steps

    def grow(rows: int) -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(
                f"INSERT INTO entries ({columns}) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                f"WHERE i < {rows}) SELECT {columns} FROM entries, n WHERE seq = 1"
            )
            connection.commit()

    columns = "id, tenant_id, host, agent, launch_id, role, profile, profiles, account, provider, api, attempt, "
    columns += "started_at, input, output, cache_read, cache_write, reasoning, reported, ended, ended_at, total_s"
    async with opened(path) as ledger:
        await entered(ledger)
    grow(1000)
    monkeypatch.setattr(schema, "open_for_writing", counted)
    await cost()
    few = await cost()
    grow(30_000)
    # Taken into the sums once.
    assert await cost() > 10 * few > 0
    assert await cost() <= 2 * few


async def test_what_was_copied_long_ago_goes_and_the_sums_stay(path: Path) -> None:
    clock = Clock()
    async with opened(path, clock) as ledger:

        async def left(days: float, entries: int, actions: int) -> tuple[list[int], list[int]]:
            """What is left after a copy was said to be durable, so many days later."""
            clock.now += days * 86400
            ledger.copied(entries=entries, actions=actions)
            assert await ledger.used_since([0.0]) == used
            return (
                [entry.seq for entry in await ledger.entries_after(0, 10)],
                [action.seq for action in await ledger.actions_after(0, 10)],
            )

        for place in range(6):
            await entered(ledger, at=clock.now + place * 86400)
            await ledger.act("coder0", "limit", cause="", by="egress", result="")
        used = await ledger.used_since([0.0])
        everything = [1, 2, 3, 4, 5, 6]
        assert await left(30, 6, 6) == (everything, everything)
        assert await left(8.5, 2, 0) == ([3, 4, 5, 6], everything)
        # Not what is younger, nor the last, by which counting goes on.
        assert await left(0.1, 6, 0) == ([5, 6], everything)
        assert await left(1000, 6, 6) == ([6], [6])
    async with opened(path, clock) as ledger:
        assert await entered(ledger) == 7
        assert (await ledger.act("coder0", "limit", cause="", by="egress", result="")).seq == 7


# --- the other streams ------------------------------------------------------------------------------------------------


async def test_whoever_copies_is_woken_by_each_kind_of_news(path: Path) -> None:
    seen = Observation(account="main", provider="anthropic", window="5h", seen_at=1.0, used=0.4)
    async with opened(path) as ledger:
        for write, head in (
            (lambda: entered(ledger), LedgerHead(1, 0, 0)),
            (lambda: ledger.act("coder0", "limit", cause="", by="egress", result=""), LedgerHead(1, 1, 0)),
            (lambda: asyncio.to_thread(time.sleep, 0), LedgerHead(1, 1, 1)),
        ):
            waiting = asyncio.create_task(ledger.newer(ledger.head, LIMIT_S))
            await asyncio.sleep(0)
            assert not waiting.done()
            if head.observations:
                ledger.observe((seen,))
            await write()
            assert await waiting == head
        assert await ledger.newer(LedgerHead(1, 1, 1), 0.01) == LedgerHead(1, 1, 1)
        # Who is behind does not wait.
        assert await ledger.newer(LedgerHead(1, 0, 1), LIMIT_S) == LedgerHead(1, 1, 1)


async def test_of_each_window_of_an_account_the_latest_is_told(path: Path) -> None:
    def seen(window: str, used: float) -> Observation:
        return Observation(account="main", provider="anthropic", window=window, seen_at=used, used=used)

    async with opened(path) as ledger:
        ledger.observe((seen("5h", 0.1), seen("7d", 0.2)))
        await entered(ledger)
        ledger.observe((seen("5h", 0.3),))
        ledger.observe((seen("5h", 0.4),))
        await entered(ledger)
        (first, day), (second, hours) = await ledger.observations_after(0, 10)
        assert (day, hours) == (seen("7d", 0.2), seen("5h", 0.4))
        assert await ledger.observations_after(first, 10) == [(second, hours)]
        assert ledger.head.observations == second
    async with opened(path) as ledger:
        assert ledger.head.observations == second
        ledger.observe((seen("7d", 0.5),))
        await entered(ledger)
        assert [found for _, found in await ledger.observations_after(second, 10)] == [seen("7d", 0.5)]


async def test_denials_and_agents_are_there_again(path: Path) -> None:
    known = AgentRegistration(
        agent="coder0", launch_id="l1", accounts={"anthropic": "main"}, routes=("docs.python.org",)
    )
    async with opened(path) as ledger:
        denial = Denial("coder0", "freeze", "it went wild", "ann", "d1", 1.0)
        made = await ledger.deny(denial, result="2 streams ended", detail={"streams": 2})
        assert (made.seq, made.id, made.agent, made.action, made.by) == (1, "d1", "coder0", "freeze", "ann")
        await ledger.deny(denial._replace(agent="coder1"), result="denied")
        await ledger.allow("coder1", "restore", cause="calm again", by="bob", id="d2")
        await ledger.keep_agent(known)
        await ledger.keep_agent(known.model_copy(update={"agent": "coder1"}))
        await ledger.forget_agent("coder1")
    async with opened(path) as ledger:
        assert ledger.denials == {"coder0": denial}
        assert ledger.agents == {"coder0": known}
        actions = await ledger.actions_after(0, 10)
        assert [(each.action, each.result, each.detail) for each in actions] == [
            ("freeze", "2 streams ended", {"streams": 2}),
            ("freeze", "denied", {}),
            ("restore", "allowed", {}),
        ]
        assert await ledger.actions_after(2, 10) == actions[2:]


def test_the_file_of_a_ledger_can_shrink_also_one_of_an_older_version(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for _ in range(2):
        with contextlib.closing(schema.open_for_writing(path)) as connection:
            assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
            # As older versions made it.
            connection.execute("PRAGMA auto_vacuum = NONE")
            connection.execute("VACUUM")
            assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)


async def test_what_is_pruned_gives_its_room_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_vacuum, "SPARE", 10)
    with contextlib.closing(schema.open_for_writing(path)) as connection:
        connection.executemany(
            'INSERT INTO actions (id, at, agent, action, cause, "by", result, detail) '
            "VALUES (?, ?, '', '', '', '', '', ?)",
            [(str(number), float(number), "x" * 4000) for number in range(300)],
        )
        before = connection.execute("PRAGMA page_count").fetchone()[0]
    async with opened(path, Clock(290.0 + book.KEEP_S)) as ledger:
        ledger.copied(entries=0, actions=300)
        await ledger.flushed()
    assert look(path, "SELECT count(*) FROM actions") == [(10,)]
    ((after,),) = look(path, "PRAGMA page_count")
    assert after < before / 3
