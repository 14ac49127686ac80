"""What an answer to a sync means, and how far it brings us: plain values and functions.

A cursor holds the sync token and what a restart would otherwise forget: in which rooms we were at that point, since
what was said before we joined does not count, which invitations wait for their inviter to become an operator, where
aliases led at first, and who had which power level.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from connectors.contract.connector_protocol import NeedsPerson
from connectors.matrix import room_history
from connectors.matrix.homeserver_client import HomeserverUnreachable
from connectors.matrix.power_levels import Levels

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncPosition:
    """How far we have come, and how things stood there."""

    since: str
    rooms: frozenset[str] = frozenset()
    """Where we were a member."""
    invitations: tuple[tuple[str, str], ...] = ()
    """(room, inviter) of those that were not accepted, oldest first."""
    aliases: tuple[tuple[str, str], ...] = ()
    """(alias, room) to which it led when it was first asked."""
    levels: tuple[tuple[str, Levels], ...] = ()
    """(room, what people had been given there)."""

    def encode(self) -> str:
        """As a cursor."""
        invitations = [list(pair) for pair in self.invitations]
        known: Json = {"since": self.since, "rooms": sorted(self.rooms), "invitations": invitations}
        if self.aliases:
            known["aliases"] = dict(self.aliases)
        if self.levels:
            known["levels"] = {room: levels.encode() for room, levels in self.levels}
        return json.dumps(known)

    @classmethod
    def decode(cls, cursor: str) -> SyncPosition:
        """Read a cursor.

        Raises:
            NeedsPerson: it is none of ours.
        """
        try:
            found = json.loads(cursor)
            return cls(
                since=found["since"],
                rooms=frozenset(found["rooms"]),
                invitations=tuple((room, inviter) for room, inviter in found["invitations"]),
                aliases=tuple(sorted(found.get("aliases", {}).items())),
                levels=tuple((room, Levels.decode(each)) for room, each in sorted(found.get("levels", {}).items())),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            raise NeedsPerson(
                "The place in the chat up to which Muster has read was written by another version and cannot be "
                "understood. Start the version of Muster that wrote it."
            ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomNews:
    """News of a room in which we are, or were until now."""

    room: str
    timeline: list[Json]
    state: list[Json]
    gap: bool
    """Whether events before this timeline were left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyNews:
    """What an answer to a sync says of keys."""

    to_device: tuple[Json, ...] = ()
    changed: frozenset[str] = frozenset()
    """People whose devices are others now, or of whom we are not told any more."""
    parted: frozenset[str] = frozenset()
    """Those of whom we are not told any more: we share no encrypted room with them."""
    left: int | None = None
    """Our one-time keys at the homeserver; None: not said."""
    has_fallback: bool | None = None
    """Whether our fallback key there is unused; None: not said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncResponse:
    """An answer to a sync, read."""

    next_batch: str
    joined: tuple[RoomNews, ...]
    left: tuple[RoomNews, ...]
    """Rooms that we left, or were thrown out of."""
    invited: tuple[tuple[str, str], ...]
    """(room, inviter)."""
    keys: KeyNews = KeyNews()


def read(answer: Json, user: str) -> SyncResponse:
    """Read an answer to a sync.

    Raises:
        HomeserverUnreachable: it has no token, so it is none.
    """
    next_batch = answer.get("next_batch")
    if not isinstance(next_batch, str):
        raise HomeserverUnreachable("it answered a sync without a token")
    rooms = _object(answer.get("rooms"))
    return SyncResponse(
        next_batch=next_batch,
        joined=tuple(_rooms(rooms.get("join"))),
        left=tuple(_rooms(rooms.get("leave"))),
        invited=tuple(_invited(rooms.get("invite"), user)),
        keys=key_news(answer),
    )


def key_news(answer: Json) -> KeyNews:
    """Read what an answer to a sync says of keys."""
    lists = _object(answer.get("device_lists"))
    unused = answer.get("device_unused_fallback_key_types")
    events = _object(answer.get("to_device")).get("events")
    people = [*_list(lists.get("changed")), *_list(lists.get("left"))]
    return KeyNews(
        to_device=tuple(event for event in _list(events) if isinstance(event, dict)),
        changed=frozenset(user for user in people if isinstance(user, str)),
        parted=frozenset(user for user in _list(lists.get("left")) if isinstance(user, str)),
        left=keys_left(answer.get("device_one_time_keys_count")),
        has_fallback="signed_curve25519" in unused if isinstance(unused, list) else None,
    )


def keys_left(counts: object) -> int | None:
    """Return how many one-time keys there are, of a homeserver's counts; None: it does not say.

    What is left out is zero (Client-Server API, "/sync"), but that is the word of one field that is often left out for
    other reasons: who reads this asks again before keys are made.
    """
    left = _object(counts).get("signed_curve25519")
    return max(0, left) if isinstance(left, int) and not isinstance(left, bool) else None


def _rooms(rooms: object) -> Iterator[RoomNews]:
    for room, news in _object(rooms).items():
        if not _plausible(room):
            continue
        timeline = _object(_object(news).get("timeline"))
        yield RoomNews(
            room=room,
            timeline=room_history.events_of(timeline.get("events")),
            state=room_history.events_of(_object(_object(news).get("state")).get("events")),
            gap=timeline.get("limited") is True,
        )


def _invited(rooms: object, user: str) -> Iterator[tuple[str, str]]:
    for room, news in _object(rooms).items():
        inviter = None
        for event in room_history.events_of(_object(_object(news).get("invite_state")).get("events")):
            # Everything but the last one, which the homeserver adds, is what the inviter's server wishes to be seen.
            if event.get("type") == "m.room.member" and event.get("state_key") == user:
                inviter = event.get("sender")
        if isinstance(inviter, str) and _plausible(inviter) and _plausible(room):
            yield room, inviter


@dataclass
class Membership:
    """Tells, event by event and oldest first, what was said while we were in the room."""

    user: str
    inside: bool
    joined_at: int | None = None
    """When we joined, in milliseconds, if only the room's state tells; then it is compared with the events' times."""
    passed_over: int = 0
    """So many events that come next may have come before."""

    def begin(self, news: RoomNews) -> None:
        """Go on to the timeline of a room, behind whatever was left out before it.

        Of a room into which we came back homeservers show what came last, be it older than the last sync or than our
        absence: what was heard then, and what did not count then. Nothing before our last coming back counts. Who
        sent an event says when that was, so its place decides, and its time only where the timeline has no join.
        """
        if self.inside:
            return
        moves = [(place, _is_join(event)) for place, event in enumerate(news.timeline) if self._is_ours(event)]
        last_join = max((place for place, is_join in moves if is_join), default=0)
        self.passed_over = max((place for place, is_join in moves if not is_join and place < last_join), default=0)
        shown = {event.get("event_id") for event in news.timeline}
        for event in news.state:
            if self._is_ours(event) and event.get("event_id", "") not in shown:
                stamp = event.get("origin_server_ts")
                self.joined_at = stamp if isinstance(stamp, int) and _is_join(event) else None

    def _is_ours(self, event: Json) -> bool:
        return event.get("type") == "m.room.member" and event.get("state_key") == self.user

    def counts(self, event: Json) -> bool:
        """Return whether we were there when this was said."""
        if self.passed_over > 0:
            self.passed_over -= 1
            return False
        if self._is_ours(event):
            self.inside = _is_join(event)
            self.joined_at = None
            return False
        if self.inside:
            return True
        stamp = event.get("origin_server_ts")
        return self.joined_at is not None and isinstance(stamp, int) and stamp >= self.joined_at


def _is_join(event: Json) -> bool:
    return _object(event.get("content")).get("membership") == "join"


def left(news: SyncResponse, before: frozenset[str]) -> tuple[RoomNews, ...]:
    """Return the rooms in which we are no more; `before`: where we were at the last sync.

    Who was thrown out and invited again meanwhile is told of the invitation, and by some homeservers of nothing else;
    then all that was said before has to be read from the room.
    """
    told = {room.room for room in news.left}
    untold = [room for room, _ in news.invited if room in before and room not in told]
    return (*news.left, *(RoomNews(room=room, timeline=[], state=[], gap=True) for room in untold))


def _plausible(name: str) -> bool:
    """Return whether an id can be shown, and is not taken for a thread's. Homeservers make no others."""
    return len(name) <= 255 and name.isprintable() and "|" not in name


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
