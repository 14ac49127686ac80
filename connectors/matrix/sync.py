"""Receiving: the sync loop, and what an answer to a sync means.

The cursor moves only behind what the sink has made durable. It holds the sync token and what a restart would otherwise
forget: in which rooms we were at that point, since what was said before we joined does not count, and which
invitations wait for their inviter to become an operator.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from connectors.contract import NeedsPerson
from connectors.matrix import history
from connectors.matrix.content import Me, inbound
from connectors.matrix.wire import LOGGED_OUT, MatrixRefusal, Unreachable, Wire, WireError
from connectors.messages import Batch, Text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from connectors.contract import Sink
    from connectors.matrix.rooms import Rooms
    from connectors.messages import Inbound

Json: TypeAlias = dict[str, Any]

LONG_POLL = 30.0
"""Seconds for which a homeserver may hold an answer back; Conduit holds none longer."""
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 320.0
TIMELINE = 50
_INVITATIONS = 50
_JOIN_AGAIN = 30.0

_FILTER = json.dumps(
    {
        "presence": {"types": []},
        "account_data": {"types": []},
        "room": {
            "timeline": {"limit": TIMELINE, "types": history.TYPES},
            "state": {"types": ["m.room.member", "m.room.encryption"], "lazy_load_members": True},
            "ephemeral": {"types": []},
            "account_data": {"types": []},
        },
    }
)

_log = structlog.get_logger(__name__)


# --- what is decided ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far we have come, and how things stood there."""

    since: str
    rooms: frozenset[str] = frozenset()
    """Where we were a member."""
    invitations: tuple[tuple[str, str], ...] = ()
    """(room, inviter) of those that were not accepted, oldest first."""

    def encode(self) -> str:
        """As a cursor."""
        invitations = [list(pair) for pair in self.invitations]
        return json.dumps({"since": self.since, "rooms": sorted(self.rooms), "invitations": invitations})

    @classmethod
    def decode(cls, cursor: str) -> Position:
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
            )
        except (ValueError, TypeError, KeyError):
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
class News:
    """An answer to a sync, read."""

    next_batch: str
    joined: tuple[RoomNews, ...]
    left: tuple[RoomNews, ...]
    """Rooms that we left, or were thrown out of."""
    invited: tuple[tuple[str, str], ...]
    """(room, inviter)."""


def read(answer: Json, user: str) -> News:
    """Read an answer to a sync.

    Raises:
        Unreachable: it has no token, so it is none.
    """
    next_batch = answer.get("next_batch")
    if not isinstance(next_batch, str):
        raise Unreachable("it answered a sync without a token")
    rooms = _object(answer.get("rooms"))
    return News(
        next_batch=next_batch,
        joined=tuple(_rooms(rooms.get("join"))),
        left=tuple(_rooms(rooms.get("leave"))),
        invited=tuple(_invited(rooms.get("invite"), user)),
    )


def _rooms(rooms: object) -> Iterator[RoomNews]:
    for room, news in _object(rooms).items():
        if not _plausible(room):
            continue
        timeline = _object(_object(news).get("timeline"))
        yield RoomNews(
            room=room,
            timeline=history.events_of(timeline.get("events")),
            state=history.events_of(_object(_object(news).get("state")).get("events")),
            gap=timeline.get("limited") is True,
        )


def _invited(rooms: object, user: str) -> Iterator[tuple[str, str]]:
    for room, news in _object(rooms).items():
        inviter = None
        for event in history.events_of(_object(_object(news).get("invite_state")).get("events")):
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

    def counts(self, event: Json) -> bool:
        """Whether we were there when this was said."""
        if event.get("type") == "m.room.member" and event.get("state_key") == self.user:
            self.inside = _object(event.get("content")).get("membership") == "join"
            self.joined_at = None
            return False
        if self.inside:
            return True
        stamp = event.get("origin_server_ts")
        return self.joined_at is not None and isinstance(stamp, int) and stamp >= self.joined_at


