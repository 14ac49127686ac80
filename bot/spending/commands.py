"""Commands of the section *budget*: use, limits and cutoffs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bot.auth.permission import ADMIN, OPERATOR, VIEWER
from bot.commands.argument_types import AgentName, BudgetScope, Duration, RoleName, RuntimeName
from bot.commands.registry import Reply, command
from bot.commands.syntax import command_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from bot.commands.context import Context
    from bot.pacing.services import PacingServices


@command("spend", permission=VIEWER, help_section="budget", audited=False, effects=False)
async def spend(
    ctx: Context[PacingServices],
    *,
    by: Literal["agent", "role", "task", "account", "provider", "sandbox", "model", "day"] = "agent",
    since: Duration | None = None,
) -> Reply:
    """Show usage as the providers reported it: requests, tokens by kind, and US dollars where a price is known.

    Days follow the timezone in muster.yaml. By task, it also shows what each was projected to use.

    Args:
        by: agent, role, task, account, provider, sandbox (the profile), model or day.
        since: how far back, such as 2h or 7d. Default: since midnight; by day, thirty days.
    """
    from bot.spending.spend_query import show_spend

    return await show_spend(ctx, by, since)


@command("accounts", permission=VIEWER, help_section="budget", audited=False, effects=False)
async def accounts(ctx: Context[PacingServices]) -> Reply:
    """Show each account's quota as its provider last reported it, and when."""
    from bot.spending import accounts_view, limits_loader

    model = await limits_loader.load(ctx.services, "accounts")
    return Reply(accounts_view.accounts_text(model), accounts_view.accounts_json(model))


@command("budget", permission=VIEWER, help_section="budget", audited=False, effects=False)
async def budget(ctx: Context[PacingServices]) -> Reply:
    """Show the limits: how much of each is used and left, what the pace allows now, and what happens at the limit."""
    from bot.spending import budget_view, limits_loader
    from bot.text.errors import UserError

    model = await limits_loader.load(ctx.services)
    if model.problem is not None:
        raise UserError(model.problem, code="roster.invalid")
    return Reply(budget_view.budget_text(model), budget_view.budget_json(model))


@command("budget log", permission=VIEWER, help_section="budget", audited=False, effects=False)
async def budget_log(
    ctx: Context[PacingServices], *, agent: AgentName | None = None, since: Duration | None = None
) -> Reply:
    """Show what was enforced: when, on whom, by whom and why. It also lists changes of limits and authorizations.

    Args:
        agent: only what is about this agent.
        since: how far back, such as 2h. Default: seven days, which is also the most.
    """
    from bot.spending import limits_loader, log_view

    model = await limits_loader.load(ctx.services, "log")
    found = log_view.chosen(model, agent=agent, since=None if since is None else model.at - since)
    return Reply(log_view.log_text(found, model), log_view.log_json(found))


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
    """Set a limit. For its scope it overrides muster.yaml and roster.yaml.

    A limit with the same window is replaced. Limits with different windows all hold.

    Args:
        scope: host, account:NAME, provider:NAME, role:NAME, project:NAME or profile:NAME for all agents together;
            agent:NAME for one agent;
            agent for each agent without a limit of its own.
        limit: tokens, such as 500k or 2M; US dollars, such as 20usd; or a share of a subscription's window, such as
            20%.
        window: day, week or month (UTC), or a length such as 5h. Without one it never resets; an agent's lasts as long
            as
            its launch. For a share, the subscription's window, such as 7d.
        policy: at the limit, cutoff closes the agent's egress, freeze stops it and keeps its session, kill gives its
            session up.
        of: the account whose window a share is of.
        reset_at: when a subscription's window resets, if its provider does not report it, such as "2026-11-25 09:00",
            with
            `budget set account:NAME 100% --window 7d`.
    """
    from bot.spending.service import set_budget

    return await set_budget(ctx, scope, limit, window=window, policy=policy, of=of, reset_at=reset_at)


async def _is_set(services: PacingServices, arguments: Mapping[str, Any]) -> None:
    from bot.spending.service import check_clear

    await check_clear(services, arguments["scope"], window=arguments["window"])


@command(
    "budget clear",
    permission=ADMIN,
    help_section="budget",
    confirm=True,
    undo=f"{command_line('budget set')} sets it again.",
    check=_is_set,
)
async def budget_clear(ctx: Context[PacingServices], scope: BudgetScope, *, window: str | None = None) -> Reply:
    """Remove the limits that were set by command for a scope. Those from the files apply again.

    Args:
        scope: the scope, from `budget`.
        window: only limits with this window; none for those without one.
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
    """Estimate what a task will cost, from similar tasks, and show how good such estimates were.

    Args:
        text: the task.
        role: the role that would do it. Default: any.
        runtime: the runtime that would do it. Default: any.
        model: the model that would do it. Default: any.
        kind: the task's kind, as for `task add`.
    """
    from bot.pacing.estimate import estimate

    return await estimate(ctx, text, role=role, runtime=runtime, model=model, kind=kind)


@command("budget authorize", permission=ADMIN, help_section="budget")
async def budget_authorize(
    ctx: Context[PacingServices], scope: BudgetScope, amount: str, *, for_: Duration | None = None
) -> Reply:
    """Let a scope spend faster than its pace, up to an amount and for a time.

    It ends when it is used up or its time is over. Critical tasks may use it beyond the limit itself, and the egress
    lets
    that much more through. Nothing exceeds a provider's own window.

    Args:
        scope: the scope, from `pace`: host, account:NAME, role:NAME, agent:NAME, ...
        amount: tokens, such as 500k; US dollars, such as 20usd; or a share of the window, such as 10%. 0 takes back the
            rest.
        for_: for how long, such as 2h. Default: a day.
    """
    from bot.spending.authorizations import authorize

    return await authorize(ctx, scope, amount, for_)


@command("pace", permission=VIEWER, help_section="budget", audited=False, effects=False)
async def pace(ctx: Context[PacingServices]) -> Reply:
    """Show the use of each window relative to its line, and the expected use at its reset."""
    from bot.spending import limits_loader, pace_view

    model = await limits_loader.load(ctx.services, "history")
    return Reply(pace_view.pace_text(model), pace_view.paces_json(model))


@command("cutoff", permission=OPERATOR, help_section="budget")
async def cutoff(ctx: Context[PacingServices], name: AgentName) -> Reply:
    """Close an agent's egress. Running responses end at once, and no request leaves until `restore`.

    The agent itself keeps running, without a network.

    Args:
        name: the agent.
    """
    from bot.spending.cutoff import cut_off

    return await cut_off(ctx, name)


@command("restore", permission=OPERATOR, help_section="budget")
async def restore(ctx: Context[PacingServices], name: AgentName) -> Reply:
    """Open the egress of an agent that was cut off.

    A limit that is used up still holds; `budget set` raises it.

    Args:
        name: the agent.
    """
    from bot.spending.cutoff import restore_agent

    return await restore_agent(ctx, name)


@command(
    "estop",
    permission=OPERATOR,
    help_section="budget",
    confirm="clear",
    undo=f"{command_line('estop')} stops all agents again.",
)
async def estop(ctx: Context[PacingServices], *, clear: bool = False) -> Reply:
    """Emergency stop: close all agents' egress at once, without asking, until an admin clears it.

    Args:
        clear: end the emergency stop (admins only). This asks for a confirmation.
    """
    from bot.spending.cutoff import stop_everything

    return await stop_everything(ctx, clear=clear)
