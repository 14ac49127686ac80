"""Commands about issues of a forge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import OPERATOR
from bot.commands.argument_types import RoleName, RunId, SandboxName
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.commands.context import Context
    from bot.issue_runs.services import IssueServices


@command("runs allow", permission=OPERATOR, help_section="runs")
async def runs_allow(ctx: Context[IssueServices], id: RunId, mark: str) -> Reply:
    """Declare that what a search found in a run's commits is no secret, and publish them again.

    Args:
        id: the run's id or the beginning of it, such as 5e7a; of an issue's run also owner/repo#17.
        mark: the mark of the finding, such as 3fb1c2d49a07e6b5, as the run and its thread show it.
    """
    from bot.issue_runs.rounds.decisions import allow

    return await allow(ctx, id, mark)


@command("runs end", permission=OPERATOR, help_section="runs")
async def runs_end(ctx: Context[IssueServices], id: RunId) -> Reply:
    """Give up the work on an issue that has no open pull request. Its agent and its clone are removed.

    Args:
        id: the run's id or the beginning of it, such as 5e7a, or the issue as owner/repo#17.
    """
    from bot.issue_runs.rounds.decisions import end

    return await end(ctx, id)


@command("pickup", permission=OPERATOR, help_section="issues")
async def pickup(
    ctx: Context[IssueServices], issue: str, *, role: RoleName | None = None, sandbox: SandboxName | None = None
) -> Reply:
    """Have an agent work on an issue of the forge, without a label or an assignee.

    Args:
        issue: the issue, as owner/repo#17 or as the address of its page.
        role: a role, or an agent of the roster. Default: what the issue's label muster:NAME says.
        sandbox: a sandbox profile, or several joined by + (admins only). Default: the issue's labels, or `forge:
            sandbox` of muster.yaml.
    """
    from bot.issue_runs.intake.pickup_command import pick_up

    return await pick_up(ctx, issue, role=role, sandbox=sandbox)
