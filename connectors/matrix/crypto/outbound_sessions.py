"""What goes out of our device: whom the keys of what we write are given, and messages that are encrypted with them.

The sessions that we write with in rooms are in memory: a restart begins new ones, as does whatever takes someone's
reading away.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import vodozemac

from connectors.contract.connector_protocol import DeviceState
from connectors.matrix.crypto.key_store import KeyStore, KnownDevice, RoomKey
from connectors.matrix.crypto.primitives import MEGOLM, PublicKeys, public_keys, session_to, to_device

Json: TypeAlias = dict[str, Any]
Name: TypeAlias = tuple[str, str]
"""A device: its user and its id."""

#: Devices to which one request takes a room key.
_AT_ONCE = 20
#: Sessions that ended of which it is remembered who had the key.
_ENDED = 50
#: How a device stands that is given keys, and whose messages count.
READERS = frozenset({DeviceState.SEEN, DeviceState.TRUSTED})


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotation:
    """When a group session ends (Client-Server API, "m.room.encryption")."""

    messages: int = 100
    seconds: float = 7 * 86_400.0


@dataclass(kw_only=True, slots=True)
class OutboundGroupSession:
    """A group session that we write with."""

    session: vodozemac.GroupSession
    first_key: str
    """What opens all of it."""
    began_at: float
    messages: int = 0
    holders: dict[Name, str] = field(default_factory=dict)
    """The devices that were given its key, and the key as they were given it: it opens what came after."""
    reached: set[Name] = field(default_factory=set)
    """The devices that may have it: the holders, and those of which the homeserver never said that it took theirs."""
    handing: str = ""
    """The key that is being handed out."""
    over: bool = False
    """Whether somebody may have its key who is not among those any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRequest:
    """A device asks for the key of a group session of ours."""

    user: str
    device: str
    room: str
    session_id: str
    id: str


