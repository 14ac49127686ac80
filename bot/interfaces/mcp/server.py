"""The server of agents' calls to Muster's own tools, which it finds in the agents' journals.

A call is carried out once: the transaction that reads its journal entry creates its row, and all effects are keyed to
that row. A command only starts while the agent waits for it (`AgentLink.begin_call`), unless its run had started
before. Messages and reports are sent in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.messages.peer_messages import Peers
from bot.agents.services import AgentServices
from bot.auth import agent_permissions
from bot.auth.permission import OPERATOR
from bot.commands.arguments_schema import arguments_schema
from bot.commands.context import Origin
from bot.commands.executor import Executor
from bot.commands.registry import CommandTable
from bot.commands.runs import RunOutcome, RunRequest
from bot.issue_runs.agent_tools.calls import IssueTools
from bot.issue_runs.agent_tools.offers import NAMES as ISSUE_TOOLS
from bot.text.errors import UserError
from core.async_waits import set_within
from core.crash_points import around, declare
from core.errors import MusterError, RegisterError
from core.redaction import beginning
from database.queries.agents import agents, tool_calls
from database.queries.agents.agents import AgentRow
from database.queries.agents.tool_calls import ToolCallRow
from database.queries.operations import command_runs
from fleet.control.agent_host_client import AgentLink
from fleet.errors import AgentRefused, AgentUnreachable
from fleet.launch.launch_plan import DEFAULT_ROLE
from fleet.roles import Library, library
from fleet.tools import Tool, arguments

log = structlog.get_logger(__name__)

BEGIN = declare("call.begin")
ACT = declare("call.act")
ANSWER = declare("call.answer")
CLOSE = declare("call.close")
SETTLE = declare("peers.settle")

#: Seconds between checks while any call waits.
LOOK_AGAIN: Final = 0.5
#: Seconds after which a call that cannot be answered is given up.
GIVE_UP: Final = 3600.0
#: Failed attempts after which a call is answered with an apology.
STUMBLES: Final = 3

_TEXT: Final = {"type": "string", "description": "The text. Put long content into a file, and name the file."}
_TO: Final = {"type": "string", "description": "The agent's name, as peers lists it."}
_STATUS: Final = {
    "type": "string",
    "enum": ["done", "failed", "blocked"],
    "description": "blocked: you cannot go on without a person.",
}
_SUMMARY: Final = {"type": "string", "description": "What was done, or why not, in a few sentences for people."}
_TASK: Final = {"type": "string", "description": "The id of the task; leave it out unless you are asked for it."}
_THREAD: Final = {"type": "string", "description": "The thread that you answer in; leave it out to begin one."}


#: Every agent has these.
COMMON: Final = (
    Tool(
        name="peers",
        description="List the other agents: role, state, and how to reach each.",
        input_schema=arguments(()),
    ),
    Tool(
        name="send_message",
        description="Write to another agent. It reads the message when its turn ends, and answers with a message.",
        input_schema=arguments(("to", "text"), to=_TO, text=_TEXT, thread=_THREAD),
        queued=True,
    ),
    Tool(
        name="report",
        description="Post a line for people in your own chat thread.",
        input_schema=arguments(("text",), text=_TEXT),
        queued=True,
    ),
    Tool(
        name="task_done",
        description=(
            "Report the outcome of your task. Use it only for a task that you were given in a message with its id."
        ),
        input_schema=arguments(("status", "summary"), status=_STATUS, summary=_SUMMARY, task=_TASK),
        queued=True,
    ),
)


def tools_for(role: str, roles: Library, table: CommandTable) -> tuple[Tool, ...]:
    """Return the tools of an agent with this role: `COMMON`, and the commands that it may use."""
    commands = [table.get(name) for name in sorted(agent_permissions.commands_of(role, roles))]
    return (
        *COMMON,
        *(
            Tool(
                name=command.name.replace(" ", "_").replace("-", "_"),
                description="\n\n".join(filter(None, (command.summary, command.description))),
                input_schema=arguments_schema(command, only=agent_permissions.MAY[command.name]),
            )
            for command in commands
            if command is not None
        ),
    )


@dataclass(slots=True)
class AgentToolServer:
    """The server of all agents' calls. Call `wake` after a journal was read."""

    services: AgentServices
    executor: Executor
    peers: Peers
    link: Callable[[str], AgentLink | None]
    issues: IssueTools
    """The tools of agents that work on issues."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _busy: set[str] = field(default_factory=set)
    _stumbled: dict[str, int] = field(default_factory=dict)

    def wake(self) -> None:
        self._news.set()

    async def run(self) -> None:
        """Process calls until cancelled: one agent's calls in order, those of several agents concurrently."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._news.clear()
                waiting = await self._look(tasks)
                await set_within(self._news, LOOK_AGAIN if waiting else None)

    async def _look(self, tasks: asyncio.TaskGroup) -> bool:
        """Start the calls that can start, and return whether to check again soon."""
        try:
            async with self.services.store.read() as tx:
                calls = await tool_calls.open_calls(tx)
        except RegisterError as error:
            log.warning("tools.register", reason=str(error))
            return True
        if self.peers.asked:
            try:
                await self._settle_pairs()
            except RegisterError as error:
                log.warning("tools.register", reason=str(error))
            except Exception:
                # A failure must not delay the calls of other agents.
                log.exception("tools.pairs_not_settled")
        for name in dict.fromkeys(call.agent for call in calls):
            if name not in self._busy:
                self._busy.add(name)
                mine = [call for call in calls if call.agent == name]
                tasks.create_task(self._serve(name, mine), name=f"tools of {name}")
        return bool(calls) or self.peers.asked

    async def _settle_pairs(self) -> None:
        async with self.services.store.write(SETTLE) as tx:
            mail = await self.peers.settle(tx)
        for name in mail:
            self.services.agents.bring_mail(name)
        self.services.delivery.wake()

    async def _serve(self, name: str, calls: Sequence[ToolCallRow]) -> None:
        try:
            for call in calls:
                await self._guarded(call)
        finally:
            self._busy.discard(name)

    async def _guarded(self, call: ToolCallRow) -> None:
        try:
            await self._deal(call)
        except (RegisterError, AgentUnreachable) as error:
            log.info("tools.not_now", agent=call.agent, tool=call.tool, reason=str(error))
        except Exception:
            log.exception("tools.failed", agent=call.agent, tool=call.tool, call=call.id)
            self._stumbled[call.id] = self._stumbled.get(call.id, 0) + 1
            if self._stumbled[call.id] >= STUMBLES:
                apology = "This was not done because of an internal error in Muster. People can see more in its log."
                with contextlib.suppress(RegisterError):
                    async with self.services.store.write(ACT) as tx:
                        await self._done(tx, call, apology, ok=False)

    async def _deal(self, call: ToolCallRow) -> None:
        if call.state == "done":
            await self._bring(call)
            return
        async with self.services.store.read() as tx:
            row = await agents.get(tx, call.agent)
            begun = await command_runs.get(tx, call.id) is not None
        if row is None:
            await self._over(call)
            return
        if not call.queued and not begun and not await self._begin(call):
            return
        if call.tool in ISSUE_TOOLS:

            async def answer(tx: AsyncConnection, text: str, ok: bool) -> None:
                await self._done(tx, call, text, ok=ok)

            await self.issues.deal(call, row, answer)
        elif call.tool in _PLAIN:
            await self._plain(call, row)
        else:
            await self._command(call, row)
        async with self.services.store.read() as tx:
            answered = [each for each in await tool_calls.open_calls(tx) if each.id == call.id and each.state == "done"]
        for each in answered:
            await self._bring(each)

    # --- the agent's side ---------------------------------------------------------------------------------------

    async def _begin(self, call: ToolCallRow) -> bool:
        """Tell the agent host that the call begins, and return whether the agent still waits for it."""
        link = self.link(call.agent)
        if link is None:
            if self.services.clock() - call.asked_at > GIVE_UP:
                await self._over(call)
            return False
        try:
            with around(BEGIN):
                await link.begin_call(call.call)
        except AgentRefused as refused:
            log.info("tools.too_late", agent=call.agent, tool=call.tool, reason=str(refused))
            await self._over(call)
            return False
        return True

    async def _bring(self, call: ToolCallRow) -> None:
        link = self.link(call.agent)
        if link is None:
            if self.services.clock() - call.asked_at > GIVE_UP:
                await self._over(call)
            return
        reply = call.reply or {}
        with contextlib.suppress(AgentRefused), around(ANSWER):
            await link.answer_call(call.call, str(reply.get("text", "")), ok=bool(reply.get("ok")))
        await self._over(call)

    async def _over(self, call: ToolCallRow) -> None:
        async with self.services.store.write(CLOSE) as tx:
            values: dict[str, Any] = {"state": "over", "arguments": {}, "reply": None}
            await tool_calls.change(tx, call.id, only=["pending", "done"], now=self.services.clock(), **values)

    async def _done(self, tx: AsyncConnection, call: ToolCallRow, text: str, *, ok: bool) -> None:
        reply = {"text": text, "ok": ok}
        await tool_calls.change(tx, call.id, only=["pending"], now=self.services.clock(), state="done", reply=reply)

    # --- actions ------------------------------------------------------------------------------------------------

    async def _plain(self, call: ToolCallRow, row: AgentRow) -> None:
        """Send a message to another agent or to people, or list the agents."""
        arguments = call.arguments
        bring_to = None
        async with self.services.store.write(ACT) as tx:
            try:
                if call.tool in {"send", "steer"}:
                    # As a command, it would be sent as an operator's message.
                    if refused := await self._refusal(call, row):
                        raise UserError(refused, code="tool.refused")
                    mode = "queue" if call.tool == "send" else "steer"
                    to, text = _word(arguments, "name"), _word(arguments, "text")
                    posted = await self.peers.post(tx, row, to, text, message_id=call.id, mode=mode)
                    said, bring_to = posted.text, posted.bring_to
                elif call.tool == "send_message":
                    thread = _word(arguments, "thread") if arguments.get("thread") else None
                    to, text = _word(arguments, "to"), _word(arguments, "text")
                    posted = await self.peers.post(tx, row, to, text, message_id=call.id, thread=thread)
                    said, bring_to = posted.text, posted.bring_to
                elif call.tool == "task_done":
                    status, summary = _word(arguments, "status"), _word(arguments, "summary")
                    which = _word(arguments, "task") if arguments.get("task") else None
                    said = await self.services.task_steps.said_by_agent(
                        tx, row, status, summary, turn=call.turn, which=which
                    )
                elif call.tool == "report":
                    said = await self.peers.report(tx, row, _word(arguments, "text"), key=f"k/{call.id}")
                else:
                    said = await self.peers.listing(tx, row)
                outcome = "done"
            except UserError as error:
                said, outcome = str(error), "refused"
            await self._done(tx, call, said, ok=outcome == "done")
            if call.tool != "peers":
                kept = {
                    name: beginning(str(given), self.services.redact)[:2000]
                    for name, given in arguments.items()
                    if name not in _WORDS
                }
                await self.peers.record(tx, row, call.tool, kept, outcome, said, call.id)
        if bring_to is not None:
            self.services.agents.bring_mail(bring_to)
        if call.tool == "task_done":
            self.services.dispatcher.wake()
        self.services.delivery.wake()

    async def _command(self, call: ToolCallRow, row: AgentRow) -> None:
        services = self.services
        command = next((each for each in services.table if _tool_name(each.name) == call.tool), None)
        name = command.name if command is not None else call.tool
        arguments = dict(call.arguments)
        task = arguments.pop("task", None) if name == "launch" else None
        request = RunRequest(
            id=call.id,
            name=name,
            arguments=arguments,
            identity=f"agent:{row.name}",
            permission=OPERATOR,
            door="tools",
            # No person can confirm it here; an agent's permissions decide.
            confirmed=True,
            # Its new threads open in the room of its own thread.
            origin=Origin(connector=row.connector, conversation=row.room, parent=None, event_id=""),
        )
        brings: list[str] = []

        async def finish(tx: AsyncConnection, outcome: RunOutcome) -> None:
            said = outcome.text
            if isinstance(task, str) and task and outcome.state == "done":
                try:
                    to = str(arguments.get("name"))
                    posted = await self.peers.post(tx, row, to, task, message_id=f"{call.id}-task")
                    brings.append(to)
                    said += f" Its task: {posted.text}"
                except UserError as error:
                    said += f" It has no task: {error}"
            await self._done(tx, call, said, ok=outcome.state == "done")

        refused = await self._refusal(call, row, name)
        if refused is not None:
            await self.executor.refuse(request, refused, reason="permission", finish=finish)
        else:
            await self.executor.run(request, finish=finish)
        for to in brings:
            services.agents.bring_mail(to)
        services.delivery.wake()

    async def _refusal(self, call: ToolCallRow, row: AgentRow, name: str | None = None) -> str | None:
        """Return why the agent may not do this, or None if it may."""
        roles = await asyncio.to_thread(library, self.services.paths.roles)
        name = name or call.tool
        refused = agent_permissions.refusal(row.role, name, call.arguments, roles)
        if refused is None and name == "launch":
            refused = await asyncio.to_thread(self._not_to_launch, row.role, call.arguments, roles)
        if refused is None and name == "add" and call.arguments.get("role") is None:
            refused = agent_permissions.refusal(
                row.role, name, {"role": await asyncio.to_thread(self._default_role)}, roles
            )
        return refused

    def _default_role(self) -> str:
        """Return the role of an agent that is added without one."""
        try:
            return self.services.planner.read_roster().defaults.role or DEFAULT_ROLE
        except MusterError:
            return DEFAULT_ROLE  # the command says what is wrong

    def _not_to_launch(self, role: str, arguments: Mapping[str, Any], roles: Library) -> str | None:
        """Return why an agent of this role may not launch that one, by its launch plan, or None if it may."""
        asked = {key: arguments.get(key) for key in ("role", "runtime", "model")}
        try:
            plan = self.services.planner.plan(str(arguments.get("name")), asked)
        except (MusterError, TypeError, ValueError, AttributeError):
            return None  # the command says what is wrong
        if plan.kind == "none":
            return "That agent would run without a sandbox, as the person who runs Muster; only people launch it."
        return agent_permissions.refusal(role, "launch", {"role": plan.role}, roles)


_PLAIN: Final = frozenset({"peers", "send_message", "report", "task_done", "send", "steer"})
#: Arguments with message text, which is stored elsewhere.
_WORDS: Final = frozenset({"text", "summary"})


def _tool_name(command: str) -> str:
    return command.replace(" ", "_").replace("-", "_")


def _word(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise UserError(f"{name} is missing, or no text.", code="tool.usage")
    return value
