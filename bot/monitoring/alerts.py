"""The watchdog's findings as messages to operators: what is wrong, and the command that helps.

A finding about one agent goes to its thread, and one about a permission request goes next to the request. Findings
about many agents or the fleet go to the main room. Causes come from runtimes, so messages quote them as code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line, written
from bot.messaging import rooms
from bot.messaging.agent_channel import AgentChannel
from bot.messaging.bridge import copy_key
from bot.messaging.composer import MessagePlace
from bot.messaging.rooms import MainRoom
from bot.text import markdown
from connectors.contract.messages import Priority
from connectors.delivery import outbox
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.chat import approvals
from fleet.supervision.health_findings import HealthFinding
from scheduler.alert_policy import Again, Grown, News, Over, Told, is_fleet_wide

#: Maximum number of agents named in one message; of the others, only the number is given.
_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPoster:
    """The messages about findings (`scheduler.watchdog.FindingListener`)."""

    channel: AgentChannel
    main_room: MainRoom
    wake_delivery: Callable[[], None]
    publish: Callable[[Mapping[str, object]], None]

    async def tell(self, tx: AsyncConnection, piece: News) -> bool:
        """Put the message into the outbox. Return False if there is no room to send it to."""
        if isinstance(piece, Over) and not is_fleet_wide(piece.event) and await _is_told_otherwise(tx, piece):
            return True
        place = await self._place(tx, piece)
        if place is None:
            return False
        channel, now = self.channel, self.channel.clock()
        said = text(piece, now)
        for event, at in (*channel.bridge.spread(piece.event, place), *await self._copies(tx, piece)):
            can = channel.capabilities(at.connector)
            # The key of a copy ends like the key of its event, so that it can be found.
            key = event if isinstance(piece, Told) else piece.key + event.removeprefix(piece.event)
            if isinstance(piece, Grown) and can.edits and await outbox.get(tx, event) is not None:
                words = channel.redaction(written(said, channel.prefix))
                for outbound in channel.speaker.replace(
                    key, event, words, at, can, priority=Priority.REPLY, final=True
                ):
                    await outbox.put(tx, outbound, now)
            else:
                await channel.speak_there(tx, key, said, at)
        return True

    def told(self, piece: News) -> None:
        self.wake_delivery()
        event: dict[str, object] = {"type": "finding", "event": piece.event, "news": type(piece).__name__.lower()}
        if isinstance(piece, Over):
            self.publish({**event, "kind": piece.kind, "agents": [piece.agent]})
        else:
            names = [finding.agent for finding in piece.findings]
            command = command_for(piece.findings[0])
            self.publish({**event, "kind": piece.findings[0].kind, "agents": names, "command": command})

    async def _place(self, tx: AsyncConnection, piece: News) -> MessagePlace | None:
        if not is_fleet_wide(piece.event):
            name = piece.agent if isinstance(piece, Over) else piece.findings[0].agent
            row = await agents.get(tx, name)
            if row is not None:
                return await self._beside(tx, row, piece)
        return await self.fleet_room(tx)

    async def _copies(self, tx: AsyncConnection, piece: News) -> list[tuple[str, MessagePlace]]:
        """Return the keys and places of further messages about a permission request that is soon denied."""
        if not (isinstance(piece, Told) and piece.findings[0].kind == "expiring"):
            return []
        approval = await approvals.get(tx, piece.findings[0].subject)
        found = []
        for key in self.channel.bridge.keys(approval.outbox_key)[1:] if approval is not None else ():
            if (asked := await outbox.get(tx, key)) is not None:
                out = asked.outbound
                place = MessagePlace(out.connector, conversation=out.conversation, thread_of=out.thread_of)
                found.append((copy_key(piece.event, out.connector), place))
        return found

    async def fleet_room(self, tx: AsyncConnection) -> MessagePlace | None:
        """Return the room for fleet-wide messages, or None if there is none yet."""
        return await rooms.fleet_room(tx, self.main_room)

    async def _beside(self, tx: AsyncConnection, row: AgentRow, piece: News) -> MessagePlace:
        """Return the agent's thread or, for a permission request, the place of its message."""
        if isinstance(piece, Told) and piece.findings[0].kind == "expiring":
            approval = await approvals.get(tx, piece.findings[0].subject)
            question = await outbox.get(tx, approval.outbox_key) if approval is not None else None
            if question is not None:
                out = question.outbound
                return MessagePlace(out.connector, conversation=out.conversation, thread_of=out.thread_of)
        return MessagePlace(row.connector, thread_of=row.thread_key)


async def _is_told_otherwise(tx: AsyncConnection, piece: Over) -> bool:
    """Return whether the agent's thread reports the outcome anyway: the agent was stopped, failed or removed."""
    row = await agents.get(tx, piece.agent)
    return row is None or row.wanted != "running" or row.state in {"failed", "stopped"}


# --- message texts -----------------------------------------------------------------------------------------------


