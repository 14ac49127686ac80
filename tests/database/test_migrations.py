"""A migrated database has the tables that the program expects."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from core.crash_points import declare
from database import migrations
from database.engine import dsn
from database.engine.store import Store
from database.queries import tasks
from database.queries.operations import audit_anchors, audit_log
from database.queries.operations.audit_verification import AuditCheck
from database.queries.spending import hourly_rollup, usage_ledger, usage_queries
from database.schema import metadata
from tests.database.queries.rows import DAY, NOON, added_up, random_row, row
from tests.postgres import Postgres

STEP = declare("tests.migrations")


@pytest.fixture
def emptied_database(postgres_database: str) -> str:
    """One of the test's own, since tables are changed here."""
    return postgres_database


def engine_of(url: str) -> AsyncEngine:
    """An engine of the test's own, beside the register's."""
    place = dsn.parse(url)
    if isinstance(place, dsn.FileAddress):
        return create_async_engine(f"sqlite+aiosqlite:///{place}")
    arguments = {"host": place.host, "user": place.user, "database": place.database}
    settings = {"server_settings": {"search_path": "muster"}}
    return create_async_engine("postgresql+asyncpg://", connect_args={**arguments, **settings})


def differences(connection: Connection) -> Any:
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    return compare_metadata(context, metadata)


