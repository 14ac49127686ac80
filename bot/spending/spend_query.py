"""The `spend` command: sums of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.egress_client.ledger_import import weighed
from bot.pacing.services import PacingServices
from bot.text import markdown
from bot.text.timestamps import timestamp
from budget import amounts
from budget.windows.calendar_days import midnight
from database.queries.spending import usage_ledger, usage_queries
from database.queries.spending.usage_ledger import GroupUsage, Key

#: Default number of days when grouped by day.
_DAYS = 30
#: Maximum rows of a table in a chat room; the largest are shown.
_ROWS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """The total use of a task in weighted tokens; None: unknown."""

    projected: float | None
    actual: float | None


async def show_spend(ctx: Context[PacingServices], by: Key, since: float | None) -> Reply:
    services = ctx.services
    now, zone = services.clock(), services.settings.timezone
    start = midnight(now, zone, days=1 - _DAYS if by == "day" else 0) if since is None else now - since
    async with services.store.read() as tx:
        found = await usage_ledger.spent(tx, by=by, since=start, zone=zone)
        wholes = await _wholes(tx, services, [each.key for each in found if each.key]) if by == "task" else {}
    rows = [_spent_json(by, each) | _whole_json(by, wholes.get(each.key or "")) for each in found]
    data = {"by": by, "since": timestamp(start), "zone": str(zone), "rows": rows}
    behind = services.egress_client.behind() if services.egress_client is not None else None
    return Reply(_spent_text(found, by, now - start, wholes) + (f"\n\n⚠️ {behind}" if behind else ""), data)


async def _wholes(tx: AsyncConnection, services: PacingServices, ids: Sequence[str]) -> dict[str, Whole]:
    projected, used = await usage_queries.projected(tx, ids), await usage_queries.by_task(tx, ids)
    weights = services.settings.budgets.weights
    return {
        task: Whole(projected=projected.get(task), actual=weighed(used[task], weights) if task in used else None)
        for task in ids
    }


async def tokens_today(services: PacingServices) -> dict[str, int] | None:
    """Return each agent's tokens of all kinds since midnight in the operator's time zone, or None if incomplete."""
    if services.egress_client is None or services.egress_client.behind() is not None:
        return None
    async with services.store.read() as tx:
        return await usage_ledger.tokens_by_agent(tx, since=midnight(services.clock(), services.settings.timezone))


def _whole_json(by: Key, whole: Whole | None) -> dict[str, Any]:
    if by != "task":
        return {}
    return {
        "projected_tokens": None if whole is None else whole.projected,
        "actual_tokens": None if whole is None else whole.actual,
    }


def _spent_json(by: Key, spent: GroupUsage) -> dict[str, Any]:
    return {
        by: spent.key,
        "requests": spent.requests,
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "cache_read_tokens": spent.cache_read_tokens,
        "cache_write_tokens": spent.cache_write_tokens,
        "reasoning_tokens": spent.reasoning_tokens,
        "usd": None if spent.usd is None else round(spent.usd, 9),
        "estimated": spent.estimated,
    }


def _spent_text(found: Sequence[GroupUsage], by: Key, seconds: float, wholes: Mapping[str, Whole]) -> str:
    if not found:
        return f"Nothing was used in the last {markdown.span(seconds)}."
    rows = [
        (
            markdown.one_line(each.key or "-", 40),
            f"{each.requests:,}",
            amounts.tokens(each.input_tokens),
            amounts.tokens(each.cache_read_tokens + each.cache_write_tokens),
            amounts.tokens(each.output_tokens + each.reasoning_tokens),
            amounts.money(each.usd),
            *_whole_text(by, wholes.get(each.key or "")),
        )
        for each in (found[-_ROWS:] if by == "day" else found[:_ROWS])
    ]
    estimated = sum(each.estimated for each in found)
    more = f"\n\n{len(found) - _ROWS:,} more." if len(found) > _ROWS else ""
    note = (
        f"\n\nRequests whose use the provider did not report, so that it is estimated: {estimated:,}."
        if estimated
        else ""
    )
    if by == "task":
        note += (
            "\n\nActual: what the task used since it began, beside what it was projected to use. Both as budgets "
            "count tokens."
        )
    titles = (by, "requests", "input", "cache", "output", "USD", *(("projected", "actual") if by == "task" else ()))
    return markdown.table(titles, rows) + more + note


def _whole_text(by: Key, whole: Whole | None) -> tuple[str, ...]:
    if by != "task":
        return ()
    known = (None, None) if whole is None else (whole.projected, whole.actual)
    return tuple("-" if each is None else amounts.tokens(each) for each in known)
