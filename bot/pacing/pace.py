"""The pace of spending, as this process knows it: windows gathered, their lines kept, and who is told of changes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.pacing.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from bot.services import Services


@dataclass(kw_only=True, slots=True)
class Pace:
    """Windows and their lines."""

    services: Services
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a window, a line or an authorization is not what it was; whoever waits for that clears it."""
    _callbacks: list[Callable[[], None]] = field(default_factory=list)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have this called, in the event loop, whenever `changed` is set. It must return at once."""
        self._callbacks.append(callback)

    def tell(self) -> None:
        """Something is not what it was: settings, an authorization, what was used."""
        self.changed.set()
        for callback in self._callbacks:
            callback()

    async def snapshot(self) -> Snapshot:
        """Every window as it stands now.

        Raises:
            RegisterError: the register cannot be read.
        """
        from budget.pacing import Policy

        return Snapshot(now=self.services.clock(), policy=Policy(zone=self.services.settings.timezone))

    async def redraw(self, cause: str) -> None:
        """Draw the lines anew that are to be, and keep them.

        Args:
            cause: why now: what `budget.pacing.Line` calls its cause.

        Raises:
            RegisterError: the register cannot be written.
        """
        del cause
        self.tell()

    async def run(self) -> None:
        """Keep the lines, until cancelled."""
        await asyncio.Event().wait()
