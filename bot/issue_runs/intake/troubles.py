"""Errors of the forge: in health while they last, and in the room once per kind and hour."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake import text as intake_text
from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import MessagePlace
from bot.text.errors import UserError
from core.crash_points import declare
from core.errors import MusterError
from database.engine.store import Store
from forge.model.errors import ForgeAway, ForgeRefused

TELL = declare("forge.tell_trouble")

#: Seconds that a forge may be away before the room is told; restarts are normal.
PATIENCE_S: Final = 300.0
#: How many errors health names.
_NAMED: Final = 50

_log = structlog.get_logger("forge.intake")


@dataclass(slots=True)
class Troubles:
    """What does not work at the forge now."""

    store: Store
    link: ForgeLink
    channel: AgentChannel
    room: Callable[[], tuple[str, str]]
    wake_delivery: Callable[[], None]
    clock: Callable[[], float]
    _away_since: float | None = field(default=None)

    async def met(self, doing: str, error: Exception) -> None:
        """Note an error, and tell the room unless an error of this kind was told in this hour.

        Raises:
            RegisterError: the register is away.
        """
        text = str(error) if isinstance(error, MusterError) else "An internal error in Muster. Its log has more."
        _log.warning("forge.trouble", doing=doing, reason=text)
        if len(self.link.trouble) < _NAMED or doing in self.link.trouble:
            self.link.trouble[doing] = text
        now = self.clock()
        if isinstance(error, ForgeAway):
            self._away_since = now if self._away_since is None else min(self._away_since, now)
            if now - self._away_since < PATIENCE_S:
                return
        try:
            connector, room = self.room()
        except UserError:
            return
        shown = error if isinstance(error, MusterError) else MusterError(text)
        key = f"forge/trouble/{_kind(self.link.host, error)}/{int(now // 3600)}"
        async with self.store.write(TELL) as tx:
            said = intake_text.trouble(doing, shown)
            await self.channel.speak(tx, key, said, MessagePlace(connector, conversation=room))
        self.wake_delivery()

    def ended(self, doing: str) -> None:
        """Note that something works again."""
        self._away_since = None
        self.link.trouble.pop(doing, None)


def _kind(host: str, error: Exception) -> str:
    code = error.code if isinstance(error, MusterError) else "internal"
    status = error.status if isinstance(error, ForgeRefused) else 0
    return f"{hashlib.blake2s(host.encode(), digest_size=4).hexdigest()}/{code}/{status}"
