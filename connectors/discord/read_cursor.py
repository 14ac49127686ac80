"""How far the channel, its threads and direct conversations were read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from connectors.contract.connector_protocol import NeedsPerson

#: How late, at most, a message can come after a younger one of another conversation: ten minutes, in parts of an id.
_LATE = 600_000 << 22
#: Direct conversations of which it is remembered how far they were read.
MOST_DIRECT = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadCursor:
    """In the server everything up to `floor` was read; what spoke lately, and each direct conversation, up to its mark.

    Ids of messages grow with time across all of Discord (API reference, "Snowflakes"), so a thread that has said
    nothing for a while needs no mark of its own, and the cursor stays small whatever the number of threads. What is
    said in the server says nothing of direct conversations, and the other way round: one may be read late, and there
    are few.
    """

    floor: int
    marks: dict[str, int] = field(default_factory=dict)
    direct: dict[str, int] = field(default_factory=dict)
    """Direct conversations, the latest last, and how far each was read: Discord does not list them."""
    channel: str | None = None
    """The channel that was read; None where an earlier version of Muster wrote it down."""
    others: tuple[str, ...] = ()
    """The other channels that were read."""

    def of(self, conversation: str) -> int:
        """Return the last message that was read in a conversation."""
        direct = self.direct.get(conversation)
        return max(self.floor, self.marks.get(conversation, 0)) if direct is None else direct

    def read(self, conversation: str, message: int) -> ReadCursor:
        """It was read up to this message."""
        if message <= self.of(conversation):
            return self
        if conversation in self.direct:
            return replace(self, direct=self.direct | {conversation: message})
        return replace(self, marks=self.marks | {conversation: message})

    def settled(self) -> ReadCursor:
        """Return the same with a higher floor, as far as all was read that was said below it."""
        floor = max(self.floor, max(self.marks.values(), default=0) - _LATE)
        return replace(self, floor=floor, marks={key: mark for key, mark in self.marks.items() if mark > floor})

    def knows(self, direct: str, said: int) -> ReadCursor:
        """There is this direct conversation. One that is new was read up to what was said there first."""
        if self.direct and next(reversed(self.direct)) == direct:
            return self
        others = [(each, mark) for each, mark in self.direct.items() if each != direct]
        latest = (direct, self.direct.get(direct, said))
        return replace(self, direct=dict([*others, latest][-MOST_DIRECT:]))

    def encode(self) -> str:
        """As a cursor."""
        found = {"floor": self.floor, "marks": self.marks, "direct": self.direct, "channel": self.channel}
        return json.dumps(found | ({"others": list(self.others)} if self.others else {}))

    @classmethod
    def decode(cls, cursor: str) -> ReadCursor:
        """Read a cursor.

        Raises:
            NeedsPerson: it is none of ours.
        """
        try:
            found = json.loads(cursor)
            channel, floor, direct = found.get("channel"), int(found["floor"]), found["direct"]
            marks = {str(key): int(mark) for key, mark in found["marks"].items()}
            if isinstance(direct, list):
                # As an earlier version of Muster wrote it: one floor for all that is said anywhere.
                direct = {str(each): max(floor, marks.pop(str(each), 0)) for each in direct}
            return cls(
                floor=floor,
                marks=marks,
                direct={str(key): int(mark) for key, mark in direct.items()},
                channel=None if channel is None else str(channel),
                others=tuple(str(each) for each in found.get("others", ())),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            raise NeedsPerson(
                "The place in the chat up to which Muster has read was written by another version and cannot be "
                "understood. Start the version of Muster that wrote it."
            ) from None
