"""Encrypted rooms over the wire: who reads what we write, what happens to what cannot be read, and keeping keys going.

Reading and writing are `connectors.matrix.crypto.olm_machine`'s; here is when it is asked, with what from the
homeserver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import structlog

from connectors.contract.connector_protocol import Device, DeviceState
from connectors.contract.messages import Inbound
from connectors.matrix.crypto.key_folder import KeyFolder
from connectors.matrix.crypto.key_store import UndecryptedMessage
from connectors.matrix.crypto.olm_machine import Closed, DecryptedEvent, Machine
from connectors.matrix.crypto.outbound_sessions import KeyRequest
from connectors.matrix.device_lists import DeviceLists
from connectors.matrix.encryption_notices import EncryptionNotices, quoted
from connectors.matrix.encryption_recipients import EncryptionRecipients
from connectors.matrix.homeserver_client import HomeserverClient, HomeserverRequestError, MatrixRefusal
from connectors.matrix.message_conversion import sent_at, unsealed_file
from connectors.matrix.room_cache import Rooms
from connectors.matrix.sync_response import KeyNews, keys_left
from core.crash_points import around, declare

Json: TypeAlias = dict[str, Any]

HAND_OUT = declare("matrix.hand_out")

#: Seconds that a key may come later than its message before anybody is told that it did not.
GRACE = 5.0
#: Seconds for which a message waits for its key. Who wrote it has been told, and may have done something else since.
_WAITS = 3600.0
_REQUESTS = 50
#: One-time keys are replenished when fewer are left.
_LOW = 25
#: Seconds between two questions of how many are left, where syncs do not say it: some homeservers leave out a zero.
_COUNT_AGAIN = 300.0

_log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class Encryption:
    """Encrypted rooms of one connection."""

    wire: HomeserverClient
    vault: KeyFolder
    connector: str
    readers: EncryptionRecipients
    remarks: EncryptionNotices
    lists: DeviceLists
    rooms: Rooms
    clock: Callable[[], float]
    new_device: bool = False
    """Whether it is to be said that this is another device than before."""
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict, init=False)
    _waiting: list[UndecryptedMessage] = field(default_factory=list, init=False)
    _try_all: bool = field(default=True, init=False)
    _ready: set[tuple[str, str]] = field(default_factory=set, init=False)
    _done: list[int] = field(default_factory=list, init=False)
    _opened: dict[int, tuple[str, Json]] = field(default_factory=dict, init=False)
    """What was opened late and is not durable yet."""
    _told: list[int] = field(default_factory=list, init=False)
    _asking: list[tuple[str, str, str]] = field(default_factory=list, init=False)
    _requests: list[KeyRequest] = field(default_factory=list, init=False)
    _left: int | None = field(default=None, init=False)
    _has_fallback: bool | None = field(default=None, init=False)
    _count_at: float = field(default=0.0, init=False)
    _kept_rooms: frozenset[str] = field(default=frozenset(), init=False)

    @property
    def _machine(self) -> Machine:
        return self.vault.machine

    async def start(self) -> None:
        """Know what was known, and have our keys at the homeserver before anybody looks for them."""
        self._kept_rooms = await self.vault.run(self._machine.store.encrypted_rooms)
        for room in self._kept_rooms:
            self.rooms.encrypted[room] = True
        self._waiting = await self.vault.run(self._machine.store.unread)
        await self.lists.note_changed()
        await self._upload(at_once=True)

    # --- what comes in -------------------------------------------------------------------------------------------

    async def take(self, news: KeyNews, rooms: Iterable[str]) -> None:
        """Take what a sync says of keys and of which rooms are encrypted; durable when this returns."""
        encrypted = frozenset(room for room, yes in self.rooms.encrypted.items() if yes)
        if encrypted != self._kept_rooms:
            await self.vault.run(self._settle, encrypted, [], [])
            self._kept_rooms = encrypted
        self.lists.changed(news.changed)
        self.lists.parted |= news.parted
        self._left, self._has_fallback = news.left, news.has_fallback
        if news.left is not None:
            self._count_at = self.clock()
        if news.to_device:
            heard = await self.vault.run(self._machine.hear, news.to_device, frozenset(rooms))
            self._ready |= heard.keys
            self._requests = [*self._requests, *heard.requests][-_REQUESTS:]

    async def read(self, room: str, event: Json) -> Json | None:
        """Return the event that an encrypted one is; None when it cannot be read, which is kept or said where it
        matters."""
        found = await self.vault.run(self._machine.open, room, event)
        sender = str(event.get("sender"))
        changed = found.unknown_device if isinstance(found, Closed) else found is not None and found.logged_out
        if changed and await self.lists.look_again(sender):
            found = await self.vault.run(self._machine.open, room, event)
        why = unsealed_file(_object(found.event.get("content"))) if isinstance(found, DecryptedEvent) else None
        if isinstance(found, DecryptedEvent) and why is None:
            return found.event
        if found is None or not isinstance(event.get("event_id"), str) or not await self.readers.is_known(room, sender):
            return None
        if isinstance(found, DecryptedEvent):
            self._refuse_file(room, found.event, why)
        elif found.ask or found.unknown_device:
            await self._keep(room, event, found)
        else:
            where = f"{room}\0{found.session_id}\0{found.reason}"
            self.remarks.add(room, event, where, f"A message by {quoted(sender)} is not accepted: {found.reason}.")
        return None

    def _refuse_file(self, room: str, event: Json, why: str | None) -> None:
        self.remarks.add(
            room,
            event,
            f"file\0{room}\0{event.get('event_id')}",
            f"A message with a file by {quoted(event.get('sender'))} is not accepted: {why}. Send it again from a "
            f"client "
            "that encrypts files.",
        )

    async def late(self) -> list[tuple[str, Json]]:
        """(room, event) of messages whose keys have come since; to be handed on before `settle`."""
        for each in self._waiting if self._try_all or self._ready else ():
            if each.number in self._done or each.number in self._opened or self.clock() - each.kept_at > _WAITS:
                continue
            if not self._try_all and (each.room, each.session_id) not in self._ready:
                continue
            opened = await self.vault.run(self._machine.open, each.room, each.event)
            if isinstance(opened, Closed) and opened.unknown_device:
                await self.lists.look_again(str(each.event.get("sender")))
                opened = await self.vault.run(self._machine.open, each.room, each.event)
            if not isinstance(opened, DecryptedEvent):
                continue
            if (why := unsealed_file(_object(opened.event.get("content")))) is not None:
                self._refuse_file(each.room, opened.event, why)
                self._done.append(each.number)
                continue
            self._opened[each.number] = each.room, opened.event
        self._try_all = False
        self._ready.clear()
        # Where the rest of a sync failed, they come again with the next one.
        return [opened for number, opened in sorted(self._opened.items()) if number not in self._done]

    def doubt(self, room: str) -> None:
        """No one tells us of changes now: who is in a room, and on which devices, is asked for again."""
        self.readers.missed(room)
        self.lists.doubt()

    def taken_back(self, event: Json) -> None:
        """What was taken back before it could be read is not read any more."""
        target = event.get("redacts") or _object(event.get("content")).get("redacts")
        self._done += [each.number for each in self._waiting if each.event.get("event_id") == target]

    def refuse_plain(self, room: str, event: Json) -> None:
        """Someone wrote in the clear in an encrypted room, or the homeserver says so in their name."""
        sender = str(event.get("sender"))
        day = int(sent_at(event) // 86_400)
        self.remarks.add(
            room,
            event,
            f"plain\0{room}\0{sender}\0{day}",
            f"What {quoted(sender)} wrote here came without encryption, so anybody may have written it. It is not "
            f"accepted: write it again from a client that encrypts.",
        )

    async def due_remarks(self, inside: Collection[str]) -> list[Inbound]:
        """Return what is to be said of all this in the rooms in which we are; to be handed on before `settle`."""
        await self.lists.tell(inside)
        now = self.clock()
        late: dict[tuple[str, str], UndecryptedMessage] = {}
        for each in self._waiting:
            if each.told or now - each.kept_at < GRACE or each.number in {*self._done, *self._opened, *self._told}:
                continue
            late.setdefault((each.room, each.session_id), each)
            self._told.append(each.number)
        for (room, session_id), each in late.items():
            sender, device = str(each.event.get("sender")), _object(each.event.get("content")).get("device_id")
            self.remarks.add(
                room,
                each.event,
                f"unread\0{room}\0{session_id}",
                f"A message by {quoted(sender)}, written on {quoted(device)}, cannot be read: its key did not come. "
                "The key was asked for; if it comes within the hour, the message is taken then, and so are others "
                "like it. To go on at once, delete it and write it again; if that cannot be read either, log out and "
                "in again there. `muster matrix devices` lists who is given keys.",
            )
        return self.remarks.hand_on()

    def patience(self) -> float | None:
        """Return seconds after which there may be something to remark on; None: nothing."""
        waits = [each.kept_at for each in self._waiting if not each.told and each.number not in self._done]
        return max(0.2, min(waits) + GRACE - self.clock()) if waits else None

    async def tidy(self, inside: Collection[str]) -> None:
        """Forget who is gone from the rooms in which we are. It may ask much, and no message has to wait for it."""
        await self.lists.drop_parted(inside)

    async def settle(self) -> None:
        """What was handed on is durable: it need not be kept here any more."""
        encrypted = frozenset(room for room, yes in self.rooms.encrypted.items() if yes)
        now = self.clock()
        old = [each.number for each in self._waiting if now - each.kept_at > _WAITS]
        if self._done or self._opened or self._told or old or encrypted != self._kept_rooms:
            await self.vault.run(self._settle, encrypted, [*self._done, *self._opened, *old], list(self._told))
            self._waiting = await self.vault.run(self._machine.store.unread)
        self._kept_rooms = encrypted
        self._done.clear()
        self._opened.clear()
        self._told.clear()
        await self.lists.settle()
        self.remarks.settle()

    def _settle(self, encrypted: Iterable[str], done: list[int], told: list[int]) -> None:
        store = self._machine.store
        with store.transaction():
            store.put_encrypted_rooms(encrypted)
            store.mark_told(told)
            store.drop_unread(done)

    async def _keep(self, room: str, event: Json, found: Closed) -> None:
        def keep() -> list[UndecryptedMessage]:
            store = self._machine.store
            with store.transaction():
                store.put_unread(room, found.session_id, event, self.clock())
            return store.unread()

        self._waiting = await self.vault.run(keep)
        if found.ask:
            self._asking.append((room, found.session_id, str(event.get("sender"))))

    def say_new_device(self, rooms: Iterable[str]) -> None:
        """Say in the encrypted rooms that this is another device, once."""
        if not self.new_device:
            return
        self.new_device = False
        for room in rooms:
            if self.rooms.encrypted.get(room):
                about = {"sender": self._machine.user, "origin_server_ts": int(self.clock() * 1000)}
                self.remarks.add(
                    room,
                    about,
                    f"new\0{room}\0{self._machine.device}",
                    f"My keys are lost, so I write on a new device from now on: {quoted(self._machine.device)}. I "
                    f"cannot read earlier messages that I had not read yet: write them again.",
                )

    # --- what goes out -------------------------------------------------------------------------------------------

    async def seal(self, room: str, kind: str, content: Json) -> Json:
        """Return the content of an encrypted event, whose key those who may read it have been given.

        Raises:
            HomeserverRequestError: the homeserver did not take part.
            MessageRefused: the room wants an encryption that we do not know.
        """
        async with self._locks.setdefault(room, asyncio.Lock()):
            rotation = await self.readers.rotation(room)
            users = await self.readers.of(room)
            await self.lists.update(users)
            machine = self._machine
            devices = await self.vault.run(machine.outgoing.readers, users)
            lacking = await self.vault.run(machine.outgoing.lacking, room, devices, rotation)
            if lacking:
                await self.lists.claim(lacking)
                for body in await self.vault.run(machine.outgoing.handed_out, room, lacking):
                    with around(HAND_OUT):
                        await self.lists.send("m.room.encrypted", body)
                    await self.vault.run(machine.outgoing.hold, room, body)
            return await self.vault.run(machine.outgoing.seal, room, kind, content)

    # --- keeping it going ----------------------------------------------------------------------------------------

    async def upkeep(self) -> None:
        """What is due beside messages. What the homeserver does not take now is due again after the next sync."""
        try:
            await self._upload()
            await self._mend()
            while self._asking:
                room, session_id, sender = self._asking[0]
                body = await self.vault.run(self._machine.outgoing.ask_for, room, session_id, sender)
                self._asking.pop(0)
                if body is not None:
                    await self.lists.send("m.room_key_request", body)
            while self._requests:
                await self._answer(self._requests[0])
                self._requests.pop(0)
        except HomeserverRequestError as error:
            _log.info("matrix_keys", connector=self.connector, error=str(error))
            if isinstance(error, MatrixRefusal) and not error.passes:
                # It will not be taken the next time either.
                self._asking.clear()
                self._requests.clear()

    async def _upload(self, *, at_once: bool = False) -> None:
        now = self.clock()
        if self._left is None and (at_once or not -_COUNT_AGAIN < now - self._count_at < _COUNT_AGAIN):
            # Before it has our device's keys, it has no one-time keys either.
            known = await self.vault.run(self._machine.store.published)
            answer = await self.wire.call("POST", "keys", "upload", body={}) if known else {}
            self._left, self._count_at = keys_left(answer.get("one_time_key_counts")) or 0, now
        low = self._left is not None and self._left < _LOW
        if not low and self._has_fallback is not False and not at_once:
            return
        body = await self.vault.run(self._machine.to_upload, self._left, has_fallback=self._has_fallback)
        if body is not None:
            try:
                await self.wire.call("POST", "keys", "upload", body=body)
            except MatrixRefusal as error:
                if error.passes or "device_keys" in body:
                    raise
                # It has others under these names, from a life that we do not remember: the next ones have new names.
                _log.warning("matrix_keys_refused", connector=self.connector, error=str(error))
            await self.vault.run(self._machine.uploaded)
        self._left, self._has_fallback = None, None

    async def _mend(self) -> None:
        if not self._machine.outgoing.torn:
            return
        torn = await self.vault.run(self._machine.outgoing.to_mend)
        if torn:
            await self.lists.claim(torn)
            for body in await self.vault.run(self._machine.outgoing.dummies, torn):
                await self.lists.send("m.room.encrypted", body)

    async def _answer(self, request: KeyRequest) -> None:
        """Give a key of ours to a device that asks, if its owner may read what we write in that room."""
        if self.rooms.encrypted.get(request.room) is None or request.user not in await self.readers.of(request.room):
            return
        await self.lists.update({request.user})
        readers = [
            device
            for device in await self.vault.run(self._machine.outgoing.readers, {request.user})
            if device.id == request.device
        ]
        await self.lists.claim(readers)
        for body in await self.vault.run(self._machine.outgoing.answer, request, readers):
            await self.lists.send("m.room.encrypted", body)

    # --- devices -------------------------------------------------------------------------------------------------

    async def judge(self, name: str, standing: DeviceState) -> Device:
        """Say how a device stands; what waited for that is tried again."""
        found = await self.lists.judge(name, standing)
        self._try_all = True
        return found


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}
