"""Receiving: the sync loop. The cursor moves only behind what the sink has made durable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import structlog

from connectors.contract.connector_protocol import NeedsPerson, Sink
from connectors.contract.messages import Batch, Inbound, Text
from connectors.matrix import room_history
from connectors.matrix.encrypted_rooms import Encryption
from connectors.matrix.homeserver_client import LOGGED_OUT, HomeserverClient, HomeserverRequestError, MatrixRefusal
from connectors.matrix.message_conversion import Me, inbound
from connectors.matrix.power_levels import PowerLevels
from connectors.matrix.room_aliases import Aliases
from connectors.matrix.room_cache import Rooms, is_encrypted
from connectors.matrix.settings import is_room
from connectors.matrix.sync_response import Membership, RoomNews, SyncPosition, SyncResponse, left, read

Json: TypeAlias = dict[str, Any]

LONG_POLL = 30.0
"""Seconds for which a homeserver may hold an answer back; Conduit holds none longer."""
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 320.0
TIMELINE = 50
_INVITATIONS = 50
_JOIN_AGAIN = 30.0

_STATE = ["m.room.member", "m.room.encryption", "m.room.tombstone", "m.room.power_levels"]
_FILTER = json.dumps(
    {
        "presence": {"types": []},
        "account_data": {"types": []},
        "room": {
            "timeline": {"limit": TIMELINE, "types": room_history.TYPES},
            "state": {"types": _STATE, "lazy_load_members": True},
            "ephemeral": {"types": []},
            "account_data": {"types": []},
        },
    }
)

#: In an event that is kept for later: the groups of its sender when it was said.
_GROUPS = "fleet.muster.groups"

_log = structlog.get_logger(__name__)


def pause(failures: int, asked: float | None, random: float) -> float:
    """Return seconds to wait after so many failures in a row. `random` in [0, 1) spreads many bots over the time."""
    longest = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE)
    return max(FIRST_PAUSE, longest * (0.75 + 0.25 * random), asked or 0.0)


@dataclass(kw_only=True)
class SyncLoop:
    """Syncs, until cancelled."""

    wire: HomeserverClient
    connector: str
    me: Me
    named: tuple[str, ...]
    """The rooms that the settings name, by id or alias."""
    allowed: tuple[str, ...]
    """The only rooms that count, likewise; empty: all."""
    aliases: Aliases
    levels: PowerLevels
    rooms: Rooms
    sink: Sink
    may_invite: Callable[[str], Awaitable[bool]]
    random: Callable[[], float]
    log_in_again: str
    """The sentence for the person who must."""
    encryption: Encryption | None = None
    """What reads encrypted rooms; None: nothing does."""
    required: bool = False
    """Whether what is not encrypted does not count."""
    failure: str | None = field(default=None, init=False)
    """Why the last sync failed; None when it did not."""
    inside: frozenset[str] = field(default=frozenset(), init=False)
    """The rooms in which we are, as far as is known."""
    begun: bool = field(default=False, init=False)
    """Whether it is known."""
    _in_touch: bool = field(default=False, init=False)
    _join_after: dict[str, float] = field(default_factory=dict, init=False)
    _looked_at: set[str] = field(default_factory=set, init=False)
    _sealed: set[str] = field(default_factory=set, init=False)
    """The rooms that were encrypted at the place up to which was read."""

    def hear_too(self, room: str) -> None:
        """Let one more room count from the next event on, by its id or alias."""
        self.named = (*self.named, room)
        if self.allowed:
            self.allowed = (*self.allowed, room)

    async def run(self, cursor: str | None) -> None:
        """Receive everything after `cursor`; without one, everything from now on.

        Raises:
            NeedsPerson: the log-in was ended.
        """
        position = None if cursor is None else SyncPosition.decode(cursor)
        if position is not None:
            self.aliases.take(dict(position.aliases))
        self._sealed = {room for room, yes in self.rooms.encrypted.items() if yes}
        failures = 0
        while True:
            try:
                await self.aliases.look(self.wire)
                await self._look_for_successors()
                position = await self._first() if position is None else await self._next(position)
            except HomeserverRequestError as error:
                failures += 1
                await self._wait(error, failures)
            else:
                self.inside, self.begun = position.rooms, True
                if failures:
                    _log.info("matrix_back", connector=self.connector, failures=failures)
                failures, self.failure = 0, None

    async def _wait(self, error: HomeserverRequestError, failures: int) -> None:
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

    async def _first(self) -> SyncPosition:
        news = await self._sync(None, 0.0)
        position = SyncPosition(
            since=news.next_batch,
            rooms=frozenset(room.room for room in news.joined),
            invitations=news.invited[-_INVITATIONS:],
        )
        for room in news.joined:
            self._observe(room.room, [*room.state, *room.timeline])
        self._sealed = {room for room, yes in self.rooms.encrypted.items() if yes}
        if self.encryption is not None:
            await self.encryption.take(news.keys, self._expected(news, position))
        self.levels.take(())
        for room in news.joined:
            await self.levels.prepare(self.wire, room.room, [*room.state, *room.timeline])
            for event in (*room.state, *room.timeline):
                self.levels.walk(room.room, event)
        position = replace(
            position,
            levels=self.levels.known(),
            invitations=await self._answer_invitations(position.invitations),
            aliases=self.aliases.known(),
        )
        await self.sink(Batch(events=(), cursor=position.encode()))
        await self._settle()
        return position

    async def _next(self, position: SyncPosition) -> SyncPosition:
        # Nothing is waited for at the start and right after an outage, so that being there is known at once.
        at_once = self.failure is not None or not self._in_touch
        patience = None if self.encryption is None else self.encryption.patience()
        if not self._in_touch:
            await self.levels.look_ahead(self.wire, position.rooms)
        news = await self._sync(position.since, 0.0 if at_once else min(LONG_POLL, patience or LONG_POLL))
        # Before anything is waited for: what is said meanwhile is to be encrypted, and for those who are there now.
        for room in (*news.left, *news.joined):
            self._observe(room.room, [*room.state, *room.timeline])
            if self.encryption is not None:
                for event in (*room.state, *room.timeline):
                    self.encryption.readers.observe(room.room, event)
        self.levels.take(position.levels)
        gone = left(news, position.rooms)
        inside, outside = {room.room for room in news.joined}, {room.room for room in gone}
        for settled in inside | outside:
            self.rooms.forget_note(f"invitation {settled}")
            self.rooms.forget_note(f"outside {settled}")
        waiting = {room: inviter for room, inviter in position.invitations if room not in inside | outside}
        known = waiting | dict(news.invited)
        invitations = await self._answer_invitations(tuple(known.items())[-_INVITATIONS:])
        said: list[Inbound] = []
        if self.encryption is not None:
            await self.encryption.take(news.keys, self._expected(news, position))
            said += self._late(await self.encryption.late())
        for room in (*gone, *news.joined):
            said += await self._room(room, position)
        self.levels.settle()
        for lost in outside - inside:
            self.levels.forget(lost)
            self.rooms.left(lost)
        reached = SyncPosition(
            since=news.next_batch,
            rooms=(position.rooms | inside) - outside,
            invitations=invitations,
            aliases=self.aliases.known(),
            levels=self.levels.known(),
        )
        if self.encryption is not None:
            self.encryption.say_new_device(reached.rooms)
            said += await self.encryption.due_remarks(reached.rooms)
        if said or at_once or reached != position:
            await self.sink(Batch(events=tuple(said), cursor=reached.encode()))
        await self._settle()
        if self.encryption is not None:
            await self.encryption.tidy(reached.rooms)
        self._in_touch = True
        return reached

    async def _sync(self, since: str | None, poll: float) -> SyncResponse:
        query = {"timeout": str(int(poll * 1000)), "filter": _FILTER}
        if since is not None:
            query["since"] = since
        return read(await self.wire.call("GET", "sync", query=query, timeout=poll + 30.0), self.me.user)

    async def _room(self, news: RoomNews, position: SyncPosition) -> list[Inbound]:
        """Return what was said in the timeline; what was said before it and left out is handed on at once."""
        member = Membership(self.me.user, inside=news.room in position.rooms)
        self._observe(news.room, news.state)
        if news.room not in position.rooms:
            self.levels.forget(news.room)
        if news.gap:
            known = [event["event_id"] for event in news.timeline if isinstance(event.get("event_id"), str)]
            await self._missed(news.room, position.since, member, known)
        member.begin(news)
        await self.levels.prepare(self.wire, news.room, news.timeline)
        self.levels.learn(news.room, news.state)
        for event in news.state:
            self._pass(news.room, event)
        return await self._said(news.room, news.timeline, member)

    async def _missed(self, room: str, since: str, member: Membership, known: list[str]) -> None:
        """Hand on what was said since then and is not among `known`."""
        missed = 0
        try:
            async for page in room_history.between(self.wire, room, since, known):
                said = await self._said(room, page, member, gap=True)
                missed += len(said)
                if said:
                    await self.sink(Batch(events=tuple(said), cursor=None))
        except MatrixRefusal as error:
            if error.passes:
                raise
            # Thrown out, most likely. Whatever it is, the other rooms must not wait for it for ever.
            self.rooms.note(f"gap {room}", f"Messages in {room} were missed: {error}.")
            self.levels.forget(room)
            if self.encryption is not None:
                self.encryption.readers.missed(room)
        _log.info("matrix_gap", connector=self.connector, room=room, events=missed)

    async def _said(self, room: str, events: list[Json], member: Membership, *, gap: bool = False) -> list[Inbound]:
        self._observe(room, events)
        await self.levels.prepare(self.wire, room, events, gap=gap)
        matters = self._matters(room)
        if not self.rooms.encrypted.get(room) and any(event.get("type") == "m.room.encrypted" for event in events):
            # Anybody can write such an event anywhere; only the room's state tells whether the room is encrypted.
            await self._ask(room, anew=True)
        said = []
        for event in events:
            self.levels.walk(room, event)
            self._pass(room, event)
            if not member.counts(event) or not matters:
                continue
            groups = self.levels.groups(room, str(event.get("sender")), gap=gap)
            # Kept with what cannot be read yet, and never what the event itself brings under that name.
            opened = await self._open(room, event | {_GROUPS: list(groups)})
            if opened is None:
                continue
            found = inbound(opened, connector=self.connector, room=room, me=self.me, place_of=self.rooms.place_of)
            if found is not None:
                if isinstance(found.body, Text):
                    self.rooms.saw(found.event_id, found.conversation)
                said.append(replace(found, groups=groups))
        return said

    async def _open(self, room: str, event: Json) -> Json | None:
        """Return the event as it reads; None when it does not count, since it is not encrypted where it should be or
        cannot be read."""
        if self.encryption is None or event.get("sender") == self.me.user or "state_key" in event:
            return event
        if event.get("type") == "m.room.encrypted":
            opened = await self.encryption.read(room, event)
            if opened is not None and await self.encryption.readers.is_known(room, str(event.get("sender"))):
                # Their client knows that the room is encrypted, whatever the homeserver says.
                self.rooms.encrypts(room)
                self._sealed.add(room)
            return opened
        if room not in self.rooms.encrypted:
            await self._ask(room)
        # What was taken back has nothing left in it.
        if event.get("type") == "m.room.message" and event.get("content") and room in self._sealed:
            if await self.encryption.readers.is_known(room, str(event.get("sender"))):
                self.encryption.refuse_plain(room, event)
            return None
        if self.required and room not in self._sealed:
            self.rooms.is_plain(room)
            return None
        return event

    async def _ask(self, room: str, *, anew: bool = False) -> None:
        """Find out whether a room is encrypted of which nothing told yet; `anew`: or of which that may be old."""
        try:
            if await is_encrypted(self.wire, self.rooms, room, anew=anew):
                self._sealed.add(room)
        except MatrixRefusal as error:
            if error.passes:
                raise
            # Not in it any more.
            self.rooms.encrypted.setdefault(room, False)

    def _pass(self, room: str, event: Json) -> None:
        """Go past an event: what comes after it counts only when it is encrypted."""
        if encrypts(event):
            self._sealed.add(room)
        if self.encryption is not None:
            self.encryption.readers.observe(room, event)
            if event.get("type") == "m.room.redaction":
                self.encryption.taken_back(event)

    def _late(self, opened: list[tuple[str, Json]]) -> list[Inbound]:
        """Return what was said in messages whose keys came later than they."""
        said = []
        for room, event in opened:
            found = inbound(event, connector=self.connector, room=room, me=self.me, place_of=self.rooms.place_of)
            if found is not None:
                # What they were then, as far as they still are.
                then = event.get(_GROUPS)
                groups = self.levels.groups(room, found.sender)
                said.append(replace(found, groups=tuple(each for each in groups if each in (then or ()))))
        return said

    def _expected(self, news: SyncResponse, position: SyncPosition) -> set[str]:
        """Return the rooms whose keys may come: where we are, or are about to be."""
        invited = {room for room, _ in (*position.invitations, *news.invited)}
        return {*position.rooms, *(room.room for room in news.joined), *invited}

    async def _settle(self) -> None:
        """What was handed on is durable."""
        if self.encryption is not None:
            await self.encryption.settle()
            await self.encryption.upkeep()

    def _matters(self, room: str) -> bool:
        return not self.allowed or any(room == self.aliases.room(name) for name in self.allowed)

    async def _look_for_successors(self) -> None:
        """See, once in each life, whether a room that we are to speak in was replaced while we were away."""
        for name in self.named:
            room = self.aliases.room(name)
            if room is None or room in self._looked_at:
                continue
            try:
                found = await self.wire.call("GET", "rooms", room, "state", "m.room.tombstone", "")
            except MatrixRefusal as error:
                if error.passes:
                    raise
            else:
                self._replaced(room, found)
            self._looked_at.add(room)

    def _replaced(self, room: str, tombstone: Json) -> None:
        successor = tombstone.get("replacement_room")
        if isinstance(successor, str) and is_room(successor):
            self.rooms.replaced(room, successor)

    def _observe(self, room: str, events: Iterable[Json]) -> None:
        for event in events:
            if event.get("type") == "m.room.tombstone" and self._matters(room):
                self._replaced(room, _content(event))
            if encrypts(event):
                self.rooms.encrypts(room)

    async def _answer_invitations(self, invitations: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """Join where an operator invited us. Returns the invitations that are left lying."""
        left = []
        for room, inviter in invitations:
            if not self._matters(room):
                # Another installation may have the same user and wait for it.
                left.append((room, inviter))
                self.rooms.note(
                    f"invitation {room}",
                    f"An invitation to {room} by {inviter} was left: `rooms` in muster.yaml does not name it.",
                )
                continue
            if not await self.may_invite(inviter):
                left.append((room, inviter))
                self.rooms.note(
                    f"invitation {room}", f"An invitation to {room} by {inviter}, who is no operator, was not accepted."
                )
                continue
            if not await self._join(room, inviter):
                left.append((room, inviter))
        return tuple(left)

    async def _join(self, room: str, inviter: str) -> bool:
        """Return whether the invitation is settled.

        A room that cannot be joined just now does not hold up the others.
        """
        now = asyncio.get_running_loop().time()
        if now < self._join_after.get(room, now):
            return False
        try:
            await self.wire.call("POST", "join", room, body={})
        except HomeserverRequestError as error:
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


def encrypts(event: Json) -> bool:
    """Return whether this switches encryption on.

    Who may not change the room's state can send its like as a message.
    """
    return event.get("type") == "m.room.encryption" and event.get("state_key") == ""


def _content(event: Json) -> Json:
    found = event.get("content")
    return found if isinstance(found, dict) else {}
