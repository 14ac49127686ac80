"""Shows, while an agent works on a turn, that someone is at work, in the conversation where its answer will be."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from database.queries.agents import agents

if TYPE_CHECKING:
    from collections.abc import Callable

    from bot.agents.context import AgentContext
    from bot.agents.journal.turn_view import TurnView

#: "Typing" is shown again after this, seconds; chat systems forget it.
TYPE_AGAIN = 20.0


@dataclass(kw_only=True, slots=True)
class TypingIndicator:
    """Of one agent."""

    name: str
    context: AgentContext
    turn: Callable[[], TurnView | None]
    """The turn that is open."""
    _turned: asyncio.Event = field(default_factory=asyncio.Event)

    def turned(self) -> None:
        """A turn began or ended."""
        self._turned.set()

    async def run(self) -> None:
        """While a turn is open, show in its conversation that someone is at work."""
        shown: tuple[str, str] | None = None
        try:
            while True:
                self._turned.clear()
                view = self.turn()
                place = await self._whereabouts(view.message) if view is not None else None
                if shown is not None and shown != place:
                    await self.context.show_typing(*shown, False)
                if place is not None:
                    await self.context.show_typing(*place, True)
                shown = place
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TYPE_AGAIN if place is not None else None):
                        await self._turned.wait()
        finally:
            if shown is not None:
                await self.context.show_typing(*shown, False)

    async def _whereabouts(self, message: str) -> tuple[str, str] | None:
        """Connector and conversation in which a message is answered; None while its thread does not stand."""
        async with self.context.store.read() as tx:
            row = await agents.get(tx, self.name)
            return None if row is None else await self.context.teller.conversation(tx, row, message)