async def test_a_migrated_database_is_what_the_schema_says(register_url: str) -> None:
    await (await Store.open(register_url)).close()
    engine = engine_of(register_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


def test_revisions_are_known_by_the_names_of_their_files() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    scripts = ScriptDirectory.from_config(config)
    earlier = {f"{number:04}" for number in range(1, int(migrations.BASELINE))}
    assert {script.revision for script in scripts.walk_revisions()} | earlier == migrations.known()
    assert scripts.get_current_head() == migrations.head()


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "register.db"
    migrations.upgrade(file)
    with closing(sqlite3.connect(file)) as connection:
        before = list(connection.execute("SELECT sql FROM sqlite_master ORDER BY name"))
    migrations.upgrade(file)
    with closing(sqlite3.connect(file)) as connection:
        assert list(connection.execute("SELECT sql FROM sqlite_master ORDER BY name")) == before


#: What each revision before the baseline added: tables; columns and indexes as ``TABLE.NAME``.
ADDED = {
    "0002": "leases",
    "0003": "findings",
    "0004": "agents.basis",
    "0005": "tool_calls peer_messages peer_pairs introductions",
    "0006": "restores",
    "0007": "agents.revival",
    "0008": "ledger ledger_positions quota budgets",
    "0009": "spending quota_history pace_lines pace_log authorizations account_leases continuations results questions "
    "tasks task_events fair_shares schedules reports ledger.ix_ledger_ended budgets.reset_at budgets.of",
    "0010": "agents.home",
    "0011": "tasks.ix_tasks_ended",
    "0012": "tool_calls.turn",
    "0013": "quota_history.ix_quota_history_place authorizations.ix_authorizations_ended tasks.ix_tasks_agent",
    "0014": "tasks.charged_to",
    "0015": "titles",
    "0016": "thread_owners tasks.thread_key",
    "0017": "audit.through command_runs.through",
}


async def as_of(url: str, revision: str) -> None:
    """Make the register at `url` one of this earlier revision."""
    await (await Store.open(url)).close()
    engine = engine_of(url)
    async with engine.begin() as connection:
        await connection.run_sync(_as_of, revision)
    await engine.dispose()


def _as_of(connection: Connection, revision: str) -> None:
    _undone(connection, max("0018", f"{int(revision) + 1:04}"))
    later = [name for added, names in ADDED.items() if added > revision for name in names.split()]
    gone = {name for name in later if "." not in name}
    for table in gone:
        connection.execute(text(f"DROP TABLE {table}"))
    for table, name in (entry.split(".") for entry in later if "." in entry):
        if table not in gone:
            what = f"DROP INDEX {name}" if name.startswith("ix_") else f'ALTER TABLE {table} DROP COLUMN "{name}"'
            connection.execute(text(what))
    if revision == "0008":
        connection.execute(text("CREATE INDEX ix_ledger_day ON ledger (day)"))
        for column in ("agent", "account", "model"):
            connection.execute(text(f"CREATE INDEX ix_ledger_{column} ON ledger ({column}, day)"))
    connection.execute(text(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '{revision}'"))


@pytest.mark.parametrize("revision", ["0001", *ADDED])
async def test_an_older_register_is_brought_up_to_date(register_url: str, revision: str) -> None:
    await as_of(register_url, revision)
    await (await Store.open(register_url)).close()
    engine = engine_of(register_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_text_of_later_tables_is_ordered_byte_by_byte_too(postgres: Postgres, postgres_database: str) -> None:
    connection = await postgres.connect(postgres_database)
    found = await connection.fetch(
        "SELECT DISTINCT collation_name FROM information_schema.columns"
        " WHERE table_schema = 'muster' AND data_type IN ('character varying', 'text')"
    )
    await connection.close()
    assert [row["collation_name"] for row in found] == ["C"]


async def test_what_was_metered_before_sums_were_kept_is_summed_up(register_url: str) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    store = await Store.open(register_url)
    rows = [random_row(seq, chance, begin=NOON, end=NOON + 2 * DAY) for seq in range(1, 120)]
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, rows)
    await store.close()
    await as_of(register_url, "0008")
    store = await Store.open(register_url)
    async with store.read() as tx:
        assert await hourly_rollup.verify(tx) == []
        assert await usage_queries.used(tx, "all", 0.0) == added_up(rows)
    await store.close()
    engine = engine_of(register_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_the_audit_from_before_it_was_chained_is_chained(register_url: str) -> None:
    store = await Store.open(register_url)
    async with store.write(STEP) as tx:
        for number in range(1_203):
            await audit_log.add(
                tx, key=f"k{number}", at=float(number), identity="i", door="cli", action="a", outcome="done",
                arguments={"n": number, "share": number / 7, "text": "\u00e9"}, detail="\u00e9" if number % 2 else None,
            )  # fmt: skip
        before = await audit_anchors.head(tx)
    await store.close()
    await as_of(register_url, "0023")
    store = await Store.open(register_url)
    async with store.write(STEP) as tx:
        assert await audit_anchors.head(tx) == before
        await audit_log.add(tx, key="x", at=0.0, identity="i", door="cli", action="a", outcome="done")
        check = AuditCheck((), ())
        async for line in audit_anchors.lines(tx):
            check.line(line)
    assert (check.faults, check.lines) == ([], 1_204)
    await store.close()


async def test_what_operators_owed_before_queues_had_weights_they_go_on_owing(register_url: str) -> None:
    await as_of(register_url, "0018")
    engine = engine_of(register_url)
    async with engine.begin() as connection:
        for flow, deficit in (("ana", -4000.0), ("ana coder", -4000.0), ("otto", 300.0)):
            row = {"flow": flow, "deficit": deficit}
            put = text("INSERT INTO fair_shares VALUES (:flow, :deficit, 1.0, 'default', 'here')")
            await connection.execute(put, row)
    await engine.dispose()
    store = await Store.open(register_url)
    async with store.read() as tx:
        assert await tasks.queues(tx) == {"normal ana": 1000.0}
    await store.close()


def _undone(connection: Connection, since: str) -> None:
    """Undo the revisions from `since` on, which is after the baseline."""
    if since <= "0028":
        for table in ("forge_cursors", "forge_events", "forge_orders", "forge_sights", "issue_runs", "issue_wakes"):
            connection.execute(text(f"DROP TABLE {table}"))
    if since <= "0024":
        connection.execute(text("DROP TABLE runs"))
    if since <= "0024":
        connection.execute(text("DROP TABLE audit_anchors"))
        connection.execute(text("ALTER TABLE audit DROP COLUMN chain"))
    if since <= "0023":
        connection.execute(text("DROP TABLE web_sessions"))
    if since <= "0022":
        connection.execute(text("DROP TABLE approval_rules"))
        for column in ("facts", "together"):
            connection.execute(text(f"ALTER TABLE approvals DROP COLUMN {column}"))
    if since <= "0021":
        for table in ("topics", "topic_words"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("ALTER TABLE agents DROP COLUMN topic"))
    if since <= "0020":
        connection.execute(text("ALTER TABLE agents DROP COLUMN model_answering"))
    if since <= "0019":
        connection.execute(text("DROP TABLE fair_queues"))
        for column in ("weight", "saves_from"):
            connection.execute(text(f"ALTER TABLE tasks DROP COLUMN {column}"))
        columns = "flow VARCHAR, deficit FLOAT, updated_at FLOAT, tenant_id VARCHAR, host VARCHAR"
        connection.execute(text(f"CREATE TABLE fair_shares ({columns})"))


async def test_what_providers_wrote_into_errors_is_blanked_and_gone_from_the_file(register_url: str) -> None:
    key = "sk-ant-api03-of-the-account"
    store = await Store.open(register_url)
    said = [f"authentication_error: {key} is not known", None, "rate_limit_error: slow down"]
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, [row(seq, detail=detail, status=401) for seq, detail in enumerate(said, 1)])
    await store.close()
    await as_of(register_url, "0017")
    place = dsn.parse(register_url)
    if isinstance(place, dsn.FileAddress):
        assert key.encode() in _bytes_of(place)
    store = await Store.open(register_url)
    async with store.read() as tx:
        found = await tx.execute(text("SELECT seq, status, detail FROM ledger ORDER BY seq"))
        assert [tuple(each) for each in found] == [(seq, 401, None) for seq in (1, 2, 3)]
    await store.close()
    if isinstance(place, dsn.FileAddress):
        assert key.encode() not in _bytes_of(place)


def _bytes_of(file: dsn.FileAddress) -> bytes:
    path = Path(str(file))
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))
