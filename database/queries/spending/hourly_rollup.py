"""Keeping the ledger's sums by the hour, and counting them again from its rows.

A row adds to its hour in the transaction that writes it, and only if it was not there before; so the sums are those of
the rows whoever is killed when. What may add rows without their sums is an older Muster beside a register that was
migrated already, or a hand in the database: `differences` finds that, and `recount` puts it right.

The names of models and tasks are bounded (`rollup_name_limits`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, case, delete, func, insert, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.store import insert_into
from database.queries.spending.hourly_sums_reader import HOUR, TOKENS, sums_of_rows
from database.queries.spending.rollup_name_limits import KnownNames
from database.schema import ledger, spending
from database.schema.text_types import storable

DAY = 86_400
_HOURS = DAY // HOUR

KEY = tuple(column.name for column in spending.primary_key)
MEASURES = ("requests", *TOKENS, "usd", "unpriced", "estimated")

_PLAIN = ("agent", "role", "profile", "account", "provider", "ledger")

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class SumDifference:
    """A sum that is not that of its rows."""

    key: Mapping[str, Any]
    kept: Mapping[str, float] | None
    """None: there was none."""
    counted: Mapping[str, float] | None


def day_of(at: float) -> int:
    """Return the day in UTC, counted from 1970-01-01."""
    return int(at // DAY)


# --- keeping -----------------------------------------------------------------------------------------------------


async def count(tx: AsyncConnection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows of the ledger that were not there before to the sums of their hours; in the transaction of both."""
    hours = [_hour_of(row) for row in sorted(rows, key=lambda row: (row["ledger"], row["seq"]))]
    if not hours:
        return
    names = KnownNames()
    for day in sorted({row["hour"] // _HOURS for row in hours}):
        of_day = [row for row in hours if row["hour"] // _HOURS == day]
        agents = sorted({row["agent"] for row in of_day})
        there = (
            select(spending.c.ledger, spending.c.agent, spending.c.model, spending.c.task)
            .where(spending.c.agent.in_(agents), spending.c.hour.between(day * _HOURS, (day + 1) * _HOURS - 1))
            .distinct()
        )
        for ledger_id, agent, model, task in await tx.execute(there):
            names.know((ledger_id, agent, day), model=model, task=task)
    made = insert_into(tx, spending)
    added = {name: spending.c[name] + made.excluded[name] for name in MEASURES}
    statement = made.on_conflict_do_update(index_elements=list(KEY), set_=added)
    await tx.execute(statement, _merged(names.folded(row) for row in hours))


def _hour_of(row: Mapping[str, Any]) -> Row:
    tokens = sum(row[kind] for kind in TOKENS)
    made = {name: row[name] for name in (*_PLAIN, *TOKENS)}
    return made | {
        "hour": int(row["ended_at"] // HOUR),
        # As they will stand in both tables.
        "model": storable(row["model"] or ""),
        "task": storable(row["task"] or ""),
        "requests": 1,
        "usd": row["usd"] or 0.0,
        "unpriced": int(row["usd"] is None and tokens > 0),
        "estimated": int(not row["reported"] and tokens > 0),
        **{name: row[name] for name in ("tenant_id", "host") if name in row},
    }


def _merged(rows: Iterable[Row]) -> list[Row]:
    made: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row[name] for name in KEY)
        if key in made:
            for name in MEASURES:
                made[key][name] += row[name]
        else:
            made[key] = dict(row)
    return list(made.values())


# --- counting again -----------------------------------------------------------------------------------------------


async def day_before(tx: AsyncConnection, day: int | None) -> int | None:
    """Return the last day before `day` of which there are rows; None: there is none.

    Days without rows are left alone: theirs were forgotten, and their sums are all that is known.

    Args:
        tx: to read from.
        day: None: the last of all. Days are asked for one by one, since a clock that was set wrong may have left years
            between two of them.
    """
    ended = select(func.max(ledger.c.ended_at))
    last = await tx.scalar(ended if day is None else ended.where(ledger.c.ended_at < float(day * DAY)))
    return None if last is None else day_of(last)


async def differences(tx: AsyncConnection, day: int) -> list[SumDifference]:
    """Return every sum of a day that is not that of its rows. Money is compared to nine places."""
    counted = await _counted(tx, day)
    columns = [spending.c[name] for name in (*KEY, *MEASURES)]
    query = select(*columns).where(spending.c.hour.between(day * _HOURS, (day + 1) * _HOURS - 1))
    return await asyncio.to_thread(_compared, (await tx.execute(query)).mappings().all(), counted)


async def verify(tx: AsyncConnection) -> list[SumDifference]:
    """Return the differences of all days of which the rows are kept: a full recount."""
    found: list[SumDifference] = []
    day = await day_before(tx, None)
    while day is not None:
        found += await differences(tx, day)
        day = await day_before(tx, day)
    return found


async def recount(tx: AsyncConnection, day: int) -> list[SumDifference]:
    """Count a day again where that is needed. Says what was not right."""
    found = await differences(tx, day)
    if found:
        await tx.execute(delete(spending).where(spending.c.hour.between(day * _HOURS, (day + 1) * _HOURS - 1)))
        if rows := await _counted(tx, day):
            await tx.execute(insert(spending), rows)
    return found


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete the sums of hours that ended before `before`, a batch of them; return how many."""
    return await delete_some(tx, spending, spending.c.hour < int(before // HOUR))


async def _counted(tx: AsyncConnection, day: int) -> list[Row]:
    """Return the sums of a day as its rows have them."""
    within = (ledger.c.ended_at >= float(day * DAY), ledger.c.ended_at < float((day + 1) * DAY))
    # With the hour's beginning as bounds, it is that of the ranges that are read, on every database.
    hour = case(*((ledger.c.ended_at < float((day * _HOURS + n + 1) * HOUR), n) for n in range(_HOURS - 1)), else_=23)
    named = [func.coalesce(ledger.c[name], "").label(f"key_{name}") for name in ("model", "task")]
    labels: list[ColumnElement[Any]] = [literal_column(name) for name in ("place", "key_model", "key_task")]
    query = (
        select(
            hour.label("place"),
            *(ledger.c[name] for name in _PLAIN),
            *named,
            *sums_of_rows(),
            func.min(ledger.c.seq).label("first"),
            func.min(ledger.c.host).label("at_host"),
            func.min(ledger.c.tenant_id).label("of_tenant"),
        )
        .where(*within)
        .group_by(*labels, *(ledger.c[name] for name in _PLAIN))
    )
    # An agent may have thought of a name for each request of a day.
    return await asyncio.to_thread(_summed_up, (await tx.execute(query)).mappings().all(), day)


def _summed_up(found: Sequence[RowMapping], day: int) -> list[Row]:
    rows = [
        {name: row[name] for name in _PLAIN}
        | {name: int(row[name]) for name in MEASURES if name != "usd"}
        | {
            "hour": day * _HOURS + row["place"],
            "model": row["key_model"],
            "task": row["key_task"],
            "usd": float(row["usd"]),
            "host": row["at_host"],
            "tenant_id": row["of_tenant"],
        }
        for row in sorted(found, key=lambda row: row["first"])
    ]
    names = KnownNames()
    return _merged(names.folded(row) for row in rows)


def _compared(there: Sequence[RowMapping], counted: Sequence[Row]) -> list[SumDifference]:
    kept = {tuple(row[name] for name in KEY): dict(row) for row in there}
    right = {tuple(row[name] for name in KEY): row for row in counted}
    return [
        SumDifference(
            key=dict(zip(KEY, key, strict=True)), kept=_measures(kept.get(key)), counted=_measures(right.get(key))
        )
        for key in sorted(kept.keys() | right.keys())
        if not _same(kept.get(key), right.get(key))
    ]


def _measures(row: Mapping[str, Any] | None) -> dict[str, float] | None:
    return None if row is None else {name: row[name] for name in MEASURES}


def _same(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    if one is None or other is None:
        return False
    exact = all(one[name] == other[name] for name in MEASURES if name != "usd")
    return exact and math.isclose(one["usd"], other["usd"], rel_tol=1e-9, abs_tol=1e-9)
