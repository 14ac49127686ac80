"""Deduplication of events that several connectors receive because they are in the same room.

Event ids of Matrix are unique across servers (Matrix specification v1.11, room versions 3 and later), so connectors
recognize each other's events. Events in a connector's main room belong to that connector. All others belong to the
connector that receives them first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.config.schema import ConnectorSettings
from connectors.delivery import inbox
from connectors.delivery.inbox import Arrival

#: Connector kinds with event ids that are the same for every reader.
_KINDS = frozenset({"matrix"})


@dataclass(frozen=True, kw_only=True, slots=True)
class DuplicateEvents:
    """The connectors that may receive the same events."""

    rooms: Mapping[str, str] = field(default_factory=dict)
    """The main rooms of those connectors, by the connectors' names in muster.yaml."""
    users: frozenset[str] = frozenset()
    """Muster's own users on those connectors."""
    locate: Callable[[str, str], str] | None = None
    """Returns the conversation of a room, from the connector's name and the room's name in muster.yaml."""

    @classmethod
    def of(cls, connectors: tuple[ConnectorSettings, ...], locate: Callable[[str, str], str]) -> DuplicateEvents:
        those = [each for each in connectors if each.kind in _KINDS]
        if len(those) < 2:
            return cls()
        users = {user for each in those if isinstance(user := getattr(each.settings, "user", None), str)}
        return cls(rooms={each.name: each.room or "" for each in those}, users=frozenset(users), locate=locate)

    async def why_not(self, tx: AsyncConnection, arrival: Arrival) -> str | None:
        """Return the reason to ignore an event, or None to process it.

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
