"""Commands of the section *approvals*: permission requests, questions and grants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import OPERATOR
from bot.commands.argument_types import ApprovalId, GrantId, QuestionId
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.approvals.services import ApprovalServices
    from bot.commands.context import Context


@command("approvals", permission=OPERATOR, help_section="approvals", audited=False, effects=False)
async def approvals(ctx: Context[ApprovalServices]) -> Reply:
    """List the permission requests that wait for an answer."""
    from bot.approvals.service import listing

    return await listing(ctx)


@command("approve", permission=OPERATOR, help_section="approvals")
async def approve(ctx: Context[ApprovalServices], id: ApprovalId, *, always: bool = False) -> Reply:
    """Allow a permission request.

    Args:
        id: the request's id, from its message.
        always: allow exactly the same request of this agent from now on, until `grant revoke`.
    """
    from bot.approvals.service import answer_by_command

    return await answer_by_command(ctx, id, "always" if always else "allow")


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
