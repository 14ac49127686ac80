"""Who reads what we write in an encrypted room, and how long a group session lasts there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from connectors.contract.connector_protocol import MessageRefused
from connectors.matrix.crypto.outbound_sessions import Rotation
from connectors.matrix.crypto.primitives import MEGOLM
from connectors.matrix.homeserver_client import HomeserverClient, MatrixRefusal

Json: TypeAlias = dict[str, Any]

#: What a room may ask for as the end of a group session: none is so short that handing out keys is all, and none so
#: long that one lost key opens everything.
_LEAST_MESSAGES, _MOST_MESSAGES = 10, 10_000
_LEAST_MS, _MOST_MS = 3_600_000, 30 * 86_400_000
#: How often it is asked who is in a room when that changes meanwhile.
_ATTEMPTS = 3


@dataclass(kw_only=True)
class EncryptionRecipients:
    """The people in rooms. What was asked holds until something in the room changes it."""

    wire: HomeserverClient
    me: str
    trust_all: bool
    may_read: Callable[[str, Sequence[str]], Awaitable[bool]]
    """Whether a person who is in these groups has a permission."""
    groups: Callable[[str, str], tuple[str, ...]]
    """The groups in which somebody is in a room."""
    _members: dict[str, frozenset[str]] = field(default_factory=dict, init=False)
    _rotations: dict[str, Rotation] = field(default_factory=dict, init=False)
    _changes: int = field(default=0, init=False)
    """Rises with each change in any room: an answer that was under way then may be from before it."""

    def observe(self, room: str, event: Json) -> None:
        """Something of a room's state that decides who reads what."""
        match event.get("type"):
            case "m.room.member":
                self._changes += 1
                self._members.pop(room, None)
            case "m.room.encryption":
                self._changes += 1
                self._rotations.pop(room, None)

    def missed(self, room: str) -> None:
        """Something happened in a room that we were not shown."""
        self._changes += 1
        self._members.pop(room, None)
        self._rotations.pop(room, None)

    async def of(self, room: str) -> set[str]:
        """Return who of those in the room may read what we write.

        Raises:
            HomeserverRequestError: the homeserver cannot say who is in it.
        """
        return {user for user in await self._in(room) if await self.reads(room, user)}

    async def is_member(self, room: str, user: str) -> bool:
        """Return whether someone is in the room.

        Raises:
            HomeserverRequestError: the homeserver cannot say who is in it.
        """
        return user in await self._in(room)

    async def _in(self, room: str) -> frozenset[str]:
        for _ in range(_ATTEMPTS):
            if (known := self._members.get(room)) is not None:
                return known
            before = self._changes
            answer = await self.wire.call("GET", "rooms", room, "members", query={"not_membership": "leave"})
            members = frozenset(
                event["state_key"]
                for event in _list(answer.get("chunk"))
                if isinstance(event, dict)
                and isinstance(event.get("state_key"), str)
                and _object(event.get("content")).get("membership") in ("join", "invite")
            )
            if before == self._changes:
                self._members[room] = members
                break
        return members

    async def reads(self, room: str | None, user: str) -> bool:
        """Return whether someone may read what we write in that room, or in any in which we know them."""
        return self.trust_all or (user != self.me and await self.is_known(room, user))

    async def is_known(self, room: str | None, user: str) -> bool:
        """Return whether someone has a permission, in that room or in any in which we know them."""
        places = self.rooms_of(user) if room is None else [room]
        groups = {group for place in places for group in self.groups(place, user)}
        return await self.may_read(user, sorted(groups))

    def rooms_of(self, user: str) -> list[str]:
        """Return the rooms in which we know someone."""
        return [room for room, members in self._members.items() if user in members]

    async def rotation(self, room: str) -> Rotation:
        """Return when a group session ends in a room.

        Raises:
            HomeserverRequestError: the homeserver cannot say.
            MessageRefused: the room wants an encryption that we do not know.
        """
        if (known := self._rotations.get(room)) is not None:
            return known
        before = self._changes
        try:
            state = await self.wire.call("GET", "rooms", room, "state", "m.room.encryption", "")
        except MatrixRefusal as error:
            if error.code != "M_NOT_FOUND":
                raise
            # Once encrypted, always encrypted: also where the homeserver has no trace of it left.
            return Rotation()
        if state.get("algorithm", MEGOLM) != MEGOLM:
            raise MessageRefused(
                f"the room {room} wants an encryption that Muster does not know. Make a new room, encrypted as clients "
                "do it now."
            )
        messages, milliseconds = state.get("rotation_period_msgs"), state.get("rotation_period_ms")
        standard = Rotation()
        found = Rotation(
            messages=_between(_LEAST_MESSAGES, messages, _MOST_MESSAGES) or standard.messages,
            seconds=(_between(_LEAST_MS, milliseconds, _MOST_MS) or standard.seconds * 1000) / 1000,
        )
        if before == self._changes:
            self._rotations[room] = found
        return found


def _between(least: int, value: object, most: int) -> int | None:
    return min(max(least, value), most) if isinstance(value, int) and not isinstance(value, bool) else None


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
