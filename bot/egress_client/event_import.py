"""What the egress did, as it reaches agents' rows and operators: in the transaction that copies it, so once."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.egress_client import event_text
from bot.egress_client.answering_model import Answering
from bot.egress_client.denied_requests import Attempts
from bot.egress_client.ledger_import import COPIED
from bot.messaging import rooms
from connectors.delivery import outbox
from core.errors import RegisterError
from database.queries.agents import agent_messages, agents
from database.queries.operations import restored_backup
from egress.ledger.model import FOR_NOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.egress_client.services import EgressServices
    from database.queries.agents.agents import AgentRow
    from egress.ledger.model import Action, LedgerEntry

#: What ends an agent.
ENDED_BY = frozenset({"freeze", "kill"})

#: A refusal waits for the end of the turn that it belongs to: at least, and at most, seconds.
_SHORTEST_HELD_S, _LONGEST_HELD_S = 2.0, 60.0
#: The clocks of egress and agent host are one, and their rows are not written at the same moment.
_BEFORE_S = 5.0
_MOST_HELD = 500


@dataclass(frozen=True, slots=True)
class _Held:
    action: Action
    since: float


@dataclass(slots=True)
class EgressEventImport:
    """Of one host's egress."""

    services: EgressServices
    _attempts: Attempts = field(default_factory=Attempts)
    _answering: Answering = field(init=False)
    _held: dict[str, _Held] = field(default_factory=dict)
    """Refusals of the gate, by the key under which each is told. A restart forgets them; the audit does not."""
    _met: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """When a crossing was told, by agent, launch and scope."""

    def __post_init__(self) -> None:
        self._answering = Answering(self.services)

    async def told(self, tx: AsyncConnection, key: str, action: Action) -> None:
        """What happens to the agent, and what is said in its thread; in the transaction that writes the action."""
        if action.at < (await restored_backup.last(tx) or 0.0):
            # Told before the backup was put back, or of agents that are no more what they were then.
            return
        if (about := event_text.about(action)) is not None:
            for name in about:
                row = await agents.get(tx, name)
                if row is not None:
                    await self._met_limit(tx, row, key, action)
                    self._met[name, row.launch_id, str(action.detail.get("scope"))] = action.at
                    await self._note(tx, row, f"{key}/{name}", event_text.crossing(action))
            return
        row = await agents.get(tx, action.agent)
        if row is None:
            return
        if action.by == event_text.EGRESS and not _is_older(action, row):
            if action.action == "freeze":
                await self.services.agents.wishes.freeze(tx, row, now=True)
                await self._met_limit(tx, row, key, action)
            elif action.action == "kill":
                await self.services.agents.wishes.stop(tx, row, now=True)
                await agents.change(tx, row.name, keep_session=False)
        if event_text.is_of_the_gate(action):
            # Who is ahead of its pace may be asked to come again shortly, and be told so until its client gives up.
            if action.detail.get("scope") is not None and (
                action.result != FOR_NOW or event_text.is_of_the_pace(action)
            ):
                await self._met_limit(tx, row, key, action)
            self._hold(action, row)
            return
        if event_text.is_attempt(action) and not self._attempts.meet(action, row.launch_id):
            return
        if (text := event_text.told(action, profile=row.sandbox)) is not None:
            await self._note(tx, row, event_text.key(action, row.launch_id), text)

    async def noted(self, tx: AsyncConnection, entries: Sequence[LedgerEntry]) -> None:
        """What providers answered, in the transaction that writes it, after what they said of their windows."""
        self._answering.heard(entries)
        await self.services.continuing.met_provider(tx, entries)

    async def _met_limit(self, tx: AsyncConnection, row: AgentRow, key: str, action: Action) -> None:
        await self.services.continuing.met_limit(tx, row, key, action)

    def after(self, actions: Sequence[Action]) -> None:
        """These are committed."""
        for name in dict.fromkeys(action.agent for action in actions if action.action in ENDED_BY):
            self.services.agents.look_again(name)
        if actions:
            self.services.delivery.wake()

    async def catch_up(self) -> None:
        """Say what was held back: in one line what agents tried again and again, and refusals that no turn told.

        Raises:
            RegisterError: the register cannot be written; what was to be said is in the audit.
        """
        await self._compare_models()
        due = list(self._attempts.due(self.services.clock()))
        ripe = {key: held for key, held in self._held.items() if self._is_ripe(held)}
        if not due and not ripe:
            return
        async with self.services.store.write(COPIED) as tx:
            for name, key, text in due:
                row = await agents.get(tx, name)
                if row is not None:
                    await self._note(tx, row, key, text)
            for key, held in ripe.items():
                action = held.action
                row = await agents.get(tx, action.agent)
                # Any turn since then: it may have gone on before this was copied.
                failed = await agent_messages.failures(tx, action.agent, since=action.at - _BEFORE_S)
                quoted = any(event_text.quotes(each, action) for each in failed)
                if row is not None and not quoted and (text_ := event_text.told(action)) is not None:
                    await self._note(tx, row, key, text_)
        for key in ripe:
            self._held.pop(key, None)
        self.services.delivery.wake()

    async def _compare_models(self) -> None:
        """Say in an agent's thread that another model answers than was asked for, once a launch."""
        ripe = self._answering.ripe()
        if not ripe:
            return
        async with self.services.store.write(COPIED) as tx:
            for turn in ripe:
                told = await self._answering.judge(tx, turn)
                row = await agents.get(tx, turn[0])
                if told is not None and row is not None:
                    await self._note(tx, row, *told)
        self.services.delivery.wake()

    def _hold(self, action: Action, row: AgentRow) -> None:
        """A refusal mostly ends a turn, whose end says why; told by itself it would only be there twice."""
        met = self._met.get((action.agent, row.launch_id, str(action.detail.get("scope"))))
        if met is not None and action.at - met < event_text.AGAIN_S and "used up" in action.cause:
            return
        key = event_text.key(action, row.launch_id)
        if len(self._held) < _MOST_HELD:
            self._held.setdefault(key, _Held(action, self.services.clock()))

    def _is_ripe(self, held: _Held) -> bool:
        waited = self.services.clock() - held.since
        return waited >= _LONGEST_HELD_S or (
            waited >= _SHORTEST_HELD_S and not self.services.agents.in_turn(held.action.agent)
        )

    async def say(self, key: str, text: str) -> None:
        """In the main room, where there is one."""
        with contextlib.suppress(RegisterError):
            async with self.services.store.write(COPIED) as tx:
                await rooms.say(self.services, tx, key, text)
            self.services.delivery.wake()

    async def _note(self, tx: AsyncConnection, row: AgentRow, key: str, text: str) -> None:
        if await outbox.get(tx, key) is None:
            await self.services.agents.teller.note(tx, row, key, self.services.redact(text))


def _is_older(action: Action, row: AgentRow) -> bool:
    """Return whether the agent was relaunched since: what happened to the launch before is over."""
    return row.started_at is not None and action.at < row.started_at
