"""What our device does with keys: shows its own, opens messages, learns other devices.

Every step that changes anything is one transaction of the store, and what is to be sent is returned behind it: so a
ratchet that went on is kept before anybody sees what it made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import vodozemac

from connectors.contract.connector_protocol import DeviceState
from connectors.matrix.crypto import device_pinning
from connectors.matrix.crypto.key_store import KeyStore, RoomKey, Telling
from connectors.matrix.crypto.outbound_sessions import READERS, KeyRequest, Outgoing
from connectors.matrix.crypto.primitives import (
    MEGOLM,
    OLM,
    EncryptedEnvelope,
    OlmMessage,
    PublicKeys,
    Unreadable,
    clean,
    device_keys,
    envelope,
    fallback_keys,
    is_clean,
    letter,
    one_time_keys,
    public_keys,
    signed,
    unpadded,
)

Json: TypeAlias = dict[str, Any]
#: So many one-time keys are to lie at the homeserver.
ONE_TIME_KEYS = 50
#: Seconds for which a new session with a device is given time before another is begun.
_SESSION_REST = 3600.0
_LONGEST_ID = 255
#: Devices of one person that were logged out, and are remembered all the same.
MOST_GONE = 500
#: What of messages is encrypted, and is read; reactions and redactions stand in the clear for everybody.
SEALED = frozenset({"m.room.message"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ToDeviceResult:
    """What messages from device to device brought."""

    keys: frozenset[tuple[str, str]] = frozenset()
    """(room, session) whose messages can be opened now."""
    requests: tuple[KeyRequest, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DecryptedEvent:
    """A message, decrypted: an event as it would have come in the clear."""

    event: Json
    logged_out: bool = False
    """Whether it was written on a device that is not known to be back: its owner's have to be looked at again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed:
    """A message that cannot be decrypted."""

    session_id: str
    reason: str
    ask: bool = False
    """Whether its key may still come."""
    unknown_device: bool = False
    """Whether the sender's devices have to be looked at again first."""


