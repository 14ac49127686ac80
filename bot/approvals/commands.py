"""Commands of the section *approvals*: permission requests, questions and grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bot.auth.permission import ADMIN, OPERATOR
from bot.commands.argument_types import AgentName, ApprovalId, Duration, GrantId, QuestionId, RuleId
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.approvals.choices import ChoiceName
    from bot.approvals.services import ApprovalServices
    from bot.commands.context import Context


@command("approvals", permission=OPERATOR, help_section="approvals", audited=False, effects=False)
async def approvals(ctx: Context[ApprovalServices]) -> Reply:
    """List the permission requests that wait for an answer."""
    from bot.approvals.service import listing

    return await listing(ctx)


@command("approvals rule add", permission=ADMIN, help_section="approvals")
async def approvals_rule_add(
    ctx: Context[ApprovalServices],
    effect: Literal["allow", "ask", "deny"],
    command: str | None = None,
    *,
    prefix: bool = False,
    kind: Literal["read", "edit", "execute", "fetch", "mcp"] | None = None,
    path: str | None = None,
    tool: str | None = None,
    host: str | None = None,
    sandboxed: bool = False,
    scope: str = "fleet",
    for_: Duration | None = None,
) -> Reply:
    """Add a rule that answers permission requests without asking anybody.

    Of the rules that match a request, deny wins over ask, and ask over allow, whatever their scopes. Running agents are
    told at once.

    Args:
        effect: what happens with such requests.
        command: the shell command, in quotes. It matches exactly, but for --prefix.
        prefix: match every command that begins with these words.
        kind: the kind of requests. Default: execute with a command, mcp with --tool, fetch with --host.
        path: with --kind read or edit, the files in the workspace, such as docs/**.
        tool: the tool of an MCP server, as SERVER/TOOL or SERVER/*.
        host: the host of a fetch, or *.DOMAIN.
        sandboxed: only for agents in a sandbox. Builds and tests, such as make, take a prefix only with this.
        scope: fleet, role:NAME, agent:NAME or workspace:PATH. Default: fleet.
        for_: for how long, such as 30m. Default: until it is removed.
    """
    from bot.approvals.rule_commands import RuleArguments, add

    asked = RuleArguments(
        effect=effect,
        command=command,
        prefix=prefix,
        kind=kind,
        path=path,
        tool=tool,
        host=host,
        sandboxed=sandboxed,
        scope=scope,
    )
    return await add(ctx, asked, for_)


@command("approvals rule list", permission=OPERATOR, help_section="approvals", audited=False, effects=False)
async def approvals_rule_list(ctx: Context[ApprovalServices], name: AgentName | None = None) -> Reply:
    """List the approval rules of muster.yaml and those added by command.

    Args:
        name: only the rules that hold for this agent, its preset's included.
    """
    from bot.approvals.rule_commands import listing

    return await listing(ctx, name)


@command("approvals rule remove", permission=ADMIN, help_section="approvals")
async def approvals_rule_remove(ctx: Context[ApprovalServices], id: RuleId) -> Reply:
    """Remove an approval rule that was added by command. Running agents are told at once.

    Args:
        id: the rule's id, from `approvals rule list`.
    """
    from bot.approvals.rule_commands import remove

    return await remove(ctx, id)


@command("approvals rule test", permission=OPERATOR, help_section="approvals", audited=False, effects=False)
async def approvals_rule_test(
    ctx: Context[ApprovalServices],
    command: str | None = None,
    *,
    kind: Literal["read", "edit", "fetch", "mcp"] | None = None,
    path: str | None = None,
    tool: str | None = None,
    url: str | None = None,
    name: AgentName | None = None,
) -> Reply:
    """Show what the rules say of a request, with the rule and the reason, for each agent. Nothing is run.

    Args:
        command: the shell command, in quotes.
        kind: the kind of request, if it is no command.
        path: the file that would be read or edited, relative to the workspace.
        tool: the tool of an MCP server, as SERVER/TOOL.
        url: the address that would be fetched.
        name: only for this agent.
    """
    from bot.approvals.rule_commands import test

    return await test(ctx, command=command, kind=kind, path=path, tool=tool, url=url, name=name)


@command("approvals stats", permission=OPERATOR, help_section="approvals", audited=False, effects=False)
async def approvals_stats(ctx: Context[ApprovalServices], *, since: Duration | None = None) -> Reply:
    """Show what was asked most, and the rules that would answer it.

    Args:
        since: how far back to look, such as 30d. Default: 7d.
    """
    from bot.approvals.asked_most import show

    return await show(ctx, since)


@command("approve", permission=OPERATOR, help_section="approvals")
async def approve(
    ctx: Context[ApprovalServices],
    id: ApprovalId,
    *,
    always: bool = False,
    prefix: bool = False,
    for_: Duration | None = None,
    all: bool = False,
) -> Reply:
    """Allow a permission request.

    Args:
        id: the request's id, from its message.
        always: allow exactly the same request of this agent from now on, until `grant revoke`.
        prefix: add a rule that allows this agent's commands with the same first words (admins only).
        for_: add a rule that allows this agent all requests of this kind for so long, such as 30m (admins only).
        all: allow once the other requests, too, that the request's message lists.
    """
    from bot.approvals.choices import WHILE_S
    from bot.approvals.service import answer_by_command
    from bot.text.errors import UsageError

    chosen: dict[ChoiceName, bool] = {"always": always, "prefix": prefix, "while": for_ is not None, "all": all}
    names = [name for name, given in chosen.items() if given]
    if len(names) > 1:
        raise UsageError("Give one of --always, --prefix, --for and --all. Nothing was answered.")
    return await answer_by_command(ctx, id, names[0] if names else "allow", for_s=WHILE_S if for_ is None else for_)


@command("deny", permission=OPERATOR, help_section="approvals")
async def deny(ctx: Context[ApprovalServices], id: ApprovalId) -> Reply:
    """Deny a permission request.

    Args:
        id: the request's id, from its message.
    """
    from bot.approvals.service import answer_by_command

    return await answer_by_command(ctx, id, "deny")


@command("questions", permission=OPERATOR, help_section="approvals", audited=False, effects=False)
async def questions(ctx: Context[ApprovalServices]) -> Reply:
    """List the questions about agents and tasks that wait for an answer."""
    from bot.approvals.question_commands import listing

    return await listing(ctx)


@command("answer", permission=OPERATOR, help_section="approvals")
async def answer(ctx: Context[ApprovalServices], id: QuestionId, word: str) -> Reply:
    """Answer a question about an agent or a task.

    Args:
        id: the question's id, or the beginning of it.
        word: one of the answers in its message.
    """
    from bot.approvals.question_commands import answer_by_command

    return await answer_by_command(ctx, id, word)


@command("grants", permission=OPERATOR, help_section="approvals", audited=False, effects=False)
async def grants(ctx: Context[ApprovalServices]) -> Reply:
    """List the grants: what operators always allow."""
    from bot.approvals.service import list_grants

    return await list_grants(ctx)


@command("grant revoke", permission=OPERATOR, help_section="approvals")
async def grant_revoke(ctx: Context[ApprovalServices], id: GrantId) -> Reply:
    """Revoke what is always allowed. The next such request asks again.

    Args:
        id: the grant's id, from `grants`.
    """
    from bot.approvals.service import revoke_grant

    return await revoke_grant(ctx, id)
