"""Messages to agents: sending them by command, listing undelivered ones, and sending those again."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents import not_started
from bot.agents.services import AgentServices
from bot.auth.permissions import is_person
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.tasks import deferred_turns
from bot.tasks.deferred_turns import TurnHold
from bot.text import markdown
from bot.text.errors import UserError
from budget.windows.interactive_turns import Begins
from connectors.contract.messages import File, Message, OpenThread, OutboundContent, React, Replace, Retitle
from connectors.delivery import outbox
from database.queries import tasks
from database.queries.agents import agent_messages
from database.queries.agents.agent_messages import AgentMessage
from database.queries.task_states import OPEN
from fleet.control.task_attempt_ids import task_of

#: Number of characters of an id that people see and type.
SHORT = 8
#: Maximum number of ids listed if several match.
_LISTED = 5


async def post(ctx: Context[AgentServices], name: str, text: str, *, mode: Literal["queue", "steer"]) -> Reply:
    """Send a message for `send` or `steer`. The agent's answer appears in its thread."""
    agents = ctx.services.agents
    row = await not_started.get(ctx.services, name)
    origin = ctx.origin
    whence: dict[str, Any] = {
        "connector": origin.connector if origin is not None else None,
        "conversation": origin.conversation if origin is not None else None,
        "event_id": origin.event_id if origin is not None else None,
    }
    if is_person(ctx.identity):
        await ctx.services.runaway.spoken_to(name, ctx.identity, ctx.through)
    # A message that interrupts a turn replaces work instead of adding some, so it is never held back.
    found = await deferred_turns.look(ctx.services, row, ctx.identity) if mode == "queue" else Begins()
    hold = found if isinstance(found, TurnHold) else None

    async def act(tx: AsyncConnection) -> dict[str, str | None]:
        if hold is not None:
            task = await deferred_turns.add(
                tx, ctx.services, row, hold, text, cause=ctx.run_id, by=ctx.identity, answer_in=None, **whence
            )
            told = deferred_turns.told(ctx.services, row, task, hold)
            await deferred_turns.offer(tx, ctx.services, row, task, told)
            return {"id": task.id, "state": "queued", "told": told, "ahead": None}
        ahead = await deferred_turns.note_ahead(tx, ctx.services, row, found, ctx.identity)
        message = await agents.send(tx, row, text, message_id=ctx.run_id, by=ctx.identity, mode=mode, **whence)
        return {"id": ctx.run_id, "state": message.state, "told": None, "ahead": ahead}

    done = await ctx.commit("words", act)
    if done["told"] is not None:
        ctx.services.dispatcher.wake()
        return Reply(done["told"], {"id": done["id"], "state": done["state"]})
    state = done["state"]
    agents.bring_mail(name)
    if row.wanted == "frozen":
        back = command_line(f"resume {name}")
        note = f"{name} is frozen; this waits until {back} brings it back."
    elif row.wanted == "stopped":
        note = f"{name} is stopped; it will read this when it runs again ({command_line(f'launch {name}')})."
    elif agents.is_ours(row) and row.state == "failed":
        why = markdown.one_line(row.detail or "its runtime ended", 300).rstrip(".")
        note = f"{name} is down: {why}. It reads this when it runs again ({command_line(f'restart {name}')})."
    elif not agents.is_ours(row):
        note = f"{name} is on {markdown.one_line(row.host)}, whose Muster does not lead now; this waits until it does."
    elif mode == "steer":
        note = f"{name} is interrupted and reads this first."
    else:
        note = f"Queued for {name}."
    if done["ahead"] is not None:
        note += f" {done['ahead']}"
    return Reply(note, {"id": ctx.run_id, "state": state})


async def stranded(ctx: Context[AgentServices]) -> Reply:
    """List the undelivered messages to agents and to chat."""
    async with ctx.services.store.read() as tx:
        inward = await agent_messages.stranded(tx)
        outward = await outbox.dead_letters(tx)
    redact = ctx.services.redact
    data = [
        {
            "id": message.id,
            "direction": "agent",
            "to": message.agent,
            "state": message.state,
            "reason": message.detail,
            "text": redact(message.text),
            "at": ctx.services.timestamp(message.updated_at),
        }
        for message in inward
    ] + [
        {
            "id": row.key,
            "direction": "chat",
            "to": row.outbound.connector,
            "state": "dead",
            "reason": row.detail,
            "text": markdown.gist(_gist(row.outbound.content), redact, 200),
            "at": ctx.services.timestamp(row.created_at),
        }
        for row in outward
    ]
    if not data:
        return Reply("Everything was delivered.", data)
    lines = [
        f"- `{message.id[:SHORT]}` to **{message.agent}**, {message.state}: {markdown.gist(message.text, redact, 60)}"
        + (f" ({markdown.gist(message.detail, redact, 120)})" if message.detail else "")
        for message in inward
    ] + [
        f"- `{row.key}` to {row.outbound.connector}, dead: {markdown.gist(_gist(row.outbound.content), redact, 60)}"
        f" ({markdown.gist(row.detail or '', redact, 120)})"
        for row in outward
    ]
    return Reply(redact("\n".join([*lines, "", f"{command_line('retry ID')} sends one again."])), data)