@dataclass(kw_only=True)
class Machine:
    """Our device. For one thread: that of its store."""

    user: str
    device: str
    store: KeyStore
    clock: Callable[[], float]
    outgoing: Outgoing = field(init=False)
    untold: bool = field(default=True, init=False)
    """Whether there may be devices of which somebody has to be told."""

    def __post_init__(self) -> None:
        self.outgoing = Outgoing(user=self.user, device=self.device, store=self.store, clock=self.clock)

    def keys(self) -> PublicKeys:
        """Return the public keys of our device."""
        return public_keys(self._account())

    def _account(self) -> vodozemac.Account:
        account = self.store.account()
        assert account is not None, "the device is made before the machine"
        return account

    # --- what the homeserver has of us ---------------------------------------------------------------------------

    def to_upload(self, left: int | None, *, has_fallback: bool | None) -> Json | None:
        """Return what is to be uploaded; None: nothing. It is kept before: what is uploaded twice is the same.

        Args:
            left: our one-time keys at the homeserver; None: not said.
            has_fallback: whether our fallback key there is unused; None: not said, or not known to the homeserver.
        """
        with self.store.transaction():
            account, body = self._account(), {}
            if not self.store.published():
                left = left or 0
                has_fallback = bool(has_fallback)
                keys = public_keys(account)
                named = {f"curve25519:{self.device}": keys.curve25519, f"ed25519:{self.device}": keys.ed25519}
                about = {"algorithms": [OLM, MEGOLM], "device_id": self.device, "user_id": self.user, "keys": named}
                body["device_keys"] = signed(account, about, self.user, self.device)
            missing = 0 if left is None else ONE_TIME_KEYS - left - len(account.one_time_keys)
            if missing > 0:
                account.generate_one_time_keys(missing)
            # The library's type stubs do not know of fallback keys.
            anyhow: Any = account
            if has_fallback is False and not anyhow.fallback_key:
                anyhow.generate_fallback_key()
            # Those that an earlier life made, and may not have uploaded, are among them.
            if account.one_time_keys:
                body["one_time_keys"] = one_time_keys(account, self.user, self.device)
            if anyhow.fallback_key:
                body["fallback_keys"] = fallback_keys(account, self.user, self.device)
            if body:
                self.store.put_account(account)
        return body or None

    def uploaded(self) -> None:
        """The homeserver has what was to be uploaded."""
        with self.store.transaction():
            account = self._account()
            account.mark_keys_as_published()
            self.store.put_account(account, published=True)

    def unpublish(self) -> None:
        """The homeserver lost our keys: they are uploaded again."""
        with self.store.transaction():
            self.store.put_account(self._account(), published=False)

    # --- from device to device -----------------------------------------------------------------------------------

    def hear(self, events: Sequence[Json], rooms: Collection[str]) -> ToDeviceResult:
        """Take messages from device to device; keys are kept for `rooms` alone.

        One that came before is passed over: after a crash the homeserver sends again what was taken already.
        """
        keys: set[tuple[str, str]] = set()
        requests: dict[tuple[str, str, str], KeyRequest] = {}
        with self.store.transaction():
            account = self._account()
            ours = public_keys(account)
            for event in events:
                try:
                    if event.get("type") == "m.room_key_request":
                        self._note_request(event, requests)
                        continue
                    cover = envelope(event, ours) if event.get("type") == "m.room.encrypted" else None
                    if cover is None:
                        continue
                    digest = hashlib.sha256(f"{cover.sender}\0{cover.sender_key}\0{cover.body}".encode()).digest()
                    if self.store.is_handled(digest):
                        continue
                    opened = self._open_envelope(account, cover)
                    if opened is not None:
                        self.store.put_handled(digest)
                        inside = letter(opened, cover, self.user, ours)
                        if inside is not None and (key := self._take_key(inside, rooms)) is not None:
                            keys.add(key)
                except (Unreadable, TypeError, RecursionError):
                    # Whoever can write to our device can write nonsense.
                    continue
            self.store.put_account(account)
            self.store.bound()
        return ToDeviceResult(keys=frozenset(keys), requests=tuple(requests.values()))

    def _note_request(self, event: Json, requests: dict[tuple[str, str, str], KeyRequest]) -> None:
        content, sender = event.get("content"), event.get("sender")
        if not isinstance(content, dict) or not isinstance(sender, str):
            return
        device, request_id = content.get("requesting_device_id"), content.get("request_id")
        if not isinstance(device, str) or not isinstance(request_id, str):
            return
        place = (sender, device, request_id)
        if content.get("action") == "request_cancellation":
            requests.pop(place, None)
        body = content.get("body")
        if content.get("action") != "request" or not isinstance(body, dict):
            return
        room, session_id = body.get("room_id"), body.get("session_id")
        if not isinstance(room, str) or not isinstance(session_id, str) or not is_clean(room, session_id):
            return
        if body.get("algorithm") == MEGOLM:
            requests[place] = KeyRequest(user=sender, device=device, room=room, session_id=session_id, id=request_id)

    def _open_envelope(self, account: vodozemac.Account, cover: EncryptedEnvelope) -> bytes | None:
        if cover.kind == 0:
            begun = vodozemac.PreKeyMessage.from_base64(cover.body)
            for session in self.store.olm_sessions(cover.sender_key):
                if session.session_matches(begun):
                    return self._with(session, begun.to_any(), cover)
            try:
                key = vodozemac.Curve25519PublicKey.from_base64(cover.sender_key)
                session, plaintext = account.create_inbound_session(key, begun)
            except Unreadable:
                self._mend(cover)
                return None
            self.store.put_olm_session(cover.sender_key, session, self.clock())
            return plaintext
        message = vodozemac.AnyOlmMessage.normal(unpadded(cover.body))
        for session in self.store.olm_sessions(cover.sender_key):
            opened = self._with(session, message, cover, mend=False)
            if opened is not None:
                return opened
        self._mend(cover)
        return None

    def _with(
        self,
        session: vodozemac.Session,
        message: vodozemac.AnyOlmMessage,
        cover: EncryptedEnvelope,
        *,
        mend: bool = True,
    ) -> bytes | None:
        try:
            plaintext = session.decrypt(message)
        except Unreadable:
            if mend:
                self._mend(cover)
            return None
        self.store.put_olm_session(cover.sender_key, session, self.clock())
        return plaintext

    def _mend(self, cover: EncryptedEnvelope) -> None:
        """Begin a new session with a device that writes in one which we do not have ("Recovering from wedged
        sessions")."""
        made_at = self.store.session_made_at(cover.sender_key)
        if made_at is not None and self.clock() - made_at < _SESSION_REST:
            return
        self.outgoing.torn |= {
            (device.user, device.id)
            for device in self.store.devices(cover.sender)
            if device.keys.curve25519 == cover.sender_key and not device.gone
        }

    def _take_key(self, inside: OlmMessage, rooms: Collection[str]) -> tuple[str, str] | None:
        content = inside.content
        room, session_id, key = content.get("room_id"), content.get("session_id"), content.get("session_key")
        if content.get("algorithm") != MEGOLM or room not in rooms:
            return None
        if not isinstance(room, str) or not isinstance(session_id, str) or not isinstance(key, str):
            return None
        if inside.kind == "m.room_key":
            session = vodozemac.InboundGroupSession(vodozemac.SessionKey(key))
        elif inside.kind == "m.forwarded_room_key" and content.get("sender_key") == inside.sender_key:
            # Only from whom wrote with it: anybody else could pass off a session of their own.
            session = vodozemac.InboundGroupSession.import_session(vodozemac.ExportedSessionKey(key))
        else:
            return None
        if session.session_id != session_id:
            return None
        found = RoomKey(session=session, sender_key=inside.sender_key, ed25519=inside.ed25519)
        return (room, session_id) if self.store.put_room_key(room, found, self.clock()) else None

    # --- messages in rooms ---------------------------------------------------------------------------------------

    def open(self, room: str, event: Json) -> DecryptedEvent | Closed | None:
        """Decrypt a message of a room; None when it is nothing that is read.

        Who wrote it is whoever has the key that it is signed with, on a device that its sender's account lists: that
        the homeserver names someone as its sender proves nothing.
        """
        content, sender = event.get("content"), event.get("sender")
        if not isinstance(content, dict) or not isinstance(sender, str):
            return None
        session_id, ciphertext = content.get("session_id"), content.get("ciphertext")
        if content.get("algorithm") != MEGOLM or not isinstance(session_id, str) or not isinstance(ciphertext, str):
            return None
        if not is_clean(sender, session_id, str(event.get("event_id"))) or len(session_id) > _LONGEST_ID:
            return None
        keys = self.store.room_keys(room, session_id)
        if not keys:
            return Closed(session_id=session_id, reason="its key did not come", ask=True)
        written_on = None
        for key in keys:
            for device in self.store.devices(sender):
                if (device.keys.curve25519, device.keys.ed25519) == (key.sender_key, key.ed25519):
                    written_on = key, device
        if written_on is None:
            reason = "it was written on a device that this account does not list, or under other keys than its own"
            return Closed(session_id=session_id, reason=reason, unknown_device=True)
        key, device = written_on
        if device.standing not in READERS:
            blocked = device.standing is DeviceState.BLOCKED
            why = "which is blocked" if blocked else "under whose name other keys came"
            return Closed(session_id=session_id, reason=f"it was written on the device {device.id}, {why}")
        opened = self._open_with(key, room, event, session_id, ciphertext)
        return replace(opened, logged_out=True) if isinstance(opened, DecryptedEvent) and device.gone else opened

    def _open_with(
        self, key: RoomKey, room: str, event: Json, session_id: str, ciphertext: str
    ) -> DecryptedEvent | Closed:
        try:
            message = vodozemac.MegolmMessage.from_base64(ciphertext)
            found = key.session.decrypt(message)
            inside = json.loads(found.plaintext)
        except (Unreadable, RecursionError):
            early = "its key is that of later messages"
            try:
                ask = vodozemac.MegolmMessage.from_base64(ciphertext).message_index() < key.session.first_known_index
            except (Unreadable, TypeError):
                ask = False
            return Closed(session_id=session_id, reason=early if ask else "its key does not open it", ask=ask)
        if not isinstance(inside, dict) or inside.get("room_id") != room:
            return Closed(session_id=session_id, reason="it was written in another room")
        with self.store.transaction():
            if not self.store.is_at_its_place(room, key, found.message_index, str(event.get("event_id"))):
                return Closed(session_id=session_id, reason="it repeats an earlier message, which nobody's client does")
        content, kind = inside.get("content"), inside.get("type")
        if not isinstance(content, dict) or not isinstance(kind, str) or kind not in SEALED:
            return Closed(session_id=session_id, reason="there is no message in it")
        related = event["content"].get("m.relates_to")
        if "m.relates_to" not in content and related is not None:
            content = content | {"m.relates_to": related}
        return DecryptedEvent(event={**event, "type": kind, "content": content})

    # --- devices -------------------------------------------------------------------------------------------------

    def learn(self, answer: Json, users: Iterable[str]) -> None:
        """Take what a homeserver shows of people's devices. The keys that a device has first are pinned: no others
        are ever taken under its name, until someone says so. One that was logged out and is shown again is a new one.
        What people have to be told is noted with it."""
        listed = answer.get("device_keys")
        now = self.clock()
        with self.store.transaction():
            for user in users:
                shown = listed.get(user) if isinstance(listed, dict) else None
                if not isinstance(shown, dict):
                    continue
                known = {device.id: device for device in self.store.devices(user)}
                for device_id, payload in list(shown.items())[:200]:
                    keys = device_keys(payload, user, device_id) if len(device_id) <= 255 else None
                    if keys is None or (user, device_id) == (self.user, self.device):
                        continue
                    before = known.get(device_id)
                    after = device_pinning.pinned(before, user, device_id, keys, _called(payload))
                    if after == before:
                        continue
                    if before is None or before.gone:
                        # What went to the one that was called so before is not given again to this one.
                        self.outgoing.disown((user, device_id))
                    tell = device_pinning.news(before, after, first=not known)
                    self.store.put_device(after, now, tell=tell)
                    self.untold = self.untold or tell is not Telling.NOTHING
                for device_id, device in known.items():
                    if device_id not in shown and not device.gone:
                        self.store.put_device(device_pinning.replaced(device, gone=True), now)
                if len(known) > MOST_GONE:
                    self._bound_gone(user)

    def _bound_gone(self, user: str) -> None:
        """Forget the oldest of someone's devices that were logged out, unless an admin said something of them: anybody
        can log in and out as often as they like. One that is shown again is then a new one, as it would be anyway."""
        judged = (DeviceState.TRUSTED, DeviceState.BLOCKED)
        gone = [each for each in self.store.devices(user) if each.gone and each.standing not in judged]
        for device in gone[: max(0, len(gone) - MOST_GONE)]:
            self.store.forget_device(user, device.id)

    def forget_stranger(self, user: str) -> None:
        """Forget someone's devices, unless there is something to remember of one of them."""
        with self.store.transaction():
            known = self.store.devices(user)
            if any(device.standing is not DeviceState.SEEN for device in known):
                return
            for device in known:
                self.store.forget_device(user, device.id)

    def judge(self, user: str, device_id: str, standing: DeviceState) -> None:
        """What someone says of a device; `SEEN` forgets it."""
        with self.store.transaction():
            for device in self.store.devices(user):
                if device.id == device_id and standing is DeviceState.SEEN:
                    self.store.forget_device(user, device_id)
                elif device.id == device_id:
                    self.store.put_device(device_pinning.replaced(device, standing=standing), self.clock())


def _called(payload: Json) -> str:
    unsigned = payload.get("unsigned")
    name = unsigned.get("device_display_name") if isinstance(unsigned, dict) else None
    return clean(name)[:100] if isinstance(name, str) else ""
