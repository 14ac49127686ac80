"""Answers to permission requests.

An answer is first written to the register. The agent's supervisor delivers it to the agent host, which alone decides
whether it arrives in time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals import agent_rules, rule_rows, rule_text, waiting_loader
from bot.approvals.choices import ADDING, WHILE_S, ApprovalChoice, ChoiceName, choices_of, offered
from bot.approvals.services import ApprovalServices
from bot.auth.permission import ADMIN, OPERATOR, Permission
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.read_models import codec
from bot.text import markdown
from bot.text.errors import UsageError, UserError
from database.queries.agents import last_results
from database.queries.chat import approvals
from database.queries.chat.approvals import Approval
from fleet.approval_rules.rules import ApprovalRule
from fleet.errors import AgentRefused

#: The agent host's error code when it cannot hold more grants (docs/reference/control-protocol.md).
TOO_MANY_GRANTS: Final = "too_many_grants"


async def answer(
    tx: AsyncConnection,
    approval: Approval,
    choice: ChoiceName,
    *,
    by: str,
    through: str | None,
    source: str,
    now: float,
    redact: Callable[[str], str],
    permission: Permission = OPERATOR,
    for_s: float = WHILE_S,
) -> str:
    """Record an answer if the request still waits for one. The first answer counts.

    Args:
        by: the identity that answers; the caller has checked its permission.
        through: the group that grants the permission, or None if it is the person's own.
        source: the origin of the answer (a command run or a chat event); repeating it changes nothing.
        redact: masks secrets in the request.
        permission: the permission of `by`.
        for_s: seconds until the end of a rule that allows a kind of request for a while.

    Returns:
        A sentence that says what was done.

    Raises:
        UserError: the request cannot have this answer.
    """
    if approval.state != "pending":
        return _answered(approval, source)
    choices = choices_of(approval)
    chosen = next((offer for offer in choices if offer.name == choice), None)
    if chosen is None:
        allowed = ", ".join(offer.name for offer in choices)
        raise UserError(
            f"Request `{approval.id}` cannot be answered with {choice!r}; its runtime offers {allowed}.",
            code="approval.invalid_answer",
        )
    if choice in ADDING and permission < ADMIN:
        raise UserError(
            f"Request `{approval.id}` still waits: only admins add rules, and you are {permission}. Allow it once "
            "instead.",
            code="approval.admins_only",
        )
    rule = await _rule_to_add(tx, approval, chosen, source=source, now=now, for_s=for_s)
    taken = await approvals.change(
        tx,
        approval.id,
        only=["pending"],
        state="answering",
        answer={
            "option": chosen.option,
            "always": choice == "always",
            "by": by,
            "through": through,
            "source": source,
            "choice": choice,
            **({} if rule is None else {"rule": rule.id}),
        },
        answered_at=now,
    )
    if not taken:
        # Another answer was recorded since this request was read.
        return _answered(await approvals.get(tx, approval.id) or approval, source)
    await last_results.note(tx, approval.agent, "answer", now)
    if rule is not None:
        await rule_rows.keep(tx, rule, by=by, now=now)
        what = rule_text.subject(rule, redact)
        undo = command_line(f"approvals rule remove {rule.id}")
        ends = "" if rule.until is None else f" for {markdown.span(rule.until - now)}"
        return f"Allowed once, and rule `{rule.id}` allows {approval.agent}{ends}: {what}. {undo} ends that."
    if choice == "all":
        return await _answer_all(tx, approval, by=by, through=through, source=source, now=now)
    verb = {"allow": "Allowed once", "always": "Always allowed", "deny": "Denied"}[choice]
    return f"{verb}: {approval.agent}, {markdown.code(markdown.gist(approval.title, redact, 120))}."


async def _rule_to_add(
    tx: AsyncConnection, approval: Approval, chosen: ApprovalChoice, *, source: str, now: float, for_s: float
) -> ApprovalRule | None:
    """Return the rule that a choice adds for the agent, or None.

    Raises:
        UserError: there are too many rules.
    """
    if chosen.rule is None:
        return None
    await rule_rows.check_room(tx, now)
    until = now + for_s if chosen.name == "while" else None
    id_ = rule_rows.rule_id(f"{approval.id}/{source}")
    return replace(chosen.rule, id=id_, scope=f"agent:{approval.agent}", until=until)


async def _answer_all(
    tx: AsyncConnection, approval: Approval, *, by: str, through: str | None, source: str, now: float
) -> str:
    """Allow once what the request's message lists besides it and still waits, and return what was done."""
    count = 1
    for listed in approval.together or ():
        other = await approvals.get(tx, listed)
        once = None if other is None else next((c for c in offered(other.options) if c.name == "allow"), None)
        if other is None or once is None or other.agent != approval.agent:
            continue
        given = {"option": once.option, "always": False, "by": by, "through": through, "source": source}
        count += await approvals.change(
            tx, other.id, only=["pending"], state="answering", answer={**given, "choice": "allow"}, answered_at=now
        )
    return f"Allowed once: {count} {'request' if count == 1 else 'requests'} of {approval.agent}."


def _answered(approval: Approval, source: str) -> str:
    """Return the reply to an answer that repeats the recorded one.

    Raises:
        UserError: the recorded answer has another source.
    """
    if approval.answer is not None and approval.answer.get("source") == source:
        return f"The answer to `{approval.id}` goes to {approval.agent}."
    raise UserError(f"Request `{approval.id}` of {approval.agent} is over: {_outcome(approval)}.", code="approval.over")


def _outcome(approval: Approval) -> str:
    by = (approval.answer or {}).get("by")
    return approval.outcome or (f"{markdown.one_line(str(by))} answered it" if by else "it was answered")


