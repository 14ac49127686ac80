"""Chat rooms that mirror each other: messages in one appear in the others, and questions to operators in all of them.

A copy is an ordinary row of the outbox. Its key is the key of the original plus the name of its connector. So it is
posted once despite crashes, and can be found again after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bot.messaging.composer import MessagePlace
from bot.text import markdown

_AT = "@"


def _as_named(connector: str, name: str) -> str:
    del connector
    return name


def original(key: str) -> str:
    """Return the key of the original of a copy, or the key itself."""
    return key.partition(_AT)[0]


def copy_key(key: str, connector: str) -> str:
    """Return the key of a copy on another connector."""
    return f"{key}{_AT}{connector}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bridge:
    """The chat rooms that mirror each other; without rooms, nothing is mirrored."""

    rooms: tuple[MessagePlace, ...] = ()
    connectors: tuple[str, ...] = ()
    """The names of all connectors, including those that mirror nothing (any more)."""
    people: Mapping[str, str] = field(default_factory=dict)
    """Names of people by identity, from muster.yaml."""
    locate: Callable[[str, str], str] = field(default=_as_named)
    """Resolver of a connector and a room's name in muster.yaml to the conversation."""

    def joins(self, place: MessagePlace) -> bool:
        """Return whether messages there are mirrored elsewhere."""
        return any(self._is(room, place) for room in self.rooms)

    def spread(self, key: str, place: MessagePlace) -> tuple[tuple[str, MessagePlace], ...]:
        """Return the key and place of each copy of a message: in `place`, and in the rooms that mirror it."""
        return ((key, place), *(self._copies(key, place) if self.joins(place) else ()))

    def standing(
        self, key: str, place: MessagePlace, also: MessagePlace | None = None
    ) -> tuple[tuple[str, MessagePlace], ...]:
        """Return the key and place of each copy of a question: in `place`, and in all rooms of the bridge.

        `also` is added unless one of these places is on its connector.
        """
        copies = self._copies(key, place)
        if also is None or also.connector in {place.connector, *(at.connector for _, at in copies)}:
            return ((key, place), *copies)
        return ((key, place), *copies, (copy_key(key, also.connector), also))

    def keys(self, key: str) -> tuple[str, ...]:
        """Return all keys under which a message or question may have been posted, with any earlier bridge."""
        return (key, *(copy_key(key, name) for name in self.connectors))

    def who(self, identity: str) -> str:
        """Return the name of a person who is mentioned in a room other than theirs (Markdown)."""
        connector, _, person = identity.partition(":")
        name = self.people.get(identity)
        return f"{markdown.code(markdown.one_line(name or person, 120))} on **{connector}**"

    def connector_of(self, identity: str) -> str | None:
        """Return the connector of an identity, or None if it came through none."""
        name, colon, _ = identity.partition(":")
        return name if colon and name in self.connectors else None

    def _copies(self, key: str, place: MessagePlace) -> tuple[tuple[str, MessagePlace], ...]:
        return tuple((copy_key(key, room.connector), room) for room in self.rooms if not self._is(room, place))

    def _is(self, room: MessagePlace, place: MessagePlace) -> bool:
        if room.connector != place.connector or room.conversation is None or place.conversation is None:
            return False
        return self.locate(room.connector, room.conversation) == self.locate(place.connector, place.conversation)
