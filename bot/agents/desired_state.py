"""The agents' desired state in the register: which agents run, stop or are frozen, and with which settings.

Each change is keyed to the id of its command, so that a command that a crash interrupted can be repeated from its
start. After the commit, the supervisor brings the agent into its desired state
(`bot.agents.service.Agents.look_again`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.journal.effects import JournalEffects
from bot.agents.messages import onboarding_prompt
from bot.auth.permissions import is_person
from bot.messaging.composer import MessagePlace
from bot.messaging.outbox_keys import OPENER
from bot.text import markdown
from bot.text.errors import UserError
from connectors.contract.messages import OpenThread, Priority
from connectors.delivery import outbox
from database.queries.agents import agent_messages, agents, auto_resume, last_results, peer_messages
from database.queries.agents.agents import AgentRow
from database.queries.chat import thread_owners, topics
from fleet.name_rules import AGENT_NAME, is_agent_name
from fleet.roster.drift import ENDED


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchRequest:
    """A request to launch an agent, after the roster and the defaults were applied."""

    name: str
    role: str
    runtime: str
    model: str | None
    sandbox: str
    workspace: str
    basis: Mapping[str, Any]
    """The launch overrides that the settings are based on (fleet.roster.launch_overrides)."""
    task: str | None
    by: str
    connector: str
    room: str
    alias: str | None = None
    """The name that chat shows beside the agent's own."""
    unsandboxed: bool = False
    """Whether the agent runs without a sandbox."""
    purpose: str | None = None
    """What the agent is launched for, for people: a topic, a run or an issue; None for an agent of the roster."""
    thread_key: str | None = None
    """The outbox key of the message that opened its thread; None: it gets one of its own."""

    def in_thread(self, purpose: str, thread_key: str) -> LaunchRequest:
        """Return the same request for an agent with a purpose, whose thread is there already."""
        return replace(self, purpose=purpose, thread_key=thread_key)