def membership(news: RoomNews, user: str, *, before: bool) -> Membership:
    """How things stood at the beginning of what is new in a room; `before`: we were in it at the last sync."""
    joined_at = None
    for event in news.state:
        if event.get("type") == "m.room.member" and event.get("state_key") == user:
            stamp, content = event.get("origin_server_ts"), _object(event.get("content"))
            joined_at = stamp if isinstance(stamp, int) and content.get("membership") == "join" else None
    return Membership(user, inside=before, joined_at=None if before else joined_at)


def left(news: News, before: frozenset[str]) -> tuple[RoomNews, ...]:
    """The rooms in which we are no more; `before`: where we were at the last sync.

    Who was thrown out and invited again meanwhile is told of the invitation, and by some homeservers of nothing else;
    then all that was said before has to be read from the room.
    """
    told = {room.room for room in news.left}
    untold = [room for room, _ in news.invited if room in before and room not in told]
    return (*news.left, *(RoomNews(room=room, timeline=[], state=[], gap=True) for room in untold))


def pause(failures: int, asked: float | None, random: float) -> float:
    """Seconds to wait after so many failures in a row. `random` in [0, 1) spreads many bots over the time."""
    longest = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE)
    return max(FIRST_PAUSE, longest * (0.75 + 0.25 * random), asked or 0.0)


def _plausible(name: str) -> bool:
    """Whether an id can be shown, and is not taken for a thread's. Homeservers make no others."""
    return len(name) <= 255 and name.isprintable() and "|" not in name


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