@dataclass(kw_only=True)
class Outgoing:
    """For the one thread of its store."""

    user: str
    device: str
    store: KeyStore
    clock: Callable[[], float]
    torn: set[Name] = field(default_factory=set, init=False)
    """Devices that write in sessions which we do not have."""
    _outbound: dict[str, OutboundGroupSession] = field(default_factory=dict, init=False)
    _ended: OrderedDict[str, tuple[str, OutboundGroupSession]] = field(default_factory=OrderedDict, init=False)
    """(room, session) of those written with before, by their ids."""

    def _account(self) -> vodozemac.Account:
        account = self.store.account()
        assert account is not None, "the device is made before anything goes out of it"
        return account

    def _keys(self) -> PublicKeys:
        return public_keys(self._account())

    def readers(self, users: Collection[str]) -> list[KnownDevice]:
        """Return the devices of these people that are given keys."""
        return [
            device
            for user in users
            for device in self.store.devices(user)
            if device.standing in READERS and not device.gone and (user, device.id) != (self.user, self.device)
        ]

    def without_session(self, devices: Iterable[KnownDevice]) -> dict[str, dict[str, str]]:
        """Return those whose one-time keys are to be claimed first, as the homeserver is asked for them."""
        missing: dict[str, dict[str, str]] = {}
        for device in devices:
            if (device.user, device.id) in self.torn or not self.store.olm_sessions(device.keys.curve25519):
                missing.setdefault(device.user, {})[device.id] = "signed_curve25519"
        return missing

    def claimed(self, answer: Json, wanted: Mapping[str, Mapping[str, str]]) -> None:
        """Begin sessions from one-time keys that the homeserver handed out."""
        found = answer.get("one_time_keys")
        with self.store.transaction():
            account = self._account()
            for user, ids in wanted.items():
                offered = found.get(user) if isinstance(found, dict) else None
                for device in self.store.devices(user):
                    if device.id not in ids or not isinstance(offered, dict):
                        continue
                    session = session_to(account, offered.get(device.id), device.keys, user, device.id)
                    if session is not None:
                        self.store.put_olm_session(device.keys.curve25519, session, self.clock())

    def to_mend(self) -> list[KnownDevice]:
        """Devices with which a new session is to be begun, and which are told so by a message of no content."""
        return [device for device in self.store.devices() if (device.user, device.id) in self.torn]

    def dummies(self, devices: Iterable[KnownDevice]) -> list[Json]:
        """Messages of no content that begin new sessions."""
        devices = list(devices)
        self.torn -= {(device.user, device.id) for device in devices}
        return self.letters(devices, "m.dummy", {})

    def lacking(self, room: str, devices: Sequence[KnownDevice], rotation: Rotation) -> list[KnownDevice]:
        """Return those that do not have the key of the session that we write with in a room. When someone has it who is
        not among them any more, or it was used enough, a new one begins."""
        now, names = self.clock(), {(device.user, device.id) for device in devices}
        outbound = self._outbound.get(room)
        if (
            outbound is None
            or outbound.over
            or outbound.messages >= rotation.messages
            or not 0 <= now - outbound.began_at < rotation.seconds
            or outbound.reached - names
        ):
            if outbound is not None:
                self._ended[outbound.session.session_id] = room, outbound
                while len(self._ended) > _ENDED:
                    self._ended.popitem(last=False)
            outbound = self._outbound[room] = self._begun(room, now)
        return [device for device in devices if (device.user, device.id) not in outbound.holders]

    def session_of(self, room: str) -> OutboundGroupSession:
        """Return the session that we write with in a room, which `lacking` began."""
        return self._outbound[room]

    def handed_out(self, room: str, devices: Sequence[KnownDevice]) -> list[Json]:
        """Return what takes the key of the session that we write with in a room to these, as bodies of requests."""
        outbound = self.session_of(room)
        outbound.handing = outbound.session.session_key.to_base64()
        content = {
            "algorithm": MEGOLM,
            "room_id": room,
            "session_id": outbound.session.session_id,
            "session_key": outbound.handing,
        }
        bodies = self.letters(devices, "m.room_key", content)
        # Before it is sent: an answer that is lost says nothing of whether the key arrived.
        for body in bodies:
            outbound.reached |= {(user, device) for user, ids in body["messages"].items() for device in ids}
        return bodies

    def _begun(self, room: str, now: float) -> OutboundGroupSession:
        session, ours = vodozemac.GroupSession(), self._keys()
        opens = vodozemac.InboundGroupSession(session.session_key)
        with self.store.transaction():
            own = RoomKey(session=opens, sender_key=ours.curve25519, ed25519=ours.ed25519)
            self.store.put_room_key(room, own, now)
        return OutboundGroupSession(session=session, first_key=session.session_key.to_base64(), began_at=now)

    def hold(self, room: str, body: Json) -> None:
        """Those to whom such a body went have the key now."""
        messages = body["messages"]
        outbound = self.session_of(room)
        for user, devices in messages.items():
            outbound.holders |= dict.fromkeys(((user, device) for device in devices), outbound.handing)

    def disown(self, name: Name) -> None:
        """Take the device of this name for another than the one that was given keys: it is not given them again for the
        asking, and what that one holds ends."""
        for outbound in (*self._outbound.values(), *(ended for _, ended in self._ended.values())):
            outbound.holders.pop(name, None)
            if name in outbound.reached:
                outbound.reached.discard(name)
                outbound.over = True

    def seal(self, room: str, kind: str, content: Json) -> Json:
        """Return the content of an encrypted event.

        What it relates to stays in the clear, as the specification has it.
        """
        outbound = self.session_of(room)
        inside = {key: value for key, value in content.items() if key != "m.relates_to"}
        payload = json.dumps({"type": kind, "content": inside, "room_id": room}, ensure_ascii=False)
        outbound.messages += 1
        sealed = {
            "algorithm": MEGOLM,
            "ciphertext": outbound.session.encrypt(payload.encode()).to_base64(),
            "session_id": outbound.session.session_id,
            "sender_key": self._keys().curve25519,
            "device_id": self.device,
        }
        return sealed | ({"m.relates_to": content["m.relates_to"]} if "m.relates_to" in content else {})

    def letters(self, devices: Sequence[KnownDevice], kind: str, content: Json) -> list[Json]:
        """Return what takes an event to devices, for each that there is a session with."""
        bodies: list[Json] = []
        if not devices:
            return bodies
        with self.store.transaction():
            account = self._account()
            for start in range(0, len(devices), _AT_ONCE):
                messages: dict[str, Json] = {}
                for device in devices[start : start + _AT_ONCE]:
                    sessions = self.store.olm_sessions(device.keys.curve25519)
                    if not sessions:
                        continue
                    messages.setdefault(device.user, {})[device.id] = to_device(
                        sessions[0],
                        account,
                        sender=self.user,
                        device=self.device,
                        recipient=device.user,
                        recipient_keys=device.keys,
                        kind=kind,
                        content=content,
                    )
                    self.store.put_olm_session(device.keys.curve25519, sessions[0], self.clock())
                if messages:
                    bodies.append({"messages": messages})
        return bodies

    # --- keys that are asked for ---------------------------------------------------------------------------------

    def ask_for(self, room: str, session_id: str, sender: str) -> Json | None:
        """Return the request to a sender's devices for a key that did not come; None when they were asked before."""
        with self.store.transaction():
            if not self.store.ask_once(room, session_id):
                return None
        content = {
            "action": "request",
            "requesting_device_id": self.device,
            "request_id": secrets.token_hex(8),
            "body": {"algorithm": MEGOLM, "room_id": room, "session_id": session_id},
        }
        return {"messages": {sender: {"*": content}}}

    def answer(self, request: KeyRequest, readers: Sequence[KnownDevice]) -> list[Json]:
        """Return what takes a key of ours to a device that asks for it, if it is among those that are given keys
        anyway.

        It is given what it was given before and lost, so what was said before it came stays closed to it: whoever the
        homeserver names as someone's new device would otherwise get all that was ever said by asking. A device that
        an admin trusts is given all.
        """
        asking = [device for device in readers if (device.user, device.id) == (request.user, request.device)]
        if not asking:
            return []
        content = {"algorithm": MEGOLM, "room_id": request.room, "session_id": request.session_id}
        trusted = asking[0].standing is DeviceState.TRUSTED
        if (session := self._of(request)) is not None:
            given = session.first_key if trusted else session.holders.get((request.user, request.device))
            if given is None:
                return []
            session.reached.add((request.user, request.device))
            return self.letters(asking, "m.room_key", content | {"session_key": given})
        exported = self._exported(request) if trusted else {}
        return self.letters(asking, "m.forwarded_room_key", content | exported) if exported else []

    def _of(self, request: KeyRequest) -> OutboundGroupSession | None:
        """Return the session that is asked for, if we wrote with it in this life."""
        current = self._outbound.get(request.room)
        if current is not None and current.session.session_id == request.session_id:
            return current
        room, ended = self._ended.get(request.session_id, ("", None))
        return ended if room == request.room else None

    def _exported(self, request: KeyRequest) -> Json:
        """Return the session that is asked for, if it is ours from an earlier life."""
        ours = self._keys()
        for key in self.store.room_keys(request.room, request.session_id):
            if key.sender_key != ours.curve25519:
                continue
            if (exported := key.session.export_at(key.session.first_known_index)) is not None:
                return {
                    "sender_key": ours.curve25519,
                    "sender_claimed_ed25519_key": ours.ed25519,
                    "forwarding_curve25519_key_chain": [],
                    "session_key": exported.to_base64(),
                }
        return {}