def command_for(finding: HealthFinding) -> str:
    """Return the command that helps, without the prefix."""
    name = finding.agent
    match finding.kind:
        case "silent" | "failed":
            return f"restart {name}"
        case "erring":
            return f"tail {name}"
        case "stalled" | "overdue":
            return f"cancel {name}"
        case "expiring":
            return f"approve {finding.subject}"
        case "stray" | "missing":
            return f"launch {name}"
        case "unrostered":
            return f"stop {name}"
        case "changed":
            return "roster apply"
        case "unreadable":
            return "roster"


def text(piece: News, now: float) -> str:
    """Return the message as Markdown with command lines (`bot.commands.syntax`)."""
    match piece:
        case Over():
            return _over(piece, now)
        case Told(findings=findings) | Grown(findings=findings) | Again(findings=findings):
            if is_fleet_wide(piece.event):
                return _of_many(findings, now)
            return _of_one(findings[0], now)


def _of_one(finding: HealthFinding, now: float) -> str:
    agent, subject = finding.agent, finding.subject
    name, command = f"**{agent}**", command_line(command_for(finding))
    match finding.kind:
        case "silent":
            return f"❓ {name} does not answer{_because(finding)}. {command} starts it again."
        case "failed":
            stop = command_line(f"stop {agent}")
            return f"🔴 {name} is down. {command} restarts it, {stop} keeps it down."
        case "stalled":
            steer = command_line(f"steer {agent} TEXT")
            return f"⏳ Nothing came from this turn of {name}{_for(finding, now)}. {command} ends it, {steer} asks."
        case "overdue":
            return f"⏹ Nothing came from this turn of {name}{_for(finding, now)}: Muster cancels it."
        case "expiring":
            deny = command_line(f"deny {subject}")
            return f"⌛ The request `{subject}` of {name} is denied unless somebody answers soon: {command}, or {deny}."
        case _:
            return _of_many([finding], now)


def _of_many(findings: Sequence[HealthFinding], now: float) -> str:
    first = findings[0]
    count, names = len(findings), _names(findings)
    who = f"**{count:,} agents**" if count > 1 else "**An agent**"
    do, are = ("do", "are") if count > 1 else ("does", "is")
    example = command_line(command_for(first))
    match first.kind:
        case "silent":
            return f"❓ {who} {do} not answer{_because(first)}. Affected: {names}. {example} starts one of them again."
        case "failed":
            tried = ""
            if any(finding.quiet for finding in findings):
                tried = " Muster tries each again by itself; their threads show the result."
            return (
                f"🔴 {who} {are} down{_for_one_reason(first)}. Affected: {names}.{tried} Once the cause "
                f"is fixed, {example} starts one of them again; `muster doctor` looks for causes."
            )
        case "erring":
            return (
                f"🟠 The turns of {who} fail{_for_one_reason(first)}. Affected: {names}. When several fail at once, it "
                f"is often their provider; {example} shows what one of them did last."
            )
        case "stalled":
            return (
                f"⏳ Nothing came{_for(first, now)} from the turns of {who}: {names}. When so many wait at once, it is "
                f"often their provider; {example} ends one of these turns."
            )
        case "overdue":
            return f"⏹ Nothing came{_for(first, now)} from the turns of {who}: {names}. Muster cancels them."
        case "stray":
            return (
                f"👻 Running on this machine, and unknown to the register: {names}. {example} takes one over and "
                "restarts it."
            )
        case "unrostered":
            return (
                f"📋 Running, and not in the roster: {names}. {example} stops one; written into roster.yaml, it stays."
            )
        case "changed":
            return f"✏️ The roster has changed for {names}. {example} starts them again with it."
        case "unreadable":
            return f"✏️ The roster has a mistake, so no agent can start: {_quoted(first.cause)}."
        case _:
            return f"📋 In the roster, and not running: {names}. {example} starts one."


def _over(piece: Over, now: float) -> str:
    lasted = f"It lasted {markdown.span(now - piece.since)}."
    match piece.kind, is_fleet_wide(piece.event):
        case "silent", False:
            return f"✔ **{piece.agent}** answers again. {lasted}"
        case "stalled", False:
            return f"✔ The turn of **{piece.agent}** is no longer stuck. {lasted}"
        case "silent", True:
            return f"✔ None of those agents is silent any more. {lasted}"
        case "stalled", True:
            return f"✔ None of those turns is stuck any more. {lasted}"
        case "failed", _:
            return f"✔ None of those agents is down any more. {lasted}"
        case "erring", _:
            return f"✔ The turns of those agents no longer fail. {lasted}"
        case _:
            return f"✔ All running agents are in the register again. {lasted}"


def _names(findings: Sequence[HealthFinding]) -> str:
    shown = ", ".join(finding.agent for finding in findings[:_NAMED])
    more = len(findings) - _NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown


def _for_one_reason(finding: HealthFinding) -> str:
    return f", for the same reason: {_quoted(finding.cause)}" if finding.cause else ""


def _because(finding: HealthFinding) -> str:
    return f": {_quoted(finding.cause)}" if finding.cause else ""


def _quoted(cause: str) -> str:
    return markdown.code(markdown.one_line(cause, 160).rstrip("."))


def _for(finding: HealthFinding, now: float) -> str:
    return f" for {markdown.span(now - finding.since)}" if finding.since is not None else ""
