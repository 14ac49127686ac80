"""Gathers what `budget`, `pace`, `accounts` and dashboards show of limits. It makes no decisions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.config.accounts import exposed_credentials
from bot.egress_client import emergency_stop
from bot.pacing import window_pace
from bot.pacing.pace_holds import with_holds
from bot.pacing.services import PacingServices
from bot.pacing.window_series import with_past
from bot.read_models.fleet import GateClosure
from bot.read_models.limits import (
    AccountModel,
    Authorization,
    Enforcement,
    LimitLine,
    LimitsModel,
    OverruledLimit,
    UsageKey,
    UsageRow,
    WindowPace,
)
from bot.read_models.provenance import Provenance
from bot.spending import account_models, enforcement_log, overruled_limits
from bot.spending.enforcement_log import AuditedAction
from bot.spending.held_limits import held_now, holding, replaced_now
from bot.spending.limit_lines import lines_of, with_precedence
from bot.text.errors import UserError
from budget.windows import window_boundaries
from budget.windows.calendar_days import midnight
from database.queries.operations import audit_log
from database.queries.operations.audit_log import AuditRow
from database.queries.spending import pacing_windows, usage_ledger, usage_queries
from database.queries.spending.usage_queries import Sums
from egress.ledger.model import EXCESS
from egress.settings import LimitSettings

#: Parts of the model that not every view needs: the windows' past and future with what the pace holds, the log, today's
#: use, and the accounts.
Part: TypeAlias = Literal["history", "log", "usage", "accounts"]
ALL: Final[tuple[Part, ...]] = ("history", "log", "usage", "accounts")

#: Reasons for waiting that mean that spending limits hold a task.
_HELD: Final = ("pace", "limit", "unknown", "price")
#: Maximum number of requests that ran alone to search.
_EXCESSES: Final = 1_000
#: Seconds back to which the log goes, and the maximum number of lines of the audit to read for it.
_LOG_S: Final = 7 * 86_400.0
_LOG_ROWS: Final = 1_000
#: Maximum number of rows of use of each kind, the largest.
_ROWS: Final = 200
#: The columns of the ledger's sums by what a row of use is about.
_COLUMNS: Final[Mapping[Literal["agent", "sandbox", "provider", "account", "model"], str]] = {
    "agent": "agent", "sandbox": "profile", "provider": "provider", "account": "account", "model": "model",
}  # fmt: skip


async def load(services: PacingServices, *parts: Part) -> LimitsModel:
    """Return all limits. Nothing is written, and no command runs.

    Args:
        services: the services to use.
        parts: what to load besides limits, windows and authorizations; `*ALL` for everything.

    Raises:
        RegisterError: the register cannot be read.
    """
    standing = None if services.egress_client is None else await services.egress_client.standing()
    snapshot = (await services.pace.snapshot()).seen_at_the_gate(standing)
    now, zone = snapshot.now, services.settings.timezone
    windows = window_pace.paces_of(snapshot)
    if "history" in parts:
        windows = await with_holds(services, snapshot, await with_past(services, snapshot, now))
    by_key = {each.key: each for each in windows}
    paces = {key: by_key[key] for key in snapshot.standings}
    problem, set_ = await _set(services)
    overruled = await _overruled(services)
    lines = with_precedence(
        lines_of([each.model_dump() for each in set_], standing, paces, snapshot.policies, now), overruled
    )
    passed = [line for line in lines if _is_passed(line)]
    async with services.store.read() as tx:
        waiting = await pacing_windows.waiting(tx)
        alone = await audit_log.of_action(tx, EXCESS, _begin(passed, now), limit=_EXCESSES) if passed else []
        log = await _log(tx, now) if "log" in parts else ()
        granted = {row.id: row.granted_by for row in await pacing_windows.live(tx)}
        since = midnight(now, zone)
        usage = await _usage(tx, since) if "usage" in parts else None
        quotas = await usage_ledger.quotas(tx) if "accounts" in parts else []
    return LimitsModel(
        at=now,
        lines=tuple(_with_excess(line, alone, now) for line in lines),
        windows=tuple(windows),
        overruled=tuple(overruled),
        authorizations=_authorizations(window_pace.authorizations_of(snapshot), granted),
        enforcements=log,
        usage=None if services.egress_client is None else usage,
        accounts=await _accounts(services, quotas, paces) if "accounts" in parts else (),
        waiting={why: waiting.get(why, 0) for why in _HELD},
        spread=services.settings.pacing.spread == "even",
        counted=Provenance(source="none" if standing is None else "egress"),
        problem=problem if standing is None else None,
        behind=services.egress_client.behind() if services.egress_client is not None else None,
        estop=await _estop(services, standing),
        zone=_key(zone),
        day_began_at=since,
    )


async def _set(services: PacingServices) -> tuple[str | None, Sequence[LimitSettings]]:
    """Return the limits that do not belong to one launch, or why they are unknown."""
    try:
        return None, await holding(services)
    except UserError as error:
        return str(error), ()


async def _overruled(services: PacingServices) -> list[OverruledLimit]:
    with contextlib.suppress(UserError):
        given = await overruled_limits.look(services, await held_now(services))
        return [*given, *overruled_limits.replaced(await replaced_now(services))]
    return []


# --- requests that ran alone ---------------------------------------------------------------------------------------


def _is_passed(line: LimitLine) -> bool:
    """Return whether use exceeds one of Muster's own limits. Provider windows do not count."""
    return line.unit != "share" and line.used is not None and line.used > line.limit


