"""What is known of rooms while the connector runs. None of it is needed after a restart; all of it is bounded."""

from __future__ import annotations

from collections import OrderedDict

from connectors.matrix.content import place

_EVENTS = 4_000
_THREADS = 1_000
_NOTES = 20


class Rooms:
    """Lately seen events and the rooms' own properties."""

    def __init__(self) -> None:
        self._places: OrderedDict[str, str] = OrderedDict()
        self._latest: OrderedDict[str, str] = OrderedDict()
        self._notes: OrderedDict[str, str] = OrderedDict()
        self.encrypted: dict[str, bool] = {}
        """Whether messages in a room are encrypted, where that was asked. Encryption is never switched off again."""

    def saw(self, event_id: str, conversation: str) -> None:
        """An event stands in a conversation, and is the newest there."""
        _put(self._places, event_id, conversation, _EVENTS)
        if place(conversation)[1] is not None:
            _put(self._latest, conversation, event_id, _THREADS)

    def place_of(self, event_id: str) -> str | None:
        """The conversation of an event, if it was seen lately."""
        return self._places.get(event_id)

    def latest(self, conversation: str) -> str | None:
        """The newest event of a thread, if one was seen lately."""
        return self._latest.get(conversation)

    def encrypts(self, room: str) -> None:
        """Messages in this room are encrypted from now on."""
        self.encrypted[room] = True
        self.note(room, f"The room {room} is encrypted, and this connector cannot read it: use a room without.")

    def note(self, about: str, sentence: str) -> None:
        """Keep a sentence for the operator; the newest one about each thing."""
        _put(self._notes, about, sentence, _NOTES)

    def forget_note(self, about: str) -> None:
        """What was noted is no longer so."""
        self._notes.pop(about, None)

    def notes(self) -> tuple[str, ...]:
        """The sentences, newest first."""
        return tuple(reversed(self._notes.values()))


def _put(table: OrderedDict[str, str], key: str, value: str, most: int) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)
