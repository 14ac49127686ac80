"""Commands of the section *budget*: what was used, what may be used, and closing an agent's way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bot.auth.permission import ADMIN, OPERATOR, VIEWER
from bot.commands.argument_types import AgentName, BudgetScope, Duration, RoleName, RuntimeName
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from bot.commands.context import Context
    from bot.pacing.services import PacingServices


@command("spend", permission=VIEWER, help_section="budget", audited=False, effects=False)
async def spend(
    ctx: Context[PacingServices],
    *,
    by: Literal["agent", "role", "task", "account", "model", "day"] = "agent",
    since: Duration | None = None,
) -> Reply:
    """What was used, as the providers reported it: requests, tokens by kind, and US dollars where a price is known.

    Days are those of the timezone in muster.yaml; by task, what it was projected to use stands beside what it used.

    Args:
        by: what is summed up by: agent, role, task, account, model or day.
        since: what was used in so long a time, such as 2h or 7d; otherwise since midnight, by day in thirty days.
    """
    from bot.spending.spend_query import show_spend

    return await show_spend(ctx, by, since)


@command("accounts", permission=VIEWER, help_section="budget", audited=False, effects=False)
async def accounts(ctx: Context[PacingServices]) -> Reply:
    """What the providers said last of each account's quota, and when."""
    from bot.spending.spend_query import show_accounts

    return await show_accounts(ctx)


@command("budget", permission=VIEWER, help_section="budget", audited=False, effects=False)
async def budget(ctx: Context[PacingServices]) -> Reply:
    """The limits that hold: how much of each is used and left, what may be used now at its pace, and what then."""
    from bot.spending.budget_view import show_budget

    return await show_budget(ctx)


@command("budget set", permission=ADMIN, help_section="budget")
async def budget_set(
    ctx: Context[PacingServices],
    scope: BudgetScope,
    limit: str,
    *,
    window: str | None = None,
    policy: Literal["cutoff", "freeze", "kill"] = "cutoff",
    of: str | None = None,
    reset_at: str | None = None,
) -> Reply:
    """Set a limit. For its scope, what is set so goes before what muster.yaml and roster.yaml say.

    Set again with the same window it replaces the one before; limits of several windows hold beside each other.

    Args:
        scope: host, account:NAME, provider:NAME, role:NAME or profile:NAME for all together; agent:NAME for one agent;
            agent for each agent that has no limit of its own.
        limit: tokens, such as 500k or 2M, US dollars, such as 20usd, or a share of a subscription's window, such as
            20%.
        window: day, week or month (UTC), or a length such as 5h; without one it holds for good, and an agent's for as
            long as its launch. Of a share: the subscription's window, such as 7d.
        policy: what happens at the limit: cutoff closes the way out, freeze stops the agent and keeps its session,
            kill gives that up, too.
        of: of a share: the account of whose window it is one.
        reset_at: when the window of a subscription begins anew, where its provider does not say it: such as
            "2026-11-25 09:00", with `budget set account:NAME 100% --window 7d`.
    """
    from bot.spending.service import set_budget

    return await set_budget(ctx, scope, limit, window=window, policy=policy, of=of, reset_at=reset_at)


async def _is_set(services: PacingServices, arguments: Mapping[str, Any]) -> None:
    from bot.spending.service import check_clear

    await check_clear(services, arguments["scope"], window=arguments["window"])


@command("budget clear", permission=ADMIN, help_section="budget", confirm=True, check=_is_set)
async def budget_clear(ctx: Context[PacingServices], scope: BudgetScope, *, window: str | None = None) -> Reply:
    """Take back the limits that were set by command for a scope. What the files say of it holds again.

    Args:
        scope: as `budget` shows it.
        window: only those of this window, as they were set; none for those that hold for good.
    """
    from bot.spending.service import clear_budget

    return await clear_budget(ctx, scope, window=window)


@command("estimate", permission=VIEWER, help_section="budget", audited=False, effects=False)
async def estimate(
    ctx: Context[PacingServices],
    text: str,
    *,
    role: RoleName | None = None,
    runtime: RuntimeName | None = None,
    model: str | None = None,
    kind: str = "task",
) -> Reply:
    """What a task will likely cost, by what such tasks cost before, and how good such estimates were.

    Args:
        text: the task.
        role: whose task it is; otherwise anybody's.
        runtime: that would do it; otherwise any.
        model: that would do it; otherwise any.
        kind: of the task, as `task add` has it.
    """
    from bot.pacing.estimate import estimate

    return await estimate(ctx, text, role=role, runtime=runtime, model=model, kind=kind)


@command("budget authorize", permission=ADMIN, help_section="budget")
async def budget_authorize(
    ctx: Context[PacingServices], scope: BudgetScope, amount: str, *, for_: Duration | None = None
) -> Reply:
    """Let a scope spend faster than its pace, by so much and for a time. It is used up, and ends by itself.

    Critical tasks may pass the limit itself by it, and the egress lets so much more through; a provider's own window
    nothing passes.

    Args:
        scope: as `pace` shows it: host, account:NAME, role:NAME, agent:NAME, ...
        amount: tokens, such as 500k, US dollars, such as 20usd, or a share of the window, such as 10%; 0 takes back
            what is authorized.
        for_: how long, such as 2h; otherwise a day.
    """
    from bot.spending.authorizations import authorize

    return await authorize(ctx, scope, amount, for_)


@command("pace", permission=VIEWER, help_section="budget", audited=False, effects=False)
async def pace(ctx: Context[PacingServices]) -> Reply:
    """Where each window stands against its line, and where it will likely stand at its reset."""
    from bot.spending.pace_view import show_pace

    return await show_pace(ctx)


@command("cutoff", permission=OPERATOR, help_section="budget")
async def cutoff(ctx: Context[PacingServices], name: AgentName) -> Reply:
    """Close an agent's way out: what streams ends at once, and nothing of it leaves until it is restored.

    The agent itself goes on, and can do what needs no network.

    Args:
        name: the agent.
    """
    from bot.spending.cutoff import cut_off

    return await cut_off(ctx, name)


@command("restore", permission=OPERATOR, help_section="budget")
async def restore(ctx: Context[PacingServices], name: AgentName) -> Reply:
    """Open the way out of an agent that was cut off.

    A limit that is used up goes on holding: `budget set` raises it.

    Args:
        name: the agent.
    """
    from bot.spending.cutoff import restore_agent

    return await restore_agent(ctx, name)


@command("estop", permission=OPERATOR, help_section="budget", confirm="clear")
async def estop(ctx: Context[PacingServices], *, clear: bool = False) -> Reply:
    """The emergency stop: close the way out of all agents at once, until an admin clears it. Nobody is asked first.

    Args:
        clear: end it (an admin's decision). This asks for a confirmation.
    """
    from bot.spending.cutoff import stop_everything

    return await stop_everything(ctx, clear=clear)
