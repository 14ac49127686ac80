"""Implementation of the command `queue`: what waits for an agent, in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.services import AgentServices
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.text import markdown
from bot.text.errors import UsageError, UserError
from database.queries import tasks
from database.queries.agents import agent_messages
from database.queries.agents.agent_messages import AgentMessage
from database.queries.agents.agents import AgentRow
from fleet.errors import AgentRefused, AgentUnreachable

#: Number of characters of an id that people see and type, and of a message for people and for programs.
_SHORT = 8
_GIST = 80
_LONGEST = 4_000
#: Messages that a message lists.
_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingMessages:
    """What waits for an agent, in the order in which it reads it."""

    messages: Sequence[AgentMessage]
    answers: bool
    """Whether the agent host told the order; otherwise it is that in which the messages were written."""


async def show_queue(ctx: Context[AgentServices], name: str, *, first: str | None, remove: str | None) -> Reply:
    """Show what waits for an agent, or change it."""
    if first is not None and remove is not None:
        raise UsageError("--first and --remove: give one of them.")
    row = await ctx.services.agents.get(name)
    ctx.services.agents.make_sure_it_is_ours(row)
    if first is not None:
        return await _put_first(ctx, row, first)
    if remove is not None:
        return await _remove(ctx, row, remove)
    waiting = await _waiting(ctx.services, row)
    now, redact = ctx.services.clock(), ctx.services.redact
    return Reply(queue_text(name, waiting, now, redact), queue_as_json(name, waiting, ctx.services.timestamp, redact))


async def _waiting(services: AgentServices, row: AgentRow) -> WaitingMessages:
    async with services.store.read() as tx:
        known = await agent_messages.in_states(tx, ["journaled", "pending"], agent=row.name)
    link = services.agents.link(row.name)
    try:
        order = await link.queue() if link is not None else None
    except (AgentRefused, AgentUnreachable):
        order = None
    return WaitingMessages(messages=in_order(known, order), answers=order is not None)


def in_order(known: Sequence[AgentMessage], order: Sequence[str] | None) -> list[AgentMessage]:
    """Return the messages that wait, in the order of their turns.

    Args:
        known: the messages in the register that may wait, in the order in which they were written.
        order: the ids in the queue of the agent host; None: it did not answer.
    """
    if order is None:
        return [each for state in ("journaled", "pending") for each in known if each.state == state]
    place = {id_: at for at, id_ in enumerate(order)}
    there = sorted((each for each in known if each.id in place), key=lambda each: place[each.id])
    # One that the agent host has, and that waits no more, has begun.
    return [*there, *(each for each in known if each.id not in place and each.state == "pending")]


async def _put_first(ctx: Context[AgentServices], row: AgentRow, wanted: str) -> Reply:
    services, name = ctx.services, row.name
    waiting = await _waiting(services, row)
    message = _meant(name, waiting, wanted)

    async def act() -> bool:
        link = services.agents.link(name)
        if link is None:
            raise UserError(
                f"{name} does not run, so its order cannot be changed. It reads what waits when it runs again. Nothing "
                "was changed.",
                code="agent.not_running",
            )
        try:
            return await link.put_first(message.id)
        except AgentRefused as refusal:
            if refusal.refusal != "unknown_method":
                raise
            again = command_line(f"restart {name}")
            raise UserError(
                f"{name} runs in an agent host of an earlier version, which cannot change the order. {again} updates "
                "it. Nothing was changed.",
                code="agent.outdated",
            ) from None

    if not await ctx.once("first", act):
        raise UserError(
            f"{markdown.code(message.id[:_SHORT])} does not wait at {name}: its turn has begun, or it has not arrived "
            "yet. Nothing was changed.",
            code="message.not_waiting",
        )
    text = f"{name} reads {markdown.code(message.id[:_SHORT])} next: {_gist(message, services.redact)}"
    return Reply(text, {"agent": name, "first": message.id})


async def _remove(ctx: Context[AgentServices], row: AgentRow, wanted: str) -> Reply:
    services, name = ctx.services, row.name

    async def found() -> str:
        return _meant(name, await _waiting(services, row), wanted).id

    message_id = await ctx.once("meant", found)

    async def act(tx: AsyncConnection) -> str | None:
        message = await agent_messages.get(tx, message_id)
        if message is None or not await services.agents.withdraw(tx, message):
            return None
        held = await tasks.by_message(tx, message.id)
        if held is not None:
            await services.task_steps.cancel(tx, held, by=ctx.identity)
        return _gist(message, services.redact)

    gist = await ctx.commit("remove", act)
    short = markdown.code(message_id[:_SHORT])
    if gist is None:
        raise UserError(f"{short} does not wait at {name} any more. Nothing was changed.", code="message.not_waiting")
    services.agents.bring_mail(name)
    return Reply(f"{name} does not read {short}: {gist}", {"agent": name, "removed": message_id})


def _meant(agent: str, waiting: WaitingMessages, wanted: str) -> AgentMessage:
    """Return the message that waits whose id begins so.

    Raises:
        UserError: there is none, or more than one.
    """
    wanted = wanted.strip("`")
    found = [each for each in waiting.messages if wanted and each.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    shown = markdown.one_line(wanted, 40)
    if found:
        some = ", ".join(markdown.code(each.id) for each in found[:5])
        raise UserError(
            f"{len(found)} messages that wait for {agent} begin with {shown!r}: {some}. Give more of the id; nothing "
            "was changed.",
            code="message.ambiguous",
        )
    raise UserError(
        f"No message {shown!r} waits for {agent}. {command_line(f'queue {agent}')} lists those that do.",
        code="message.unknown",
    )


# --- words and data ------------------------------------------------------------------------------------------------


def queue_text(agent: str, waiting: WaitingMessages, now: float, redact: Callable[[str], str]) -> str:
    """Return what waits for an agent, the next first."""
    if not waiting.messages:
        return f"Nothing waits for {agent}."
    rows = [
        [markdown.code(each.id[:_SHORT]), _author(each), markdown.span(now - each.created_at), _gist(each, redact)]
        for each in waiting.messages[:_LISTED]
    ]
    count = len(waiting.messages)
    first = f"{'1 message waits' if count == 1 else f'{count} messages wait'} for {agent}."
    if not waiting.answers:
        first += " It does not answer, so the order is that in which they were written."
    more = f"\n\nand {count - _LISTED} more." if count > _LISTED else ""
    put, take = command_line(f"queue {agent} --first ID"), command_line(f"queue {agent} --remove ID")
    table = markdown.table(["ID", "From", "Waits", "Message"], rows)
    return f"{first}\n\n{table}{more}\n\n{put} lets it read one next; {take} takes one back."


def queue_as_json(
    agent: str, waiting: WaitingMessages, timestamp: Callable[[float | None], str | None], redact: Callable[[str], str]
) -> dict[str, Any]:
    """Return what waits for an agent, for programs."""
    return {
        "agent": agent,
        "answers": waiting.answers,
        "waiting": [
            {
                "id": each.id,
                "from": each.sender,
                "mode": each.mode,
                "at_agent": each.state == "journaled",
                "at": timestamp(each.created_at),
                "text": redact(each.text)[:_LONGEST],
                "pictures": len(each.attachments),
            }
            for each in waiting.messages
        ],
    }


def _author(message: AgentMessage) -> str:
    return markdown.code(markdown.one_line(message.sender.removeprefix(f"{message.connector}:"), 40))


def _gist(message: AgentMessage, redact: Callable[[str], str]) -> str:
    return markdown.code(markdown.gist(message.text, redact, _GIST) or "(pictures)")
