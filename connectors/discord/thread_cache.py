"""What is known of threads and messages while the connector runs. None of it is needed after a restart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

_THREADS = 10_000
_MESSAGES = 4_000
_NOTES = 20


class ThreadCache:
    """Threads, authors of lately seen messages, and sentences for the operator."""

    def __init__(self, channel: str, others: Iterable[str] = ()) -> None:
        self.channel = channel
        """The fleet's own channel."""
        self.channels = {channel, *others}
        """All channels that are heard."""
        self._parents: OrderedDict[str, str | None] = OrderedDict()
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._authors: OrderedDict[str, str] = OrderedDict()
        self._notes: OrderedDict[str, str] = OrderedDict()
        self._mild: set[str] = set()
        self._titles: dict[str, tuple[str, bool]] = {}

    def stands(self, thread: str, parent: str | None) -> None:
        """A thread and the channel it is in; None for what is no thread."""
        _put(self._parents, thread, parent, _THREADS)
        self._gone.pop(thread, None)

    def is_gone(self, thread: str) -> None:
        """A thread of our channel was deleted."""
        _put(self._gone, thread, None, _THREADS)

    def instead_of(self, place: str) -> str:
        """Return where that is said which belongs here: in the channel, where this is a thread of it that is gone."""
        return self.channel_of(place) if place in self._gone else place

    def channel_of(self, thread: str) -> str:
        """Return the channel that a thread is in, as far as that is known, or else the fleet's."""
        parent = self._parents.get(thread)
        return parent if parent in self.channels and parent is not None else self.channel

    def knows(self, place: str) -> bool:
        """Return whether it is known what this is."""
        return place in self.channels or place in self._parents

    def is_ours(self, place: str) -> bool:
        """Return whether it is a channel that is heard, or a thread in one."""
        return place in self.channels or self._parents.get(place) in self.channels

    def parent(self, place: str) -> str | None:
        """Return the channel, when this is a thread in it."""
        return self._parents.get(place)

    def named(self, thread: str, title: str, *, archived: bool) -> None:
        """We gave a thread its name."""
        self._titles[thread] = title, archived

    def name(self, thread: str) -> tuple[str, bool] | None:
        """Return the name that we gave a thread, and whether it is archived, as far as nothing was heard to the
        contrary."""
        return self._titles.get(thread)

    def heard_name(self, thread: str, title: object, archived: object) -> None:
        """A thread is called so; what we gave it may have been changed by others."""
        known = self._titles.get(thread)
        if known == (title, True) and archived is False:
            self._titles[thread] = known[0], False
        elif known != (title, archived):
            self._titles.pop(thread, None)

    def spoken_in(self, thread: str) -> None:
        """Something was said there: one that was archived is so no more."""
        if (known := self._titles.get(thread)) is not None:
            self._titles[thread] = known[0], False

    def forget_names(self) -> None:
        """They may have been changed without our hearing of it."""
        self._titles.clear()

    def saw(self, message: str, author: str) -> None:
        """Someone wrote a message."""
        _put(self._authors, message, author, _MESSAGES)

    def author(self, message: str) -> str | None:
        """Return who wrote a message, if it was seen lately."""
        return self._authors.get(message)

    def note(self, about: str, sentence: str, *, mild: bool = False) -> None:
        """Keep a sentence for the operator; the newest one about each thing. What is mild keeps no one from being heard
        or answered."""
        _put(self._notes, about, sentence, _NOTES)
        (self._mild.add if mild else self._mild.discard)(about)

    def forget_note(self, about: str) -> None:
        """What was noted is no longer so."""
        self._notes.pop(about, None)

    def notes(self) -> tuple[str, ...]:
        """Return the sentences, newest first."""
        return tuple(reversed(self._notes.values()))

    @property
    def impaired(self) -> bool:
        """Whether one of them says that someone is not heard, or not answered."""
        return not self._mild.issuperset(self._notes)


def _put(table: OrderedDict[str, Any], key: str, value: str | None, most: int) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)
