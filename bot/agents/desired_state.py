"""What is wanted of the agents, as the register has it: who is to run, to stop, to be frozen, and as what.

Every wish is keyed to the id of the command that has it, so that a command which a crash cut off can be done again from
its beginning. A keeper brings about what is wanted once it is committed (`bot.agents.service.Agents.look_again`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

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
from database.queries.chat import thread_owners
from fleet.name_rules import AGENT_NAME, is_agent_name
from fleet.roster.drift import ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.agents.journal.effects import Teller


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchRequest:
    """What `launch` was asked for; None is "as the roster says, or the default"."""

    name: str
    role: str
    runtime: str
    model: str | None
    sandbox: str
    workspace: str
    basis: Mapping[str, Any]
    """What it stands on (fleet.roster.launch_overrides)."""
    task: str | None
    by: str
    connector: str
    room: str
    alias: str | None = None
    """What chat shows beside its name."""
    loose: bool = False
    """Nothing isolates it."""


class Send(Protocol):
    """Puts a message on its way to an agent, once per `message_id` (bot.agents.service.Agents.send)."""

    async def __call__(self, tx: AsyncConnection, row: AgentRow, text: str, *, message_id: str, by: str) -> object: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    teller: Teller
    clock: Callable[[], float]
    send: Send
    patience: float
    """Seconds that a message has to reach an agent that runs."""

    async def launch(self, tx: AsyncConnection, request: LaunchRequest, *, run_id: str) -> tuple[AgentRow, bool]:
        """Write that the agent is to run; the keeper starts it once this is committed and `look_again` was called.

        Returns:
            The agent, and whether this launch (not an earlier one) is the one that holds. One that is frozen is left
            as it is.
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
        here = row is not None and (row.connector, row.room) == (request.connector, request.room)
        thread_key = row.thread_key if row is not None and here else f"{OPENER}{run_id}"
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
            **self._running(run_id, request.by, at_once=False),
        }
        fresh = AgentRow(name=request.name, keep_session=True, **wish)
        if row is None:
            await agents.add(tx, fresh)
        else:
            await agents.change(tx, request.name, **wish)
        await self._begun(tx, request.name, request.by)
        if row is None or not row.keep_session:
            # Its introduction names those that are there now; later changes are news.
            others = onboarding_prompt.fleet(await agents.every(tx), but=request.name)
            await peer_messages.tell(tx, request.name, others, now)
        await self._open_thread(tx, fresh, request.alias, loose=request.loose)
        if request.task:
            await self.send(tx, fresh, request.task, message_id=f"{run_id}-task", by=request.by)
        return fresh, True

    def _running(self, run_id: str, by: str, *, at_once: bool) -> dict[str, Any]:
        """Return the columns of a new launch. What failed before it counts no more."""
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
        """It starts again: nothing of it is to go on by itself; what it spends is counted from here, if a person wanted
        that."""
        await auto_resume.drop(tx, name, "it was restarted")
        if is_person(by) or await last_results.get(tx, name) is None:
            await last_results.note(tx, name, "launch", self.clock())

    async def _open_thread(self, tx: AsyncConnection, row: AgentRow, alias: str | None, *, loose: bool) -> None:
        model = f", {markdown.code(row.model)}" if row.model else ""
        warning = " It runs **without a sandbox**, as you: it could give Muster orders in your name." if loose else ""
        name = f"**{alias}** ({row.name})" if alias is not None else f"**{row.name}**"
        text = f"{name} · {row.role} · {row.runtime}{model} · {markdown.code(row.workspace)}.{warning}"
        opener = OpenThread(title=self.teller.titles.first(row), message=markdown.message(self.teller.redaction(text)))
        place = MessagePlace(row.connector, conversation=row.room)
        if await outbox.put(tx, place.outbound(row.thread_key, opener, Priority.REPLY), self.clock()):
            await thread_owners.note(tx, row.thread_key, "agent", row.name)
            await self.teller.titles.opened(tx, row)
        else:
            await self.teller.titles.show(tx, row.name)
        for key, at in self.teller.bridge.spread(row.thread_key, place)[1:]:
            await self.teller.speak_there(tx, key, f"{text} Its thread is on **{row.connector}**.", at)

    async def stop(self, tx: AsyncConnection, row: AgentRow, *, now: bool) -> None:
        """Write that the agent is not to run, and may be launched as something else next time."""
        ended = {"state": "stopped"} if row.state in {"failed", "frozen"} else {}
        await agents.change(tx, row.name, wanted="stopped", at_once=now, revival=None, **ended)
        await self.teller.titles.show(tx, row.name)
        await auto_resume.drop(tx, row.name, "it was stopped")

    async def freeze(self, tx: AsyncConnection, row: AgentRow, *, now: bool) -> None:
        """Write that the agent is not to run before it is resumed as what it is."""
        ended = {"state": "frozen", "detail": None} if row.state in ENDED else {}
        await agents.change(tx, row.name, wanted="frozen", at_once=now, revival=None, **ended)
        await self.teller.titles.show(tx, row.name)

    async def resume(self, tx: AsyncConnection, row: AgentRow, *, run_id: str, by: str) -> bool:
        """Write that a frozen agent is to run again, as what it is; what waits for it has its whole time again.

        Returns:
            False, and nothing is changed, when it is no longer frozen.
        """
        found = await agents.get(tx, row.name)
        if found is not None and found.launch_id == run_id:
            return True
        if found is None or found.wanted != "frozen":
            return False
        now = self.clock()
        await agents.change(tx, row.name, **self._running(run_id, by, at_once=found.at_once))
        await self.teller.titles.show(tx, row.name)
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
        """Write a new launch of the same agent; the keeper ends the old host first.

        Args:
            settings: columns of its row that are to be other ones.

        Returns:
            False, and nothing is changed, when it was relaunched since `row` was read.
        """
        if row.launch_id == run_id:
            return True
        changed = await agents.change(
            tx, row.name, under=row.launch_id, **(settings or {}), **self._running(run_id, by, at_once=now)
        )
        if changed:
            await self._begun(tx, row.name, by)
        return changed
