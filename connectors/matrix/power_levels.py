"""Power levels as a source of permission (Client-Server API v1.11, "m.room.power_levels"; room version 12, "creators").

Whoever has reached a level that the settings name is in its group, ``level:50``. Four things keep strangers out:

- Only the rooms that the settings name count: in a room of their own, anybody has any level.
- What counts is what someone was given by name. What everybody has (``users_default``) gives nothing.
- A level counts as it was when the message was said. Events come in order, and how things stood at the place up to
  which was read is part of the cursor.
- Other homeservers can tell of what was said, and of changes, in an order of their own, and of changes that the room
  did not take. For what comes from there the lower level counts: that of then, or that of now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from connectors.matrix.homeserver_client import HomeserverClient, MatrixRefusal
from connectors.matrix.room_cache import Rooms

Json: TypeAlias = dict[str, Any]

#: Creators of rooms of version 12 have no number; they outrank every one.
CREATOR = 2**53
#: People in a room who can have a level of their own; of more, those with the highest.
_MOST = 200
_LONGEST_ID = 255

_POWER = "m.room.power_levels"
_CREATE = "m.room.create"


# --- what is decided ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Levels:
    """What people have been given by name in one room. No one has less than 1 here."""

    users: Mapping[str, int] = field(default_factory=dict)
    default: int = 0
    """What everybody has, which counts for nothing here."""

    def of(self, user: str) -> int:
        """Return the level of someone; 0 for who was given none."""
        return self.users.get(user, 0)

    def lower(self, other: Levels) -> Levels:
        """For each the lower of both."""
        users = {user: min(level, other.of(user)) for user, level in self.users.items()}
        return Levels({user: level for user, level in users.items() if level > 0}, self.default)

    def encode(self) -> Json:
        """As a JSON object."""
        return {"users": dict(sorted(self.users.items())), "default": self.default}

    @classmethod
    def decode(cls, stored: Json) -> Levels:
        """Read what `encode` wrote."""
        return cls({str(user): int(level) for user, level in stored["users"].items()}, int(stored["default"]))


def read(power: Json | None, create: Json) -> Levels:
    """Return what a room's state says.

    Args:
        power: the content of ``m.room.power_levels``; None where there is none.
        create: the event that began the room, or its content alone under ``content``.
    """
    content = _object(create.get("content"))
    found = {user: _number(level) for user, level in _object(_object(power).get("users")).items()}
    if _has_creators(content.get("room_version")):
        more = content.get("additional_creators")
        creators = [create.get("sender"), *(more if isinstance(more, list) else ())]
        found |= {user: CREATOR for user in creators if isinstance(user, str)}
    elif power is None:
        # Without the event, whoever began the room has 100, and no one else anything.
        creator = content.get("creator", create.get("sender"))
        found = {creator: 100} if isinstance(creator, str) else {}
    known = [(user, level) for user, level in found.items() if level > 0 and _plausible(user)]
    known.sort(key=lambda each: (-each[1], each[0]))
    return Levels(dict(known[:_MOST]), _number(_object(power).get("users_default")))


def _has_creators(version: object) -> bool:
    # Versions of unknown names have none, so that no one is given more than they have.
    return isinstance(version, str) and re.fullmatch(r"[0-9]{1,6}", version) is not None and int(version) >= 12


def _number(level: object) -> int:
    # Before room version 10 homeservers took numbers that are written as texts.
    if isinstance(level, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,16}\s*", level):
        level = int(level)
    if not isinstance(level, int) or isinstance(level, bool):
        return 0
    return max(-CREATOR, min(level, CREATOR - 1))


def _plausible(user: str) -> bool:
    return len(user) <= _LONGEST_ID and user.startswith("@") and user.isprintable()


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


# --- what is done ------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class PowerLevels:
    """Who has which of the levels that count, in the rooms that count."""

    server: str
    """Ours; only others' can put what is said today where it looks like yesterday's."""
    steps: Collection[int]
    """The levels that the settings name; none: nothing is looked at."""
    counts: Callable[[str], bool]
    """Whether a room is one that the settings name."""
    rooms: Rooms
    _known: dict[str, Levels] = field(default_factory=dict, init=False)
    _now: dict[str, Levels] = field(default_factory=dict, init=False)
    """How things stand in a room at present, where what follows has to be compared with it."""
    _ahead: dict[str, Levels] = field(default_factory=dict, init=False)
    """How things stood in a room before the sync that is dealt with."""
    _changed: set[str] = field(default_factory=set, init=False)
    """Rooms in which that sync tells of a change."""
    _create: dict[str, Json] = field(default_factory=dict, init=False)

    def take(self, known: Iterable[tuple[str, Levels]]) -> None:
        """How things stood at the place from which is read now."""
        self._known = dict(known)
        self._now.clear()
        self._changed.clear()

    def known(self) -> tuple[tuple[str, Levels], ...]:
        """Return how things stand at the place up to which was read."""
        return tuple(sorted(self._known.items(), key=lambda each: each[0]))

    async def look_ahead(self, wire: HomeserverClient, rooms: Iterable[str]) -> None:
        """Ask how things stand in rooms before it is read what happened in them; `settle` it afterwards.

        Homeservers of a room can come to agree on another state than any event tells. That is found in this way, and
        what changes while we ask still comes in its turn.

        Raises:
            HomeserverRequestError: the homeserver cannot say now.
        """
        self._ahead = {room: await self._ask(wire, room) for room in rooms if self.steps and self.counts(room)}

    def settle(self) -> None:
        """All was read up to the place at which it was looked ahead, and maybe beyond."""
        for room, levels in self._ahead.items():
            if room not in self._changed:
                self._known[room] = levels
                self._tell(room)
        self._ahead = {}

    async def prepare(self, wire: HomeserverClient, room: str, events: Collection[Json], *, gap: bool = False) -> None:
        """Before events of a room are walked through: ask how things stand at present, where that is needed.

        Args:
            wire: to the homeserver.
            room: the room.
            events: what is going to be walked through.
            gap: whether they are read from the room's history, whose order is not that in which they arrived.

        Raises:
            HomeserverRequestError: the homeserver cannot say now.
        """
        if not self.steps or not events or not self.counts(room):
            return
        changes = [event for event in events if _changes(event)]
        foreign = any(self._is_foreign(event.get("sender")) for event in changes)
        if room in self._known and not foreign and (not gap or room in self._now):
            return
        self._now[room] = await self._ask(wire, room)
        # How things were before a change is not known where nothing was.
        self._known.setdefault(room, Levels() if changes else self._now[room])
        self._tell(room)

    def learn(self, room: str, state: Iterable[Json]) -> None:
        """What a sync tells of a room's state beside its timeline: it can be of the beginning of that or of its end."""
        for event in state:
            if room in self._known and _changes(event):
                self._known[room] = self._known[room].lower(read(_object(event.get("content")), self._begun(room)))
                self._changed.add(room)

    def walk(self, room: str, event: Json) -> None:
        """Go past an event."""
        if room in self._known and _changes(event):
            said = read(_object(event.get("content")), self._begun(room))
            # That it is in the timeline does not mean that the room took it.
            foreign = self._is_foreign(event.get("sender"))
            self._known[room] = said.lower(self._now.get(room, Levels())) if foreign else said
            self._changed.add(room)
            self._tell(room)

    def groups(self, room: str, sender: str, *, gap: bool = False) -> tuple[str, ...]:
        """Return the groups of someone who speaks at this place."""
        levels = self._known.get(room)
        if levels is None or not self.counts(room):
            return ()
        if gap and self._is_foreign(sender):
            levels = levels.lower(self._now.get(room, Levels()))
        level = levels.of(sender)
        return tuple(f"level:{step}" for step in sorted(self.steps) if level >= step)

    def forget(self, room: str) -> None:
        """What is known of a room is not to be relied on."""
        self._known.pop(room, None)
        self._ahead.pop(room, None)

    def _is_foreign(self, sender: object) -> bool:
        return not isinstance(sender, str) or sender.partition(":")[2] != self.server

    async def _ask(self, wire: HomeserverClient, room: str) -> Levels:
        if room not in self._create:
            self._create[room] = await _begun(wire, room)
        power: Json | None = None
        try:
            power = await wire.call("GET", "rooms", room, "state", _POWER, "")
        except MatrixRefusal as error:
            if error.passes:
                raise
            if error.code != "M_NOT_FOUND":
                # Not in the room: whoever spoke there is given nothing.
                return Levels()
        return read(power, self._begun(room))

    def _begun(self, room: str) -> Json:
        return self._create.get(room, {})

    def _tell(self, room: str) -> None:
        note, everybody = f"levels {room}", self._known[room].default
        if self.steps and everybody >= min(self.steps):
            self.rooms.note(
                note,
                f"In {room} everybody has power level {everybody} (users_default). That gives nobody a permission; a "
                "level counts that somebody was given by name.",
            )
        else:
            self.rooms.forget_note(note)


def _changes(event: Json) -> bool:
    return event.get("type") == _POWER and event.get("state_key") == ""


async def _begun(wire: HomeserverClient, room: str) -> Json:
    """Return the event that began the room, or its content where the homeserver does not tell who sent it."""
    try:
        found = await wire.call("GET", "rooms", room, "state", _CREATE, "", query={"format": "event"})
    except MatrixRefusal as error:
        if error.passes:
            raise
        return {}
    whole = found.get("type") == _CREATE and isinstance(found.get("content"), dict)
    return found if whole else {"content": found}
