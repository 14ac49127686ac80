"""The commands `questions` and `answer`."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals import waiting_loader
from bot.approvals.services import ApprovalServices
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.text import markdown
from bot.text.errors import UserError
from database.queries.chat import questions
from database.queries.chat.questions import Question


async def answer_by_command(ctx: Context[ApprovalServices], question_id: str, word: str) -> Reply:
    services = ctx.services

    async def act(tx: AsyncConnection) -> dict[str, str]:
        question = await _find(tx, question_id)
        needs = services.questions.needs(question, word.strip("`").casefold())
        if ctx.permission < needs:
            raise UserError(f"This answer takes an {needs}; you are {ctx.permission}.", code="permission.denied")
        text = await services.questions.answer(
            tx, question, word.strip("`").casefold(), by=ctx.identity, through=ctx.through
        )
        return {"id": question.id, "agent": question.agent, "text": text}

    done = await ctx.commit("answer", act)
    async with services.store.read() as tx:
        question = await questions.get(tx, done["id"])
    if question is not None and question.answer is not None:
        await services.questions.after(question, question.answer)
    return Reply(done["text"], {"id": done["id"], "agent": done["agent"], "state": "answered"})


async def _find(tx: AsyncConnection, question_id: str) -> Question:
    found = await questions.begins(tx, question_id.strip("`").casefold())
    waiting = [question for question in found if question.state == "pending"]
    if len(waiting) == 1 or len(found) == 1:
        return (waiting or found)[0]
    if found:
        raise UserError(
            f"{markdown.one_line(question_id, 40)!r} begins the ids of several questions; write more of it.",
            code="question.ambiguous",
        )
    open_now = [f"`{question.id}`" for question in await questions.pending(tx)]
    listed = f"Waiting: {', '.join(open_now)}." if open_now else "Nothing waits for an answer."
    raise UserError(f"No question has the id {markdown.one_line(question_id, 40)!r}. {listed}", code="question.unknown")


async def listing(ctx: Context[ApprovalServices]) -> Reply:
    waiting = (await waiting_loader.load(ctx.services)).questions
    now = ctx.services.clock()
    data = [
        {
            "id": question.id,
            "kind": question.kind,
            "agent": question.agent or "",
            "task": question.task,
            "choices": [{"mark": each.mark, "word": each.word, "label": each.label} for each in question.choices],
            "asked_at": ctx.services.timestamp(question.asked_at),
        }
        for question in waiting
    ]
    if not waiting:
        return Reply("No question waits for an answer.", data)
    lines = [
        f"- `{question.id}` **{question.agent or question.task or ''}** ({question.kind}), asked "
        f"{markdown.span(now - question.asked_at)} ago: {' | '.join(each.word for each in question.choices)}"
        for question in waiting
    ]
    return Reply("\n".join(lines), data)
