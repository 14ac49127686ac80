"""Commands of the section *reports*: reports at once, and their schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bot.auth.permission import OPERATOR
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.commands.context import Context
    from bot.reports.services import ReportServices


@command("report", permission=OPERATOR, help_section="reports", audited=False)
async def report(ctx: Context[ReportServices], kind: Literal["daily", "weekly", "budget", "fleet"] = "daily") -> Reply:
    """Show a report now, as if it were due.

    Args:
        kind: daily (yesterday), weekly (the last seven days), budget (every window) or fleet (every agent).
    """
    from bot.reports.commands_service import show_report

    return await show_report(ctx, kind)


@command("schedules", permission=OPERATOR, help_section="reports", audited=False, effects=False)
async def schedules(ctx: Context[ReportServices]) -> Reply:
    """List the schedules: when each kind of report is posted, who set this, and when it is due next."""
    from bot.reports.commands_service import show_schedules

    return await show_schedules(ctx)


@command("schedule set", permission=OPERATOR, help_section="reports")
async def schedule_set(
    ctx: Context[ReportServices], kind: Literal["daily", "weekly", "budget", "fleet"], cron: str
) -> Reply:
    """Set when a report is posted, in the timezone of muster.yaml. This overrides muster.yaml.

    Args:
        kind: daily, weekly or fleet. For budget, which is posted when a share of a window is used, only `on`.
        cron: minute, hour, day of the month, month and day of the week, in quotes: "0 9 * * mon-fri". 0 and 7 are
            Sunday.
    """
    from bot.reports.commands_service import set_schedule

    return await set_schedule(ctx, kind, cron)


@command("schedule off", permission=OPERATOR, help_section="reports")
async def schedule_off(ctx: Context[ReportServices], kind: Literal["daily", "weekly", "budget", "fleet"]) -> Reply:
    """Stop posting a report.

    Args:
        kind: daily, weekly, budget or fleet.
    """
    from bot.reports.commands_service import switch_off

    return await switch_off(ctx, kind)


@command("schedule clear", permission=OPERATOR, help_section="reports")
async def schedule_clear(ctx: Context[ReportServices], kind: Literal["daily", "weekly", "budget", "fleet"]) -> Reply:
    """Remove what a command set for a report. The schedule from muster.yaml applies again.

    Args:
        kind: daily, weekly, budget or fleet.
    """
    from bot.reports.commands_service import clear

    return await clear(ctx, kind)
