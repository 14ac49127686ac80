"""Commands of the section *reports*: what is posted at times, when, and the same at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bot.auth.permission import OPERATOR
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.commands.context import Context
    from bot.reports.services import ReportServices


@command("report", permission=OPERATOR, help_section="reports", audited=False)
async def report(ctx: Context[ReportServices], kind: Literal["daily", "weekly", "budget", "fleet"] = "daily") -> Reply:
    """A report, at once: what it would say if it were due now.

    Args:
        kind: daily tells of yesterday, weekly of the last seven days, budget how every window stands, fleet who is
            there.
    """
    from bot.reports.commands_service import show_report

    return await show_report(ctx, kind)


@command("schedules", permission=OPERATOR, help_section="reports", audited=False, effects=False)
async def schedules(ctx: Context[ReportServices]) -> Reply:
    """When each kind of report is posted, who said so, and when it comes next."""
    from bot.reports.commands_service import show_schedules

    return await show_schedules(ctx)


@command("schedule set", permission=OPERATOR, help_section="reports")
async def schedule_set(
    ctx: Context[ReportServices], kind: Literal["daily", "weekly", "budget", "fleet"], cron: str
) -> Reply:
    """Set when a kind of report is posted, in the zone of muster.yaml. It goes before what muster.yaml says.

    Args:
        kind: daily, weekly or fleet; of budget, which is told when a share of a window is passed, only `on`.
        cron: in quotes, minute, hour, day of the month, month and day of the week: "0 9 * * mon-fri". Days of the week
            are names, or numbers of which both 0 and 7 are Sunday.
    """
    from bot.reports.commands_service import set_schedule

    return await set_schedule(ctx, kind, cron)


@command("schedule off", permission=OPERATOR, help_section="reports")
async def schedule_off(ctx: Context[ReportServices], kind: Literal["daily", "weekly", "budget", "fleet"]) -> Reply:
    """Post no reports of a kind by themselves any more.

    Args:
        kind: daily, weekly, budget or fleet.
    """
    from bot.reports.commands_service import switch_off

    return await switch_off(ctx, kind)


@command("schedule clear", permission=OPERATOR, help_section="reports")
async def schedule_clear(ctx: Context[ReportServices], kind: Literal["daily", "weekly", "budget", "fleet"]) -> Reply:
    """Forget what a command set of a kind of report: what muster.yaml says of it holds again.

    Args:
        kind: daily, weekly, budget or fleet.
    """
    from bot.reports.commands_service import clear

    return await clear(ctx, kind)