class Send(Protocol):
    """A callback that queues a message for an agent, once per `message_id` (bot.agents.service.Agents.send)."""

    async def __call__(self, tx: AsyncConnection, row: AgentRow, text: str, *, message_id: str, by: str) -> object: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DesiredStates:
    journal_effects: JournalEffects
    clock: Callable[[], float]
    send: Send
    patience: float
    """Seconds within which a message must reach a running agent."""

    async def launch(self, tx: AsyncConnection, request: LaunchRequest, *, run_id: str) -> tuple[AgentRow, bool]:
        """Record that the agent is to run. The supervisor starts it after the commit and a call of `look_again`.

        Returns:
            The agent, and whether this launch (not an earlier one) applies. A frozen agent is not changed.

        Raises:
            UserError: no agent can have this name.
        """
        if not is_agent_name(request.name):
            raise UserError(
                f"{markdown.one_line(request.name)!r} is not a valid agent name: allowed is {AGENT_NAME.pattern}, "
                "such as coder0.",
                code="agent.invalid_name",
            )
        now = self.clock()
        row = await agents.get(tx, request.name)
        if row is not None and row.launch_id == run_id:
            return row, True
        if row is not None and (row.wanted == "frozen" or (row.wanted == "running" and row.state not in ENDED)):
            return row, False
        if row is None and request.purpose is None:
            await _check_topic(tx, request.name)
        here = row is not None and (row.connector, row.room) == (request.connector, request.room)
        own_thread = row.thread_key if row is not None and here else f"{OPENER}{run_id}"
        thread_key = request.thread_key or own_thread
        wish: dict[str, Any] = {
            "role": request.role,
            "runtime": request.runtime,
            "model": request.model,
            "sandbox": request.sandbox,
            "workspace": request.workspace,
            "basis": request.basis,
            "connector": request.connector,
            "room": request.room,
            "thread_key": thread_key,
            "purpose": request.purpose,
            **self._running(run_id, request.by, at_once=False),
        }
        fresh = AgentRow(name=request.name, keep_session=True, **wish)
        if row is None:
            await agents.add(tx, fresh)
        else:
            await agents.change(tx, request.name, **wish)
        await self._begun(tx, request.name, request.by)
        if row is None or not row.keep_session:
            # The introduction names the agents that exist now; later changes are sent as news.
            others = onboarding_prompt.fleet(await agents.every(tx), but=request.name)
            await peer_messages.tell(tx, request.name, others, now)
        if request.thread_key is None:
            await self._open_thread(tx, fresh, request.alias, unsandboxed=request.unsandboxed)
        else:
            await self.journal_effects.titles.show(tx, request.name)
        if request.task:
            await self.send(tx, fresh, request.task, message_id=f"{run_id}-task", by=request.by)
        return fresh, True

    def _running(self, run_id: str, by: str, *, at_once: bool) -> dict[str, Any]:
        """Return the columns of a new launch. Earlier failures no longer count."""
        return {
            "wanted": "running",
            "at_once": at_once,
            "state": "starting",
            "detail": None,
            "launch_id": run_id,
            "launched_by": by,
            "started_at": self.clock(),
            "stopped_at": None,
            "revival": None,
            "model_answering": None,
        }

    async def _begun(self, tx: AsyncConnection, name: str, by: str) -> None:
        """Drop the automatic resume, and count the agent's spending from now on if a person started it."""
        await auto_resume.drop(tx, name, "it was restarted")
        if is_person(by) or await last_results.get(tx, name) is None:
            await last_results.note(tx, name, "launch", self.clock())

    async def _open_thread(self, tx: AsyncConnection, row: AgentRow, alias: str | None, *, unsandboxed: bool) -> None:
        model = f", {markdown.code(row.model)}" if row.model else ""
        warning = (
            " It runs **without a sandbox**, as you: it could give Muster orders in your name." if unsandboxed else ""
        )
        name = f"**{alias}** ({row.name})" if alias is not None else f"**{row.name}**"
        text = f"{name} · {row.role} · {row.runtime}{model} · {markdown.code(row.workspace)}.{warning}"
        opener = OpenThread(
            title=self.journal_effects.titles.first(row), message=markdown.message(self.journal_effects.redaction(text))
        )
        place = MessagePlace(row.connector, conversation=row.room)
        if await outbox.put_first(tx, place.outbound(row.thread_key, opener, Priority.REPLY), self.clock()):
            await thread_owners.note(tx, row.thread_key, "agent", row.name)
            await self.journal_effects.titles.opened(tx, row)
        else:
            await self.journal_effects.titles.show(tx, row.name)
        for key, at in self.journal_effects.bridge.spread(row.thread_key, place)[1:]:
            await self.journal_effects.speak_there(tx, key, f"{text} Its thread is on **{row.connector}**.", at)

    async def stop(self, tx: AsyncConnection, row: AgentRow, *, now: bool) -> None:
        """Record that the agent is to stop; its next launch may have other settings."""
        ended = {"state": "stopped"} if row.state in {"failed", "frozen"} else {}
        await agents.change(tx, row.name, wanted="stopped", at_once=now, revival=None, **ended)
        await self.journal_effects.titles.show(tx, row.name)
        await auto_resume.drop(tx, row.name, "it was stopped")

    async def freeze(self, tx: AsyncConnection, row: AgentRow, *, now: bool) -> None:
        """Record that the agent is to stop until it is resumed with the same settings."""
        ended = {"state": "frozen", "detail": None} if row.state in ENDED else {}
        await agents.change(tx, row.name, wanted="frozen", at_once=now, revival=None, **ended)
        await self.journal_effects.titles.show(tx, row.name)

    async def resume(self, tx: AsyncConnection, row: AgentRow, *, run_id: str, by: str) -> bool:
        """Record that a frozen agent is to run again with the same settings. Waiting messages get their full time.

        Returns:
            False, without any change, if the agent is no longer frozen.
        """
        found = await agents.get(tx, row.name)
        if found is not None and found.launch_id == run_id:
            return True
        if found is None or found.wanted != "frozen":
            return False
        now = self.clock()
        await agents.change(tx, row.name, **self._running(run_id, by, at_once=found.at_once))
        await self.journal_effects.titles.show(tx, row.name)
        await agent_messages.prolong(tx, row.name, until=now + self.patience)
        await self._begun(tx, row.name, by)
        return True

    async def restart(
        self,
        tx: AsyncConnection,
        row: AgentRow,
        *,
        run_id: str,
        by: str,
        now: bool,
        settings: Mapping[str, object] | None = None,
    ) -> bool:
        """Record a new launch of the same agent. The supervisor ends the old agent host first.

        Args:
            settings: columns of the agent's row to change.

        Returns:
            False, without any change, if the agent was launched again since `row` was read.
        """
        if row.launch_id == run_id:
            return True
        changed = await agents.change(
            tx, row.name, under=row.launch_id, **(settings or {}), **self._running(run_id, by, at_once=now)
        )
        if changed:
            await self._begun(tx, row.name, by)
        return changed


async def _check_topic(tx: AsyncConnection, name: str) -> None:
    """Check that a name is no topic's. Its thread and its messages would become those of another agent.

    Raises:
        UserError: it is, even if that topic is over.
    """
    if await topics.of_agent(tx, name) is not None:
        raise UserError(
            f"{name} is the name of a topic, and no other agent can have it. Choose another name; nothing was changed.",
            code="agent.of_topic",
        )
