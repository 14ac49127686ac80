"""What happened to the rows that others refer to, and which lanes wait to hear of it.

A row can refer to two others: to the one that opens its thread, and to the message of ours that it changes or marks.
Both must be sent, dead or superseded before it can go, and tell where it goes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from connectors.contract.messages import React, Replace, Retitle
from connectors.delivery.lane import Lane
from connectors.delivery.outbox import OutboxRowState, Row, lane_of, own_target

_KEPT: Final = 4096


def referred_to(row: Row) -> list[str]:
    """Keys that must have been dealt with before this row can go."""
    keys = (row.outbound.thread_of, own_target(row.outbound.content))
    return [key for key in keys if key is not None]


class OutboxDependencies:
    """What is known of the rows of one connector that wait no longer."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, OutboxRowState] = OrderedDict()
        #: For each key that something waits for: the names of the lanes that wait.
        self._waiting: dict[str, set[str]] = {}
        self._unknown: set[str] = set()

    def learn(self, key: str, standing: OutboxRowState) -> set[str]:
        """Note what happened to a row. Returns the lanes that waited for it."""
        self._known[key] = standing
        self._known.move_to_end(key)
        while len(self._known) > _KEPT:  # whoever needs it again asks again
            self._known.popitem(last=False)
        return self.release(key)

    def forget(self, key: str) -> None:
        """The row waits again."""
        self._known.pop(key, None)

    def release(self, key: str) -> set[str]:
        """Return the lanes that waited for a row; they have to be looked at again."""
        self._unknown.discard(key)
        return self._waiting.pop(key, set())

    def wait(self, lane: str, key: str, *, ask: bool) -> None:
        """A lane waits for a row. `ask`: it is not among those that wait to be sent, so the register must know."""
        self._waiting.setdefault(key, set()).add(lane)
        if ask:
            self._unknown.add(key)

    def unknown(self) -> set[str]:
        """Keys that the register is to be asked for."""
        return set(self._unknown)

    def open_question(self, row: Row) -> str | None:
        """Return a key that must be dealt with before this row can go."""
        return next((key for key in referred_to(row) if key not in self._known), None)

    def hopeless(self, row: Row) -> str | None:
        """Return why this row, which has no open question, can never go."""
        if self.conversation(row) is None:
            return f"its thread was to be opened by {row.outbound.thread_of}, which is not there"
        opener = self._known.get(row.outbound.thread_of or "")
        if isinstance(row.outbound.content, Retitle) and opener is not None:
            # Where there are no threads, that which would open one says where it stands itself.
            made = opener.made_conversation
            return "its thread never opened" if made is None or made == opener.conversation else None
        target = own_target(row.outbound.content)
        if target is not None and self._known[target].state != "sent" and not self.stands_alone(row):
            return f"it is about {target}, which was not delivered"
        return None

    def stands_alone(self, row: Row) -> bool:
        """Return whether a row has the last word on a message that was left unsaid, and so is said as a message
        itself."""
        content = row.outbound.content
        return isinstance(content, Replace) and content.final and self._known[content.target].state == "superseded"

    def still_said(self, row: Row, lanes: Iterable[Lane]) -> str | None:
        """Return the lane of something that waits to be said in the thread that `row` puts away, if it does so."""
        content, place = row.outbound.content, self.conversation(row)
        if not isinstance(content, Retitle) or not content.archived:
            return None
        for lane in lanes:
            first = lane.rows[0].outbound if lane.rows else None
            if first is None or isinstance(first.content, Retitle):
                continue
            joins = first.thread_of is not None and first.thread_of == row.outbound.thread_of
            if joins or self.conversation(lane.rows[0]) == place:
                return lane.name
        return None

    def conversation(self, row: Row) -> str | None:
        """Return where a row goes, as far as that is known; a thread that never opened falls back to its opener's
        place."""
        if row.outbound.thread_of is None:
            return row.outbound.conversation
        opener = self._known.get(row.outbound.thread_of)
        return None if opener is None else opener.made_conversation or opener.conversation

    def threadless(self, row: Row) -> bool:
        """Return whether a row, which has no open question, belongs in a thread that never opened."""
        opener = self._known.get(row.outbound.thread_of or "")
        return opener is not None and opener.made_conversation in (None, opener.conversation)

    def target(self, row: Row) -> str | None:
        """Return the event that a row, which has no open question, is about."""
        content = row.outbound.content
        if (key := own_target(content)) is not None:
            return self._known[key].event_id
        return content.target if isinstance(content, React) else None

    def lane(self, row: Row) -> str:
        """Return the name of the lane in which a row goes, as far as its conversation is known."""
        place = self.conversation(row)
        if row.outbound.thread_of is None or place is None:
            return lane_of(row.outbound)
        return lane_of(replace(row.outbound, conversation=place, thread_of=None))
