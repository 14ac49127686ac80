"""Typing indicators: during an agent's turn, one is shown in the conversation where the answer will appear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from bot.agents.context import AgentContext
from bot.agents.journal.turn_view import TurnView
from core.async_waits import set_within
from database.queries.agents import agents

#: Seconds after which the typing indicator is renewed, because chat systems let it expire.
TYPE_AGAIN = 20.0


@dataclass(kw_only=True, slots=True)
class TypingIndicator:
    """The typing indicator of one agent."""

    name: str
    context: AgentContext
    turn: Callable[[], TurnView | None]
    """Returns the open turn, or None."""
    _turned: asyncio.Event = field(default_factory=asyncio.Event)

    def turned(self) -> None:
        """Note that a turn began or ended."""
        self._turned.set()

    async def run(self) -> None:
        """Show the typing indicator while a turn is open, until cancelled."""
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
                await set_within(self._turned, TYPE_AGAIN if place is not None else None)
        finally:
            if shown is not None:
                await self.context.show_typing(*shown, False)

    async def _whereabouts(self, message: str) -> tuple[str, str] | None:
        """Return the connector and conversation in which a message is answered, or None until its thread exists."""
        async with self.context.store.read() as tx:
            row = await agents.get(tx, self.name)
            return None if row is None else await self.context.journal_effects.conversation(tx, row, message)
