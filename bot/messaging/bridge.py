"""The rooms that mirror the fleet's. What is said in one of them is said in the others, and what operators are asked
is in all of them.

A copy is a row of the outbox as any other, under the key of what it is a copy of and the name of its connector. So it
exists once, whatever dies in between, and can be found again after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.text import markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bot.messaging.composer import MessagePlace

_AT = "@"


def _as_named(connector: str, name: str) -> str:
    del connector
    return name


def original(key: str) -> str:
    """Return the key of what a message of ours is a copy of; of anything else, its own."""
    return key.partition(_AT)[0]


def copy_key(key: str, connector: str) -> str:
    """Return the key of a copy on another connector."""
    return f"{key}{_AT}{connector}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bridge:
    """Which rooms mirror each other; with none, nothing is mirrored."""

    rooms: tuple[MessagePlace, ...] = ()
    connectors: tuple[str, ...] = ()
    """The names of all connectors, also of those that mirror nothing (any more)."""
    people: Mapping[str, str] = field(default_factory=dict)
    """The names of people, by their identities, where muster.yaml says them."""
    locate: Callable[[str, str], str] = field(default=_as_named)
    """From a connector and what muster.yaml calls a room there to the conversation that it is."""

    def joins(self, place: MessagePlace) -> bool:
        """Return whether what is said there is said elsewhere, too."""
        return any(self._is(room, place) for room in self.rooms)

    def spread(self, key: str, place: MessagePlace) -> tuple[tuple[str, MessagePlace], ...]:
        """Under which key and where that is said which is said in `place`: there, and in the rooms that mirror it."""
        return ((key, place), *(self._copies(key, place) if self.joins(place) else ()))

    def standing(
        self, key: str, place: MessagePlace, also: MessagePlace | None = None
    ) -> tuple[tuple[str, MessagePlace], ...]:
        """Under which key and where that is asked which is asked in `place`: there, and in all rooms of the bridge; in
        `also` unless one of those is of its connector."""
        copies = self._copies(key, place)
        if also is None or also.connector in {place.connector, *(at.connector for _, at in copies)}:
            return ((key, place), *copies)
        return ((key, place), *copies, (copy_key(key, also.connector), also))

    def keys(self, key: str) -> tuple[str, ...]:
        """Return all keys under which something may stand that was said or asked under `key`, however it was bridged
        then."""
        return (key, *(copy_key(key, name) for name in self.connectors))

    def who(self, identity: str) -> str:
        """Someone who is spoken of in another room than theirs (Markdown)."""
        connector, _, person = identity.partition(":")
        name = self.people.get(identity)
        return f"{markdown.code(markdown.one_line(name or person, 120))} on **{connector}**"

    def connector_of(self, identity: str) -> str | None:
        """Return the connector that someone is known by; None: they came through none."""
        name, colon, _ = identity.partition(":")
        return name if colon and name in self.connectors else None

    def _copies(self, key: str, place: MessagePlace) -> tuple[tuple[str, MessagePlace], ...]:
        return tuple((copy_key(key, room.connector), room) for room in self.rooms if not self._is(room, place))

    def _is(self, room: MessagePlace, place: MessagePlace) -> bool:
        if room.connector != place.connector or room.conversation is None or place.conversation is None:
            return False
        return self.locate(room.connector, room.conversation) == self.locate(place.connector, place.conversation)
