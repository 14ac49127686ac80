"""Whoever leads says who stands by, and since when, for as long as that is so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.leadership import lease, standby_registry
from bot.monitoring import health, health_view
from core.crash_points import declare
from database.engine.store import Store
from database.queries.operations import leases
from tests.bot.orchestrator import house
from tests.crash.deaths import walk
from tests.postgres import Postgres

STEP = declare("tests.presence")
HERE, THERE, ELSEWHERE = Path("/state/here"), Path("/state/there"), Path("/state/elsewhere")


@pytest.fixture
def url(postgres: Postgres, postgres_database: str) -> str:
    return postgres.url(postgres_database)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = await Store.open(url)
    yield opened
    await opened.close()


async def named(store: Store) -> list[leases.Lease]:
    async with store.read() as tx:
        return await standby_registry.others(tx, store, HERE, lambda: 0.0)


async def test_who_stands_by_is_named_since_it_does_and_not_when_it_is_silent(store: Store) -> None:
    first = await standby_registry.note(store, THERE)
    assert await standby_registry.note(store, THERE, first) == replace(first, until=(await named(store))[0].until)
    second = await standby_registry.note(store, ELSEWHERE)
    await standby_registry.note(store, HERE)
    assert [(each.owner, each.acquired_at) for each in await named(store)] == [
        (each.owner, each.acquired_at) for each in (first, second)
    ], "whoever leads does not stand by any more"
    assert first.owner.endswith("whose state is in /state/there")
    async with store.write(STEP) as tx:
        now = await lease.time_of(tx, store, lambda: 0.0)
        await leases.release(tx, first, now=now - 1)
        await leases.release(tx, second, now=now - standby_registry.STALE_S - 1)
    assert await named(store) == []
    again = await standby_registry.note(store, THERE, first)
    assert again.acquired_at == first.acquired_at, "an outage of the server ends nothing"
    async with store.read() as tx:
        assert len(await leases.beginning(tx, standby_registry.PREFIX)) == 2, "what is stale for long is dropped"


async def test_the_room_reads_who_stands_by(tmp_path: Path, url: str) -> None:
    async with house(tmp_path, settings=f"register: {{url: '{url}'}}\n") as home, home.open() as orchestrator:
        assert "stands by" not in await home.ask("!health")
        await standby_registry.note(orchestrator.store, THERE)
        said = await home.ask("!health")
        assert "whose state is in /state/there stands by, since 20" in said


async def test_with_a_file_nobody_stands_by(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open() as orchestrator:
        report = await health.load(orchestrator.services)
        assert report.standbys is None
        assert "standby" not in health_view.health_json(report, 0.0)["register"]


@pytest.mark.parametrize(
    "place", [f"standby.note.{side}{which}" for side in ("before", "after") for which in ("", ":2")]
)
def test_killed_at_this_place_who_stands_by_is_named_once(url: str, place: str) -> None:
    async def stand_by() -> None:
        store = await Store.open(url)
        await standby_registry.note(store, THERE, await standby_registry.note(store, THERE))
        assert len(await named(store)) == 1
        await store.close()

    walk(lambda: asyncio.run(stand_by()), [place])
