"""A register on a server opens whole, refuses what it cannot use, and lets nobody wait for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.crash_points import declare
from core.errors import MusterError, RegisterAway, RegisterError
from database import migrations
from database.engine import postgres as database_server
from database.engine.store import Store, insert_once
from database.schema import cursors
from tests import waiting
from tests.crash.deaths import ended
from tests.postgres import Postgres

STEP = declare("test.server")


@pytest.fixture
def url(postgres: Postgres, postgres_database: str) -> str:
    return postgres.url(postgres_database)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = await Store.open(url)
    yield opened
    await opened.close()


@pytest.fixture
async def empty(postgres: Postgres) -> AsyncIterator[str]:
    """The name of a database in which nothing is."""
    name = await postgres.database()
    yield name
    await postgres.drop(name)


async def put(tx: AsyncConnection, name: str) -> bool:
    return await insert_once(tx, cursors, connector=name, cursor="x", updated_at=1.0)


async def count(store: Store) -> int:
    async with store.read() as tx:
        return await tx.scalar(select(func.count()).select_from(cursors)) or 0


async def tables(postgres: Postgres, database: str) -> list[str]:
    connection = await postgres.connect(database)
    rows = await connection.fetch(
        "SELECT schemaname || '.' || tablename AS name FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
    )
    await connection.close()
    return [row["name"] for row in rows]


async def refused(url: str, *words: str, password: Any = None) -> None:
    with pytest.raises(RegisterError) as caught:
        await Store.open(url, password=password)
    for word in words:
        assert word in str(caught.value)


# --- opening -----------------------------------------------------------------------------------------------------


async def test_a_new_register_keeps_to_a_schema_of_its_own(postgres: Postgres, empty: str) -> None:
    await postgres.execute(
        empty, "CREATE TABLE public.cursors (theirs text)", "CREATE TABLE public.recipes (name text)"
    )
    store = await Store.open(postgres.url(empty))
    async with store.write(STEP) as tx:
        await put(tx, "matrix")
    await store.close()
    found = await tables(postgres, empty)
    assert [name for name in found if not name.startswith("muster.")] == ["public.cursors", "public.recipes"]


async def test_a_user_who_may_only_connect_and_create_is_enough(postgres: Postgres, empty: str) -> None:
    role = f"{empty}_ana"
    await postgres.execute(empty, f"CREATE ROLE {role} LOGIN", f"GRANT CREATE ON DATABASE {empty} TO {role}")
    store = await Store.open(postgres.url(empty, user=role))
    async with store.write(STEP) as tx:
        await put(tx, "matrix")
    assert await count(store) == 1
    await store.close()


async def test_two_that_open_a_new_register_at_once_share_it(postgres: Postgres, empty: str) -> None:
    first, second = await asyncio.gather(*(Store.open(postgres.url(empty)) for _ in range(2)))
    async with first.write(STEP) as tx:
        await put(tx, "matrix")
    assert await count(second) == 1
    await first.close()
    await second.close()


@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_register_whose_making_was_cut_off_is_made_anew(postgres: Postgres, empty: str, side: str) -> None:
    assert await ended(Store.open, postgres.url(empty), place=f"{migrations.MIGRATE}.{side}") == -signal.SIGKILL
    store = await Store.open(postgres.url(empty))
    assert await count(store) == 0
    await store.close()


async def test_a_commit_promises_more_than_the_server_would_by_itself(postgres: Postgres, store: Store) -> None:
    connection = await postgres.connect("postgres")
    assert await connection.fetchval("SHOW synchronous_commit") == "off"
    await connection.close()
    async with store.write(STEP) as tx:
        assert await tx.scalar(text("SHOW synchronous_commit")) == "on"


async def test_an_administrator_sees_who_is_connected(postgres: Postgres, url: str, postgres_database: str) -> None:
    store = await Store.open(url, host="mill")
    connection = await postgres.connect("postgres")
    names = await connection.fetch(
        "SELECT DISTINCT application_name AS name FROM pg_stat_activity WHERE datname = $1", postgres_database
    )
    await connection.close()
    await store.close()
    assert [row["name"] for row in names] == [f"muster mill/{os.getpid()}"]


# --- refusing ----------------------------------------------------------------------------------------------------


async def test_a_database_that_is_not_there_is_refused(postgres: Postgres) -> None:
    await refused(postgres.url("nowhere"), "nowhere", "does not exist", "createdb")


async def test_a_server_that_is_not_there_is_refused(tmp_path: Path) -> None:
    await refused(f"postgresql:///fleet?host={tmp_path}", "does not answer", "Start PostgreSQL")
    await refused("postgresql://127.0.0.1:1/fleet", "does not answer", "127.0.0.1")


async def test_another_programs_schema_is_refused(postgres: Postgres, empty: str) -> None:
    await postgres.execute(empty, "CREATE SCHEMA muster", "CREATE TABLE muster.recipes (name text)")
    await refused(postgres.url(empty), "another program's", "recipes", "Name another database")
    assert await tables(postgres, empty) == ["muster.recipes"]


async def test_a_register_of_a_newer_muster_is_refused(postgres: Postgres, postgres_database: str) -> None:
    await postgres.execute(postgres_database, f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'")
    await refused(postgres.url(postgres_database), "newer Muster", "9999", migrations.head())


async def test_a_register_that_lost_a_table_is_refused(postgres: Postgres, postgres_database: str) -> None:
    await postgres.execute(postgres_database, "DROP TABLE inbox")
    await refused(postgres.url(postgres_database), "lacks the table 'inbox'", "backup")


async def test_a_register_that_this_user_may_not_read_is_refused(postgres: Postgres, postgres_database: str) -> None:
    role = f"{postgres_database}_eve"
    await postgres.execute(postgres_database, f"CREATE ROLE {role} LOGIN")
    await refused(postgres.url(postgres_database, user=role), "permission denied", "privileges")


async def test_a_damaged_register_is_refused(postgres: Postgres, postgres_database: str) -> None:
    store = await Store.open(postgres.url(postgres_database))
    async with store.write(STEP) as tx:
        await put(tx, "matrix")
    await store.close()
    connection = await postgres.connect(postgres_database)
    file = postgres.folder / "data" / await connection.fetchval("SELECT pg_relation_filepath('cursors')")
    await connection.close()
    await asyncio.to_thread(postgres.stop)
    file.write_bytes(b"\xff" * file.stat().st_size)
    await postgres.started()
    await refused(postgres.url(postgres_database), "is damaged", "invalid page", "backup")


async def test_a_database_that_cannot_hold_every_text_is_refused(postgres: Postgres) -> None:
    name = await postgres.database(options="TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
    await refused(postgres.url(name), "LATIN1", "ENCODING 'UTF8'")
    await postgres.drop(name)


async def test_an_old_server_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_server, "OLDEST", 990_000)
    await refused(url, "Muster needs 99 or newer")


async def test_a_standby_is_refused(postgres: Postgres, url: str) -> None:
    sign = postgres.folder / "data" / "standby.signal"
    await asyncio.to_thread(postgres.stop)
    sign.touch()
    try:
        await postgres.started()
        await refused(url, "standby", "Name the primary")
    finally:
        await asyncio.to_thread(postgres.stop)
        sign.unlink()
        await postgres.started()


# --- getting in --------------------------------------------------------------------------------------------------


@pytest.fixture
async def guarded(postgres: Postgres, empty: str) -> str:
    """The address of a database into which a password leads: hunter2."""
    role = f"{empty}_ana"
    await postgres.execute(
        empty, f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'", f"GRANT CREATE ON DATABASE {empty} TO {role}"
    )
    await postgres.ask_for_password(role)
    return postgres.url(empty, user=role)


async def test_a_password_is_fetched_for_each_connection_and_stands_nowhere(postgres: Postgres, guarded: str) -> None:
    fetched = []

    def fetch() -> str:
        fetched.append(True)
        return "hunter2"

    store = await Store.open(guarded, password=fetch)
    async with store.write(STEP) as tx:
        await put(tx, "matrix")
    assert len(fetched) > 1
    assert "hunter2" not in store.place
    await store.close()


async def test_a_wrong_password_is_refused_and_not_repeated(guarded: str) -> None:
    await refused(guarded, "password authentication failed", "Check the user", password=lambda: "hunter3")
    with pytest.raises(RegisterError) as caught:
        await Store.open(guarded, password=lambda: "hunter3")
    assert "hunter" not in str(caught.value)


async def test_a_password_that_cannot_be_had_is_refused(guarded: str) -> None:
    def fetch() -> str:
        raise MusterError("The environment variable DB is not set.")

    await refused(guarded, "password", "DB is not set", password=fetch)


@pytest.fixture
def encrypted(postgres: Postgres, postgres_database: str) -> Iterator[tuple[str, Path]]:
    """The address of a register at localhost, over TLS, and the file that vouches for that name."""
    certificate, key = postgres.certify()
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port: int = found.getsockname()[1]
    postgres.stop()
    postgres.start(
        listen_addresses="127.0.0.1", port=str(port), ssl="on", ssl_cert_file=str(certificate), ssl_key_file=str(key)
    )
    yield f"postgresql://muster@localhost:{port}/{postgres_database}", certificate
    postgres.stop()
    postgres.start()


async def test_over_a_network_the_server_must_prove_who_it_is(encrypted: tuple[str, Path], tmp_path: Path) -> None:
    address, authority = encrypted
    store = await Store.open(f"{address}?sslrootcert={authority}")
    async with store.read() as tx:
        assert await tx.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    await store.close()
    await refused(f"{address}?sslmode=verify-full", "could not prove who it is", "sslrootcert=PATH")
    other_name = address.replace("localhost", "127.0.0.1")
    await refused(f"{other_name}?sslrootcert={authority}", "could not prove who it is")
    (tmp_path / "none.pem").write_text("")
    await refused(f"{address}?sslrootcert={tmp_path}/none.pem", "none.pem", "cannot be read")
    unchecked = await Store.open(f"{address}?sslmode=require")
    await unchecked.close()


# --- waiting -----------------------------------------------------------------------------------------------------


async def test_a_register_that_another_program_holds_is_refused_after_a_while(
    postgres: Postgres, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_server, "TURN_LIMIT", 0.05)
    store = await Store.open(postgres.url(postgres_database))
    other = await postgres.connect(postgres_database)
    async with other.transaction():
        await other.execute(f"LOCK TABLE {migrations.VERSION_TABLE} IN EXCLUSIVE MODE")
        assert await count(store) == 0  # readers wait for nobody
        with pytest.raises(RegisterError, match="locked by another program"):
            async with store.write(STEP) as tx:
                await put(tx, "matrix")
    async with store.write(STEP) as tx:
        await put(tx, "matrix")
    await other.close()
    await store.close()


async def test_a_process_that_hangs_in_its_turn_loses_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_server, "REST_LIMIT", 0.2)
    hanging, other = await Store.open(url), await Store.open(url)
    begun, over = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        async with hanging.write(STEP) as tx:
            await put(tx, "lost")
            begun.set()
            await over.wait()

    task = asyncio.create_task(hang())
    await begun.wait()
    async with asyncio.timeout(20):
        while await count(other) == 0:
            async with other.write(STEP) as tx:
                await put(tx, "matrix")
        over.set()
        with pytest.raises(RegisterAway):
            await task
    assert await count(other) == 1
    await hanging.close()
    await other.close()


@pytest.mark.parametrize("later", range(4))
async def test_a_commit_between_the_servers_last_word_and_the_end_of_the_connection(
    url: str, monkeypatch: pytest.MonkeyPatch, later: int
) -> None:
    monkeypatch.setattr(database_server, "REST_LIMIT", 0.1)
    store = await Store.open(url)

    async def write() -> None:
        async with store.write(STEP) as tx:
            await put(tx, "lost")
            time.sleep(0.5)  # noqa: ASYNC251 (nothing of what the server says is read meanwhile)
            for _ in range(later):
                await asyncio.sleep(0)

    with pytest.raises(RegisterAway):
        await write()
    async with asyncio.timeout(20):
        await store.returned.wait()
    async with store.write(STEP) as tx:
        await put(tx, "matrix")
    assert await count(store) == 1
    await store.close()


async def test_a_migration_and_a_writer_of_an_older_muster_do_not_wait_for_each_other(
    postgres: Postgres, url: str, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE cursors ADD COLUMN more text"))
        connection.execute(text(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'"))

    older, writing, over = await Store.open(url), asyncio.Event(), asyncio.Event()

    async def write() -> None:
        async with older.write(STEP) as tx:
            writing.set()
            await over.wait()
            await put(tx, "matrix")

    task = asyncio.create_task(write())
    await writing.wait()
    monkeypatch.setattr(migrations, "head", lambda: "9999")
    monkeypatch.setattr(database_server, "make_tables", add)
    newer = asyncio.create_task(Store.open(url))
    admin = await postgres.connect(postgres_database)
    async with asyncio.timeout(20):
        await waiting.until(lambda: admin.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
        over.set()
        await task
        store = await newer
    assert await count(store) == 1
    await admin.close()
    await store.close()
    await older.close()


async def test_a_statement_that_is_cancelled_lets_the_next_go(store: Store) -> None:
    begun = asyncio.Event()

    async def sleep() -> None:
        async with store.write(STEP) as tx:
            await put(tx, "lost")
            begun.set()
            await tx.execute(text("SELECT pg_sleep(60)"))

    task = asyncio.create_task(sleep())
    await begun.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10), store.write(STEP) as tx:
        await put(tx, "matrix")
    assert await count(store) == 1
