"""What earlier versions kept of providers' errors is blanked, and no byte of it stays in the ledger's files."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from egress.ledger import provider_text_cleanup
from tests.egress.ledger.rows import look, opened, reservation, settlement

KEY = "sk-ant-api03-of-the-account"
SAID = [f"authentication_error: {KEY} is not known", None, "rate_limit_error", "HTTP status 502: <html>"]


async def made(path: Path) -> None:
    """A ledger as an egress of before left it, with a page that it had freed."""
    async with opened(path) as ledger:
        for _ in SAID:
            reserved = reservation(ledger)
            ledger.reserve(reserved)
            await ledger.settle(settlement(reserved))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for seq, said in enumerate(SAID, 1):
            connection.execute("UPDATE entries SET detail = ? WHERE seq = ?", (said, seq))
        connection.execute("CREATE TABLE freed (words TEXT)")
        connection.executemany("INSERT INTO freed VALUES (?)", [(f"{KEY} " * 200,)] * 20)
        connection.execute("DROP TABLE freed")
        connection.execute("UPDATE meta SET value = 0 WHERE key = 'blanked'")


def kept(path: Path) -> bytes:
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))


async def test_text_of_providers_is_blanked_and_types_of_errors_stay(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    await made(path)
    assert KEY.encode() in kept(path)
    async with opened(path) as ledger:
        entries = await ledger.entries_after(0, 10)
        assert [entry.detail for entry in entries] == [None, None, "rate_limit_error", None]
        assert KEY.encode() not in kept(path)
    assert KEY.encode() not in kept(path)


async def test_what_an_older_egress_wrote_in_between_is_blanked_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    await made(path)
    async with opened(path) as ledger:
        reserved = reservation(ledger)
        ledger.reserve(reserved)
        await ledger.settle(settlement(reserved)._replace(detail=f"an error with {KEY}"))
    async with opened(path) as ledger:
        assert [entry.detail for entry in await ledger.entries_after(4, 10)] == [None]
    assert KEY.encode() not in kept(path)


async def test_a_file_that_cannot_be_written_anew_is_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    await made(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:

        class Full(sqlite3.Connection):
            def execute(self, statement: str, *parameters: object) -> sqlite3.Cursor:
                if statement == "VACUUM":
                    raise sqlite3.OperationalError("database or disk is full")
                return super().execute(statement, *parameters)  # type: ignore[arg-type]

        with contextlib.closing(sqlite3.connect(path, isolation_level=None, factory=Full)) as full:
            provider_text_cleanup.blank(full)
        assert connection.execute("SELECT count(*) FROM entries WHERE detail IS NOT NULL").fetchone() == (1,)
        assert connection.execute("SELECT value FROM meta WHERE key = 'rewrite'").fetchone() == (1,)
    async with opened(path):
        pass
    assert look(path, "SELECT value FROM meta WHERE key = 'rewrite'") == [(0,)]
    assert KEY.encode() not in kept(path)
