"""What is known of rooms while the connector runs. None of it is needed after a restart; all of it is bounded."""

from __future__ import annotations

from collections import OrderedDict

from connectors.matrix.homeserver_client import HomeserverClient, MatrixRefusal
from connectors.matrix.message_conversion import place

_EVENTS = 4_000
_THREADS = 1_000
_NOTES = 20


class Rooms:
    """Lately seen events and the rooms' own properties."""

    def __init__(self, *, encrypts: bool = False) -> None:
        self._encrypts = encrypts
        """Whether encrypted rooms can be read."""
        self._places: OrderedDict[str, str] = OrderedDict()
        self._latest: OrderedDict[str, str] = OrderedDict()
        self._notes: OrderedDict[str, str] = OrderedDict()
        self._grave: set[str] = set()
        self._replaced: OrderedDict[str, str] = OrderedDict()
        self._left: OrderedDict[str, str] = OrderedDict()
        self.encrypted: dict[str, bool] = {}
        """Whether messages in a room are encrypted, where that was asked. Encryption is never switched off again."""

    def saw(self, event_id: str, conversation: str) -> None:
        """An event is in a conversation, and is the newest there."""
        _put(self._places, event_id, conversation, _EVENTS)
        if place(conversation)[1] is not None:
            _put(self._latest, conversation, event_id, _THREADS)

    def place_of(self, event_id: str) -> str | None:
        """Return the conversation of an event, if it was seen lately."""
        return self._places.get(event_id)

    def latest(self, conversation: str) -> str | None:
        """Return the newest event of a thread, if one was seen lately."""
        return self._latest.get(conversation)

    def encrypts(self, room: str) -> None:
        """Messages in this room are encrypted from now on."""
        self.encrypted[room] = True
        if self._encrypts:
            self.forget_note(room)
        else:
            self.note(
                room,
                f"The room {room} is encrypted, and this connector does not read or write there: write encryption: "
                "allowed into its block in muster.yaml, and restart Muster, or use a room without.",
            )

    def is_plain(self, room: str) -> None:
        """Messages in this room are not encrypted, and nothing is said or taken there."""
        self.note(
            room,
            f"The room {room} is not encrypted, and encryption: required has the bot silent there: switch encryption "
            "on in the room's settings, or write encryption: allowed.",
        )

    def replaced(self, room: str, by: str) -> None:
        """The room was upgraded: what goes on goes on in `by`."""
        _put(self._replaced, room, by, _NOTES)
        self.note(
            f"replaced {room}",
            f"The room {room} was replaced by {by}, and takes no messages. Invite the bot there, write {by} in its "
            "place in muster.yaml, and restart Muster; agents get their threads there when they are launched again.",
            grave=True,
        )

    def left(self, room: str) -> None:
        """The bot was in this room, and is no more."""
        _put(self._left, room, room, _NOTES)

    def was_left(self, room: str) -> bool:
        """Return whether the bot was in this room before, as far as is remembered."""
        return room in self._left

    def replacement(self, room: str) -> str | None:
        """Return what took its place, if that is known."""
        return self._replaced.get(room)

    def note(self, about: str, sentence: str, *, grave: bool = False) -> None:
        """Keep a sentence for the operator; the newest one about each thing. `grave`: something cannot be said or
        heard until someone does something."""
        _put(self._notes, about, sentence, _NOTES)
        (self._grave.add if grave else self._grave.discard)(about)
        self._grave &= self._notes.keys()

    def forget_note(self, about: str) -> None:
        """What was noted is no longer so."""
        self._notes.pop(about, None)
        self._grave.discard(about)

    @property
    def impaired(self) -> bool:
        """Whether something cannot be said or heard."""
        return bool(self._grave)

    def notes(self) -> tuple[str, ...]:
        """Return the sentences, newest first."""
        return tuple(reversed(self._notes.values()))


async def is_encrypted(wire: HomeserverClient, rooms: Rooms, room: str, *, anew: bool = False) -> bool:
    """Return whether messages in a room are encrypted; `anew`: what was known may be old.

    Raises:
        HomeserverRequestError: the homeserver cannot say.
    """
    known = rooms.encrypted.get(room)
    if known or (known is False and not anew):
        return known
    try:
        await wire.call("GET", "rooms", room, "state", "m.room.encryption", "")
    except MatrixRefusal as error:
        if error.code != "M_NOT_FOUND":
            raise
        # A sync may have told of it meanwhile.
        rooms.encrypted.setdefault(room, False)
    else:
        rooms.encrypts(room)
    return rooms.encrypted[room]


def _put(table: OrderedDict[str, str], key: str, value: str, most: int) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)
