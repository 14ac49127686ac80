"""The import of egress actions: agents' rows and reports change in the transaction that copies an action, so once."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.egress_client import event_text
from bot.egress_client.answering_model import AnsweringModels
from bot.egress_client.denied_requests import DeniedRequests
from bot.egress_client.ledger_import import COPIED
from bot.egress_client.ports import LimitServices
from bot.messaging import rooms
from connectors.delivery import outbox
from core.errors import RegisterError
from database.queries.agents import agent_messages, agents
from database.queries.agents.agents import AgentRow
from database.queries.operations import restored_backup
from egress.ledger.model import FOR_NOW, Action, LedgerEntry

#: Actions that end an agent.
ENDED_BY = frozenset({"freeze", "kill"})

#: Seconds, at least and at most, that a refusal waits for the end of its turn.
SHORTEST_HELD_S, LONGEST_HELD_S = 2.0, 60.0
#: The egress and the agent host share a clock, but write their rows at different times.
_BEFORE_S = 5.0
_MOST_HELD = 500


@dataclass(frozen=True, slots=True)
class _Held:
    action: Action
    since: float


@dataclass(slots=True)
class EgressEventImport:
    """The importer of one host's egress actions."""

    services: LimitServices
    _attempts: DeniedRequests = field(default_factory=DeniedRequests)
    _answering: AnsweringModels = field(init=False)
    _held: dict[str, _Held] = field(default_factory=dict)
    """Refusals by the admission gate, by report key. They are lost at a restart, but remain in the audit log."""
    _met: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """When a limit crossing was reported, by agent, launch and scope."""

    def __post_init__(self) -> None:
        self._answering = AnsweringModels(self.services)

    async def told(self, tx: AsyncConnection, key: str, action: Action) -> None:
        """Apply an action to its agent and report it in the agent's thread, in the transaction that records it."""
        if action.at < (await restored_backup.last(tx) or 0.0):
            # It predates the restored backup; the agents have changed since.
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
                await self.services.agents.desired_states.freeze(tx, row, now=True)
                await self._met_limit(tx, row, key, action)
            elif action.action == "kill":
                await self.services.agents.desired_states.stop(tx, row, now=True)
                await agents.change(tx, row.name, keep_session=False)
        if event_text.is_of_the_gate(action):
            # A temporary refusal does not count as meeting a limit. One by the pace does: it repeats until the client
            # gives up.
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
        """Process the answers of providers in the transaction that records them, after their quota reports."""
        self._answering.heard(entries)
        await self.services.continuing.met_provider(tx, entries)

    async def _met_limit(self, tx: AsyncConnection, row: AgentRow, key: str, action: Action) -> None:
        await self.services.continuing.met_limit(tx, row, key, action)

    def after(self, actions: Sequence[Action]) -> None:
        """Wake the supervisors and the delivery after these actions are committed."""
        for name in dict.fromkeys(action.agent for action in actions if action.action in ENDED_BY):
            self.services.agents.look_again(name)
        if actions:
            self.services.delivery.wake()

    async def catch_up(self) -> None:
        """Report what was held back: a summary of repeated attempts, and refusals that no turn reported.

        Raises:
            RegisterError: the register cannot be written; the audit log contains the actions.
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
                # Any turn since then, because it may have ended before this action was copied.
                failed = await agent_messages.failures(tx, action.agent, since=action.at - _BEFORE_S)
                quoted = any(event_text.quotes(each, action) for each in failed)
                if row is not None and not quoted and (text_ := event_text.told(action)) is not None:
                    await self._note(tx, row, key, text_)
        for key in ripe:
            self._held.pop(key, None)
        self.services.delivery.wake()

    async def _compare_models(self) -> None:
        """Report in an agent's thread, once per launch, that another model answers than the requested one."""
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
        """Hold back a refusal: the end of its turn usually gives the reason, so its report would be redundant."""
        met = self._met.get((action.agent, row.launch_id, str(action.detail.get("scope"))))
        if met is not None and action.at - met < event_text.AGAIN_S and "used up" in action.cause:
            return
        key = event_text.key(action, row.launch_id)
        if len(self._held) < _MOST_HELD:
            self._held.setdefault(key, _Held(action, self.services.clock()))

    def _is_ripe(self, held: _Held) -> bool:
        waited = self.services.clock() - held.since
        return waited >= LONGEST_HELD_S or (
            waited >= SHORTEST_HELD_S and not self.services.agents.in_turn(held.action.agent)
        )

    async def say(self, key: str, text: str) -> None:
        """Post to the main room, if there is one."""
        with contextlib.suppress(RegisterError):
            async with self.services.store.write(COPIED) as tx:
                await rooms.say(self.services, tx, key, text)
            self.services.delivery.wake()

    async def _note(self, tx: AsyncConnection, row: AgentRow, key: str, text: str) -> None:
        if await outbox.get(tx, key) is None:
            await self.services.agents.journal_effects.note(tx, row, key, self.services.redact(text))


def _is_older(action: Action, row: AgentRow) -> bool:
    """Return whether the agent was launched again since the action."""
    return row.started_at is not None and action.at < row.started_at
