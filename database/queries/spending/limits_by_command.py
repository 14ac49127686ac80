"""Limits given by command."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.queries.record import Record
from database.schema import budgets


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetRow(Record):
    """One limit. For its scope these go before all that muster.yaml says of it."""

    scope: str
    #: tokens, usd or share
    unit: str
    #: day, week, month, or a length of time; empty: without an end. Of a share: as the provider calls it
    window: str
    amount: float
    #: cutoff, freeze or kill
    policy: str
    set_by: str
    set_at: float
    #: When the window resets, as a person said; None: as the clock or the provider says.
    reset_at: float | None = None
    #: Of a share: the account whose window it is a share of.
    of: str | None = None


async def every(tx: AsyncConnection) -> list[BudgetRow]:
    """Return all of them, by scope."""
    return await BudgetRow.every(tx, select(budgets).order_by(budgets.c.scope, budgets.c.unit, budgets.c.window))


async def put(tx: AsyncConnection, row: BudgetRow) -> None:
    """Set a limit; the one of the same scope, unit and window is replaced."""
    same = (budgets.c.scope == row.scope) & (budgets.c.unit == row.unit) & (budgets.c.window == row.window)
    await tx.execute(delete(budgets).where(same))
    await tx.execute(insert(budgets), [asdict(row)])


async def clear(tx: AsyncConnection, scope: str, window: str | None = None) -> int:
    """Take back what was set for a scope (in one window, if one is named); says how many limits went."""
    those = budgets.c.scope == scope
    if window is not None:
        those &= budgets.c.window == window
    return (await tx.execute(delete(budgets).where(those))).rowcount
