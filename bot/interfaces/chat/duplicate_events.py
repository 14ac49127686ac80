"""Connectors that are in the same room read the same event: it counts once.

Events of Matrix have ids that no other server gives (Matrix specification v1.11, room versions 3 and later), so two
connectors tell each other's events. What is said in a connector's main room is that connector's; anything else is whose
comes first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from connectors.delivery import inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.config.schema import ConnectorSettings
    from connectors.delivery.inbox import Arrival

#: The kinds whose events have one id, whoever reads them.
_KINDS = frozenset({"matrix"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """Which connectors may read the same."""

    rooms: Mapping[str, str] = field(default_factory=dict)
    """The main rooms of those connectors, by their names in muster.yaml."""
    users: frozenset[str] = frozenset()
    """Those who are Muster itself on them."""
    locate: Callable[[str, str], str] | None = None
    """From a connector and what muster.yaml calls a room there to the conversation that it is."""

    @classmethod
    def of(cls, connectors: tuple[ConnectorSettings, ...], locate: Callable[[str, str], str]) -> Overlap:
        those = [each for each in connectors if each.kind in _KINDS]
        if len(those) < 2:
            return cls()
        users = {user for each in those if isinstance(user := getattr(each.settings, "user", None), str)}
        return cls(rooms={each.name: each.room or "" for each in those}, users=frozenset(users), locate=locate)

    async def why_not(self, tx: AsyncConnection, arrival: Arrival) -> str | None:
        """Return why an event is none of its connector's business; None: it is.

        Raises:
            RegisterError: the register cannot be read.
        """
        inbound = arrival.inbound
        if inbound.connector not in self.rooms:
            return None
        if inbound.sender in self.users:
            return "said by Muster itself"
        room = inbound.parent or inbound.conversation
        for name, main in self.rooms.items():
            if main and (main if self.locate is None else self.locate(name, main)) == room:
                return None if name == inbound.connector else f"{name} reads this room"
        for name in self.rooms:
            other = None if name == inbound.connector else await inbox.find(tx, name, inbound.event_id)
            if other is not None and other.seq < arrival.seq:
                return f"{name} read it already"
        return None
