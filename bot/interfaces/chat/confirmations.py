"""Confirmation of irreversible commands by a message, a reaction or a button."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.services import AgentServices
from bot.commands.executor import Executor, RunOutcome
from bot.interfaces.chat import command_input
from bot.messaging.composer import MessagePlace
from bot.messaging.outbox_keys import answer_key
from bot.messaging.replies import REMARK, Replies, derived_id
from bot.text.errors import UserError
from connectors.contract.messages import Inbound
from connectors.delivery import outbox
from connectors.delivery.inbox import Arrival
from database.queries.operations import command_runs


@dataclass(frozen=True, slots=True)
class Confirmations:
    services: AgentServices
    executor: Executor
    replies: Replies

    async def by_command(self, arrival: Arrival, confirmation: command_input.Confirmation) -> None:
        """Confirm or decline by message the named run, or the person's latest waiting run in that conversation."""
        inbound = arrival.inbound
        run_id = confirmation.run_id or await self._meant(inbound)
        if run_id is None:
            await self.replies.answer(arrival, "Nothing of yours waits for a confirmation here.")
            return
        await self.decide(arrival, run_id, confirmed=confirmation.yes)

    async def _meant(self, inbound: Inbound) -> str | None:
        """Return the run that an event without an id refers to.

        A repeated event refers to the same run, even if that run no longer waits and another one does.
        """
        name = f"meant by {derived_id('y', inbound)}"
        waiting = await self.executor.waiting(inbound.identity, inbound.conversation)
        async with self.services.store.write(REMARK) as tx:
            run_id = await command_runs.with_step(tx, name)
            if run_id is None and waiting:
                run_id = waiting[-1].id
                await command_runs.add_step(tx, run_id, name, None, self.services.clock())
        return run_id

    async def decide(self, arrival: Arrival, run_id: str, *, confirmed: bool) -> None:
        """Run or decline a waiting command."""
        inbound = arrival.inbound

        async def finish(tx: AsyncConnection, outcome: RunOutcome) -> None:
            await self.replies.close(tx, outcome)
            await self.replies.finish(tx, arrival, outcome)

        try:
            if confirmed:
                async with self.replies.progress(inbound).shown(answer_key(run_id)) as progress:
                    await self.executor.confirm(
                        run_id, inbound.identity, groups=inbound.groups, finish=finish, progress=progress
                    )
            else:
                await self.executor.decline(run_id, inbound.identity, finish=finish)
        except UserError as error:
            await self.replies.answer(arrival, str(error))
        self.services.delivery.wake()

    async def lapse(self) -> None:
        """End the commands that were not confirmed in time, and report this in their conversations."""

        async def finish(tx: AsyncConnection, outcome: RunOutcome) -> None:
            if outcome.origin is None:
                return
            await self.replies.close(tx, outcome)
            place = MessagePlace(outcome.origin.connector, conversation=outcome.origin.conversation)
            for key, at in self.services.bridge.spread(answer_key(outcome.run_id), place):
                can = self.services.capabilities(at.connector)
                for outbound in self.replies.speaker.say(key, outcome.text, at, can):
                    await outbox.put(tx, outbound, self.services.clock())

        if await self.executor.lapse(finish=finish):
            self.services.delivery.wake()
