"""Commands that cannot be undone wait for a word, or for a reaction, that confirms them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.errors import UserError
from bot.replies import answer_key
from bot.saying import Place
from connectors import outbox

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.commands.execution import Executor, Outcome
    from bot.doors import chat
    from bot.replies import Replies
    from bot.services import Services
    from connectors.inbox import Arrival


@dataclass(frozen=True, slots=True)
class Confirmations:
    services: Services
    executor: Executor
    replies: Replies

    async def by_command(self, arrival: Arrival, confirmation: chat.Confirmation) -> None:
        """Somebody confirms or takes back in words: a run that is named, or the latest that waits for them there."""
        inbound = arrival.inbound
        run_id = confirmation.run_id
        if run_id is None:
            waiting = await self.executor.waiting(inbound.identity, inbound.conversation)
            if not waiting:
                await self.replies.answer(arrival, "Nothing of yours waits for a confirmation here.")
                return
            run_id = waiting[-1].id
        await self.decide(arrival, run_id, confirmed=confirmation.yes)

    async def decide(self, arrival: Arrival, run_id: str, *, confirmed: bool) -> None:
        """Do what waited, or end it undone."""
        inbound = arrival.inbound

        async def finish(tx: AsyncConnection, outcome: Outcome) -> None:
            await self.replies.finish(tx, arrival, outcome)

        try:
            if confirmed:
                async with self.replies.headway(inbound).shown(answer_key(run_id)) as progress:
                    await self.executor.confirm(run_id, inbound.identity, finish=finish, progress=progress)
            else:
                await self.executor.decline(run_id, inbound.identity, finish=finish)
        except UserError as error:
            await self.replies.answer(arrival, str(error))
        self.services.delivery.wake()

    async def lapse(self) -> None:
        """End what nobody confirmed in time, and say so where it was asked for."""

        async def finish(tx: AsyncConnection, outcome: Outcome) -> None:
            if outcome.origin is None:
                return
            place = Place(outcome.origin.connector, conversation=outcome.origin.conversation)
            can = self.services.capabilities(place.connector)
            for outbound in self.replies.speaker.say(answer_key(outcome.run_id), outcome.text, place, can):
                await outbox.put(tx, outbound, self.services.clock())

        if await self.executor.lapse(finish=finish):
            self.services.delivery.wake()