def _begin(passed: Sequence[LimitLine], now: float) -> float:
    return min(window_boundaries.start_of(line.window, now) for line in passed)


def _with_excess(line: LimitLine, alone: Sequence[AuditRow], now: float) -> LimitLine:
    """Add the excess over the limit that a request that ran alone caused (budget.limits.request_admission)."""
    if line.used is None or not _is_passed(line) or not any(_is_about(each, line, now) for each in alone):
        return line
    return replace(line, excess=line.used - line.limit)


def _is_about(excess: AuditRow, line: LimitLine, now: float) -> bool:
    """Return whether a request ran alone under this limit in the current window."""
    told = excess.arguments
    return (
        all(told.get(name) == getattr(line, name) for name in ("kind", "scope", "unit", "window"))
        and (line.kind == "pool" or told.get("agent") == line.agent)
        and excess.at >= window_boundaries.start_of(line.window, now)
    )


# --- the other parts -----------------------------------------------------------------------------------------------


async def _log(tx: AsyncConnection, now: float) -> tuple[Enforcement, ...]:
    rows = await audit_log.of_actions(tx, enforcement_log.ACTIONS, now - _LOG_S, limit=_LOG_ROWS)
    return enforcement_log.enforcements(map(_action, rows))


def _action(row: AuditRow) -> AuditedAction:
    # The egress's lines begin with what came of it (bot.egress_client.ledger_import).
    why = row.detail if row.door != "egress" or row.detail is None else row.detail.partition(": ")[2] or None
    return AuditedAction(
        at=row.at,
        identity=row.identity,
        door=row.door,
        action=row.action,
        arguments=row.arguments,
        outcome=row.outcome,
        why=why,
    )


def _authorizations(found: Sequence[Authorization], granted: Mapping[str, str]) -> tuple[Authorization, ...]:
    return tuple(replace(each, granted_by=granted.get(each.id)) for each in found)


async def _usage(tx: AsyncConnection, since: float) -> tuple[UsageRow, ...]:
    """Return today's use by each column, the largest first."""
    columns = tuple(_COLUMNS.values())
    found = await usage_queries.groups(tx, columns, since)
    rows: list[UsageRow] = []
    for place, by in enumerate(_COLUMNS):
        sums: dict[str, Sums] = {}
        for key, each in found.items():
            sums[key[place]] = sums.get(key[place], usage_queries.NOTHING) + each
        rows += largest_use(by, sums)[:_ROWS]
    return tuple(rows)


def largest_use(by: UsageKey, found: Mapping[str, Sums]) -> list[UsageRow]:
    """Return the use by name, the largest first."""
    return sorted((use_of(by, name, sums) for name, sums in found.items()), key=lambda row: (-row.tokens, row.name))


def use_of(by: UsageKey, name: str, sums: Sums) -> UsageRow:
    """Return the use under one name."""
    usd = None if sums.unpriced else sums.usd
    return UsageRow(by=by, name=name, requests=sums.requests, tokens=sums.tokens, usd=usd, estimated=sums.estimated)


async def _accounts(
    services: PacingServices, quotas: Sequence[usage_ledger.QuotaRow], paces: Mapping[str, WindowPace]
) -> tuple[AccountModel, ...]:
    warnings = await asyncio.to_thread(exposed_credentials, services.settings.accounts)
    return account_models.accounts_of(services.settings.accounts, quotas, paces, warnings, services.clock())


async def _estop(services: PacingServices, standing: Mapping[str, Any] | None) -> GateClosure | None:
    """Return the emergency stop. The egress follows the file, which also holds while the egress is down."""
    state = services.paths.state
    pulled = await asyncio.to_thread(emergency_stop.is_pulled, state)
    if not pulled and not (standing is not None and standing.get("estop")):
        return None
    by = await asyncio.to_thread(emergency_stop.pulled_by, state)
    return GateClosure(kind="estop", by=by, at=await asyncio.to_thread(emergency_stop.pulled_at, state))


def _key(zone: ZoneInfo) -> str:
    return zone.key