def fallback(approval: Approval, code: str) -> dict[str, Any] | None:
    """Return the answer to send after the agent host refused one, so that it does not wait in vain.

    Args:
        approval: the request, with the refused answer.
        code: the control protocol's error code.

    Returns:
        An answer that allows no more than the refused one, or None if the request is over or accepts no answer.
    """
    answer = dict(approval.answer or {})
    if code == "too_late" or answer.get("option") is None:
        return None
    once = next((offer for offer in offered(approval.options) if offer.name == "allow"), None)
    if code == TOO_MANY_GRANTS and answer.get("always") and once is not None:
        return answer | {"option": once.option, "always": False, "choice": "allow"}
    return answer | {"option": None, "always": False, "choice": "deny", "by": "muster"}


def fallen_back(approval: Approval, instead: Mapping[str, Any], refusal: AgentRefused) -> str:
    """Return a sentence for the operator: the effect of the replacement answer, and what to do."""
    ways = f" {command_line('grants')} lists them, {command_line('grant revoke ID')} revokes one."
    way = ways if refusal.refusal == TOO_MANY_GRANTS else ""
    became = "allowed once, not for always" if instead.get("choice") == "allow" else "denied instead"
    return f"⚠️ Request `{approval.id}` is {became}: {refusal}{way}"


async def _find(tx: AsyncConnection, approval_id: str) -> Approval:
    approval = await approvals.get(tx, approval_id.strip("`").casefold())
    if approval is None:
        waiting = [f"`{other.id}`" for other in await approvals.in_states(tx, ["pending"])]
        open_now = f"Waiting: {', '.join(waiting)}." if waiting else "Nothing waits for an answer."
        raise UserError(
            f"No permission request has the id {markdown.one_line(approval_id)!r}. {open_now}", code="approval.unknown"
        )
    return approval


async def answer_by_command(
    ctx: Context[ApprovalServices], approval_id: str, choice: ChoiceName, *, for_s: float = WHILE_S
) -> Reply:
    if not rule_rows.SHORTEST_S <= for_s <= rule_rows.LONGEST_S:
        raise UsageError("A rule that ends lasts one minute up to 31 days. Nothing was answered.")

    async def act(tx: AsyncConnection) -> dict[str, str]:
        approval = await _find(tx, approval_id)
        now = ctx.services.clock()
        text = await answer(
            tx,
            approval,
            choice,
            by=ctx.identity,
            through=ctx.through,
            source=ctx.run_id,
            now=now,
            redact=ctx.services.redact,
            permission=ctx.permission,
            for_s=for_s,
        )
        return {"agent": approval.agent, "id": approval.id, "text": text}

    done = await ctx.commit("answer", act)
    ctx.services.agents.bring_mail(done["agent"])
    if choice in ADDING:
        ctx.services.agents.rules_changed()
    return Reply(done["text"], {"id": done["id"], "state": "answering"})


async def listing(ctx: Context[ApprovalServices]) -> Reply:
    services = ctx.services
    now = services.clock()
    waiting = codec.masked(await waiting_loader.load(services), services.redact).requests
    data = [
        {
            "id": request.id,
            "agent": request.agent,
            "title": request.title,
            "detail": request.detail,
            "options": [{"name": choice.word, "label": choice.label} for choice in request.choices],
            "state": request.state,
            "asked_at": services.timestamp(request.asked_at),
            "expires_at": services.timestamp(request.expires_at),
        }
        for request in waiting
    ]
    added = len(await agent_rules.added_rules(services))
    written = sum(len(list(block.rules.rules("fleet"))) for block in services.settings.approvals.scopes().values())
    rules = f"{added + written} approval rules: {command_line('approvals rule list')}."
    if not waiting:
        return Reply(f"Nothing waits for an answer. {rules}", data)
    lines = [
        f"`{request.id}` **{request.agent}** {markdown.code(markdown.gist(request.title, str, 100))}, "
        f"denied in {markdown.span(request.expires_at - now)}\n\n{markdown.code_block(request.detail)}"
        for request in waiting
    ]
    return Reply("\n\n".join([*lines, rules]), data)


async def list_grants(ctx: Context[ApprovalServices]) -> Reply:
    async with ctx.services.store.read() as tx:
        standing = await approvals.list_grants(tx)
    data = [
        {
            "id": grant.id,
            "agent": grant.agent,
            "title": ctx.services.redact(grant.title),
            "detail": ctx.services.redact(grant.detail),
            "granted_by": grant.granted_by,
            "granted_at": ctx.services.timestamp(grant.granted_at),
        }
        for grant in standing
    ]
    if not standing:
        return Reply("Nothing is always allowed.", data)
    lines = []
    for grant in standing:
        allowed = markdown.code(markdown.gist(grant.detail, ctx.services.redact, 200))
        lines.append(f"- `{grant.id}` **{grant.agent}**, by {grant.granted_by}: {allowed}")
    return Reply(ctx.services.redact("\n".join(lines)), data)


async def revoke_grant(ctx: Context[ApprovalServices], grant_id: str) -> Reply:
    async def act(tx: AsyncConnection) -> str:
        grant = await approvals.get_grant(tx, grant_id.strip("`").casefold())
        if grant is None:
            listed = f"{command_line('grants')} lists them"
            raise UserError(f"No grant has the id {markdown.one_line(grant_id)!r}; {listed}.", code="grant.unknown")
        if grant.revoked_at is None:
            now = ctx.services.clock()
            await approvals.change_grant(tx, grant.id, revoked_by=ctx.identity, revoked_at=now, held=False)
        return grant.agent

    agent = await ctx.commit("revoke", act)
    ctx.services.agents.bring_mail(agent)
    return Reply(f"Taken back: {agent} will ask again.", {"id": grant_id, "state": "revoked"})