# --- what is done ------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Receiver:
    """Syncs, until cancelled."""

    wire: Wire
    connector: str
    me: Me
    allowed: frozenset[str]
    """The only rooms that count; empty: all."""
    rooms: Rooms
    sink: Sink
    may_invite: Callable[[str], Awaitable[bool]]
    random: Callable[[], float]
    log_in_again: str
    """The sentence for the person who must."""
    failure: str | None = field(default=None, init=False)
    """Why the last sync failed; None when it did not."""
    inside: frozenset[str] = field(default=frozenset(), init=False)
    """The rooms in which we are, as far as is known."""
    _in_touch: bool = field(default=False, init=False)
    _join_after: dict[str, float] = field(default_factory=dict, init=False)

    async def run(self, cursor: str | None) -> None:
        """Receive everything after `cursor`; without one, everything from now on.

        Raises:
            NeedsPerson: the log-in was ended.
        """
        position = None if cursor is None else Position.decode(cursor)
        failures = 0
        while True:
            try:
                position = await self._first() if position is None else await self._next(position)
            except WireError as error:
                failures += 1
                await self._wait(error, failures)
            else:
                self.inside = position.rooms
                if failures:
                    _log.info("matrix_back", connector=self.connector, failures=failures)
                failures, self.failure = 0, None

    async def _wait(self, error: WireError, failures: int) -> None:
        asked = None
        if isinstance(error, MatrixRefusal):
            asked = error.after
            if error.code in LOGGED_OUT:
                raise NeedsPerson(self.log_in_again) from error
        seconds = pause(failures, asked, self.random())
        self.failure = f"{error}; trying again after {seconds:.0f} s"
        if failures == 1:
            _log.warning("matrix_lost", connector=self.connector, error=str(error))
        await asyncio.sleep(seconds)

    async def _first(self) -> Position:
        news = await self._sync(None, 0.0)
        position = Position(
            since=news.next_batch,
            rooms=frozenset(room.room for room in news.joined),
            invitations=news.invited[-_INVITATIONS:],
        )
        for room in news.joined:
            self._observe(room.room, [*room.state, *room.timeline])
        position = replace(position, invitations=await self._answer_invitations(position.invitations))
        await self.sink(Batch(events=(), cursor=position.encode()))
        return position

    async def _next(self, position: Position) -> Position:
        # Nothing is waited for at the start and right after an outage, so that being there is known at once.
        at_once = self.failure is not None or not self._in_touch
        news = await self._sync(position.since, 0.0 if at_once else LONG_POLL)
        gone = left(news, position.rooms)
        inside, outside = {room.room for room in news.joined}, {room.room for room in gone}
        for settled in inside | outside:
            self.rooms.forget_note(f"invitation {settled}")
            self.rooms.forget_note(f"outside {settled}")
        waiting = {room: inviter for room, inviter in position.invitations if room not in inside | outside}
        known = waiting | dict(news.invited)
        invitations = await self._answer_invitations(tuple(known.items())[-_INVITATIONS:])
        said: list[Inbound] = []
        for room in (*gone, *news.joined):
            said += await self._room(room, position)
        reached = Position(since=news.next_batch, rooms=(position.rooms | inside) - outside, invitations=invitations)
        if said or at_once or reached != position:
            await self.sink(Batch(events=tuple(said), cursor=reached.encode()))
        self._in_touch = True
        return reached

    async def _sync(self, since: str | None, poll: float) -> News:
        query = {"timeout": str(int(poll * 1000)), "filter": _FILTER}
        if since is not None:
            query["since"] = since
        return read(await self.wire.call("GET", "sync", query=query, timeout=poll + 30.0), self.me.user)

    async def _room(self, news: RoomNews, position: Position) -> list[Inbound]:
        """What was said in the timeline; what was said before it and left out is handed on at once."""
        member = membership(news, self.me.user, before=news.room in position.rooms)
        self._observe(news.room, news.state)
        if news.gap:
            known = [event["event_id"] for event in news.timeline if isinstance(event.get("event_id"), str)]
            await self._missed(news.room, position.since, member, known)
        return self._said(news.room, news.timeline, member)

    async def _missed(self, room: str, since: str, member: Membership, known: list[str]) -> None:
        """Hand on what was said since then and is not among `known`."""
        missed = 0
        try:
            async for page in history.between(self.wire, room, since, known):
                said = self._said(room, page, member)
                missed += len(said)
                if said:
                    await self.sink(Batch(events=tuple(said), cursor=None))
        except MatrixRefusal as error:
            if error.passes:
                raise
            # Thrown out, most likely. Whatever it is, the other rooms must not wait for it for ever.
            self.rooms.note(f"gap {room}", f"Messages in {room} were missed: {error}.")
        _log.info("matrix_gap", connector=self.connector, room=room, events=missed)

    def _said(self, room: str, events: list[Json], member: Membership) -> list[Inbound]:
        self._observe(room, events)
        counted = [event for event in events if member.counts(event)]
        if self.allowed and room not in self.allowed:
            return []
        said = []
        for event in counted:
            found = inbound(event, connector=self.connector, room=room, me=self.me, place_of=self.rooms.place_of)
            if found is not None:
                if isinstance(found.body, Text):
                    self.rooms.saw(found.event_id, found.conversation)
                said.append(found)
        return said

    def _observe(self, room: str, events: Iterable[Json]) -> None:
        for event in events:
            if event.get("type") in ("m.room.encrypted", "m.room.encryption"):
                self.rooms.encrypts(room)

    async def _answer_invitations(self, invitations: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """Join where an operator invited us. Returns the invitations that are left lying."""
        left = []
        for room, inviter in invitations:
            if (self.allowed and room not in self.allowed) or not await self.may_invite(inviter):
                left.append((room, inviter))
                self.rooms.note(
                    f"invitation {room}", f"An invitation to {room} by {inviter}, who is no operator, was not accepted."
                )
                continue
            if not await self._join(room, inviter):
                left.append((room, inviter))
        return tuple(left)

    async def _join(self, room: str, inviter: str) -> bool:
        """Whether the invitation is settled. A room that cannot be joined just now does not hold up the others."""
        now = asyncio.get_running_loop().time()
        if now < self._join_after.get(room, now):
            return False
        try:
            await self.wire.call("POST", "join", room, body={})
        except WireError as error:
            self.rooms.note(f"invitation {room}", f"The room {room} could not be joined: {error}.")
            _log.warning("matrix_not_joined", connector=self.connector, room=room, error=str(error))
            if isinstance(error, MatrixRefusal) and not error.passes:
                return True
            asked = error.after if isinstance(error, MatrixRefusal) else None
            self._join_after[room] = now + (asked or _JOIN_AGAIN)
            return False
        _log.info("matrix_joined", connector=self.connector, room=room, inviter=inviter)
        self._join_after.pop(room, None)
        return True
