"""Commands about runs of issues, in the section *runs*."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import OPERATOR
from bot.commands.argument_types import RunId
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.commands.context import Context
    from bot.issue_runs.services import IssueServices


@command("runs allow", permission=OPERATOR, help_section="runs")
async def runs_allow(ctx: Context[IssueServices], id: RunId, mark: str) -> Reply:
    """Declare that what a search found in a run's commits is no secret, and publish them again.

    Args:
        id: the run's id, or the beginning of it.
        mark: the mark of the finding, as the run's thread shows it.
    """
    from bot.issue_runs.decisions import allow

    return await allow(ctx, id, mark)