def _gist(content: OutboundContent) -> str:
    match content:
        case Message(text=text) | OpenThread(message=Message(text=text)) | Replace(message=Message(text=text)):
            return text
        case React(key=mark):
            return f"the reaction {mark}"
        case File(name=name):
            return f"the file {name}"
        case Retitle(title=title):
            return f"the thread's name {title}"


async def send_again(ctx: Context[AgentServices], wanted: str) -> Reply:
    """Send an undelivered message again.

    A dead letter keeps its id, so that it stays one message even if the agent host has it after all. An uncertain
    message, or one from a failed turn, stays with the agent host under its id forever. Repeating it is the operator's
    choice, and gets a new id.
    """
    wanted = wanted.strip("`")

    async def act(tx: AsyncConnection) -> dict[str, str]:
        message = await _find(tx, wanted)
        if isinstance(message, str):
            said = await outbox.retry(tx, message, ctx.services.clock())
            return {"id": said or message, "meant": message, "to": "chat", "agent": ""}
        await _check_task(tx, message)
        row = await ctx.services.agents.get(message.agent)
        now = ctx.services.clock()
        give_up_at = now + ctx.services.agents.give_up_after
        if await agent_messages.revive(tx, message.id, now=now, give_up_at=give_up_at):
            return {"id": message.id, "to": message.agent, "agent": message.agent}
        again = await ctx.services.agents.send(
            tx,
            row,
            message.text,
            message_id=f"{ctx.run_id}-again",
            by=ctx.identity,
            attachments=message.attachments,
            connector=message.connector,
            conversation=message.conversation,
            event_id=message.event_id,
            answer_in=message.answer_in,
        )
        await agent_messages.change(tx, message.id, now=now, state="retried", detail=f"sent again as {again.id}")
        return {"id": again.id, "to": message.agent, "agent": message.agent}

    done = await ctx.commit("retry", act)
    if done["agent"]:
        ctx.services.agents.bring_mail(done["agent"])
    else:
        ctx.services.delivery.wake()
    if not done["agent"] and done["id"] != done["meant"]:
        text = f"A newer text of that message, {markdown.code(done['id'])}, is sent in its place; this one is not sent."
        return Reply(text, {"id": done["id"], "state": "superseded"})
    return Reply(f"Sent again to {done['to']}.", {"id": done["id"], "state": "pending"})


async def _check_task(tx: AsyncConnection, message: AgentMessage) -> None:
    """Refuse to resend the message of an unfinished task; the task's next attempt does that.

    Raises:
        UserError: the message belongs to an unfinished task.
    """
    carried = task_of(message.id)
    task = None if carried is None else await tasks.get(tx, carried)
    if task is not None and task.state in OPEN:
        cancel = command_line(f"task cancel {task.id}")
        raise UserError(
            f"This carries task `{task.id}`, which is {task.state} and goes on by itself; {cancel} ends it.",
            code="task.open",
        )


async def _find(tx: AsyncConnection, wanted: str) -> AgentMessage | str:
    """Find an undelivered message by its id, or by a unique prefix of it.

    Returns:
        A message to an agent, or the key of one to chat.

    Raises:
        UserError: no message matches, or several do.
    """
    inward = {message.id: message for message in await agent_messages.stranded(tx, begins=wanted)}
    outward = [row.key for row in await outbox.dead_letters(tx) if row.key.startswith(wanted)]
    exact = await outbox.get(tx, wanted)
    if exact is not None and exact.state == "dead":
        return wanted
    if wanted in inward:
        return inward[wanted]
    if wanted and len(inward) + len(outward) == 1:
        return next(iter(inward.values()), None) or outward[0]
    if inward or outward:
        some = ", ".join(markdown.code(each) for each in [*inward, *outward][:_LISTED])
        raise UserError(
            f"{len(inward) + len(outward)} dead letters begin with {markdown.one_line(wanted)!r}: {some}. Give more "
            "of the id; nothing was sent.",
            code="message.ambiguous",
        )
    listed = f"{command_line('dead-letters')} lists them"
    raise UserError(f"Unknown failed message {markdown.one_line(wanted)!r}; {listed}.", code="message.unknown")
