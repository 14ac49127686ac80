"""A person in an encrypted Matrix room, for tests: a real client with keys of its own, by matrix-nio.

It is used as `tests.operator_client.Operator` is, and shares no code with the product: `seen` and `events` hold what
stands in the room as that person reads it, and `say` encrypts wherever the room is.

    async with EncryptedOperator(await synapse.register("ana"), tmp_path / "ana") as ana:
        room = await ana.create_room(invite=[bot.user_id], encrypted=True)
        await ana.say(room, "!ps")
        answer = await ana.wait_for(room, lambda event: "coder0" in body(event))

What could not be read stands there as it came, with the type ``m.room.encrypted``, and is tried again later. `wire` is
what the homeserver has of a room.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from nio import (  # type: ignore[import-untyped]
    AsyncClient,
    AsyncClientConfig,
    EncryptionError,
    MegolmEvent,
    SyncResponse,
)
from nio.crypto import OlmDevice, decrypt_attachment, encrypt_attachment  # type: ignore[import-untyped]
from nio.store import SqliteStore  # type: ignore[import-untyped]

from tests.operator_client import LIMIT, Event, Operator, body
from tests.synapse import Account

_TYPES = frozenset({"m.room.message"})


class EncryptedOperator(Operator):
    """One person's client, whose keys are in `folder`: made again with both, it is the same device."""

    def __init__(self, account: Account, folder: Path) -> None:
        super().__init__(account)
        folder.mkdir(parents=True, exist_ok=True)
        # The library tells of each session that it makes.
        logging.getLogger("nio").setLevel(logging.CRITICAL)
        config = AsyncClientConfig(
            encryption_enabled=True, store=SqliteStore, store_sync_tokens=False, pickle_key="tests", request_timeout=60
        )
        self.nio = AsyncClient(
            account.homeserver, account.user_id, account.device_id, store_path=str(folder), config=config
        )

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.nio.restore_login(self.account.user_id, self.account.device_id, self.account.access_token)
        await self.upkeep()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.nio.close()
        if self.nio.store is not None:
            self.nio.store.database.close()
        await super().__aexit__()

    @property
    def fingerprint(self) -> str:
        """The public key by which this device is told from others."""
        key: str = self.nio.olm.account.identity_keys["ed25519"]
        return key

    # --- saying --------------------------------------------------------------------------------------------------

    async def send(self, room: str, content: Event, kind: str = "m.room.message") -> str:
        await self.sync(timeout=0)
        if kind not in _TYPES or room not in self.nio.rooms or not self.nio.rooms[room].encrypted:
            return await super().send(room, content, kind)
        if self.nio.should_query_keys:
            await self.nio.keys_query()
        transaction = f"{self._run}-{next(self._numbers)}"
        answer = await self.nio.room_send(room, kind, content, transaction, ignore_unverified_devices=True)
        event_id: str = answer.event_id
        return event_id

    async def send_plain(self, room: str, text: str) -> str:
        """A message that is not encrypted, wherever it goes."""
        return await super().send(room, {"msgtype": "m.text", "body": text})

    async def send_file(
        self, room: str, content: bytes, name: str, media_type: str, *, thread: str | None = None, caption: str = ""
    ) -> str:
        """An encrypted file, or picture, as a message."""
        ciphertext, keys = encrypt_attachment(content)
        address = await self.upload(ciphertext, "file", "application/octet-stream")
        return await self.say(
            room,
            caption or name,
            thread=thread,
            msgtype="m.image" if media_type.startswith("image/") else "m.file",
            file={**keys, "url": address},
            filename=name,
            info={"mimetype": media_type, "size": len(content)},
        )

    async def withhold_keys(self, user_id: str, *, withhold: bool = True) -> None:
        """Give the devices of somebody no keys from the next session on, which begins with the next message."""
        await self.sync(timeout=0)
        for device in self.nio.device_store.active_user_devices(user_id):
            judge = self.nio.blacklist_device if withhold else self.nio.unblacklist_device
            judge(device)
        self.nio.olm.outbound_group_sessions.clear()

    async def hand_over_keys(self, room: str, user_id: str) -> None:
        """Give the devices of somebody the keys of everything that was written here in a room on this device."""
        olm = self.nio.olm
        own = olm.account.identity_keys
        missing = {user_id: [device.id for device in self.nio.device_store.active_user_devices(user_id)]}
        await self.nio.keys_claim(missing)
        for session in list(olm.inbound_group_store[room][own["curve25519"]].values()):
            content = {
                "algorithm": "m.megolm.v1.aes-sha2",
                "room_id": room,
                "session_id": session.id,
                "session_key": session.export_session(session.first_known_index),
                "sender_key": own["curve25519"],
                "sender_claimed_ed25519_key": own["ed25519"],
                "forwarding_curve25519_key_chain": [],
            }
            for device in self.nio.device_store.active_user_devices(user_id):
                await self.to_device(
                    "m.room.encrypted", user_id, device.id, self._sealed(device, "m.forwarded_room_key", content)
                )

    def _sealed(self, device: OlmDevice, kind: str, content: Event) -> Event:
        """An event to a device, encrypted (Client-Server API, "m.olm.v1.curve25519-aes-sha2")."""
        olm = self.nio.olm
        own = olm.account.identity_keys
        payload = {
            "sender": self.user_id,
            "sender_device": self.nio.device_id,
            "keys": {"ed25519": own["ed25519"]},
            "recipient": device.user_id,
            "recipient_keys": {"ed25519": device.ed25519},
            "type": kind,
            "content": content,
        }
        session = olm.session_store.get(device.curve25519)
        number, ciphertext = session.encrypt(json.dumps(payload)).to_parts()
        olm.store.save_session(device.curve25519, session)
        return {
            "algorithm": "m.olm.v1.curve25519-aes-sha2",
            "sender_key": own["curve25519"],
            "ciphertext": {
                device.curve25519: {"type": number, "body": base64.b64encode(ciphertext).decode().rstrip("=")}
            },
        }

    async def to_device(self, kind: str, user_id: str, device_id: str, content: Event) -> None:
        """Any event to a device, as it is."""
        transaction = f"{self._run}-{next(self._numbers)}"
        body = {"messages": {user_id: {device_id: content}}}
        await self.call("PUT", f"sendToDevice/{kind}/{transaction}", body)

    # --- seeing --------------------------------------------------------------------------------------------------

    async def sync(self, *, timeout: float = 10.0, room: str | None = None, known: int = 0) -> None:
        async with self._syncing:
            if room is not None and len(self.seen.get(room, [])) > known:
                return
            answer = await self.nio.sync(
                timeout=int(timeout * 1000),
                sync_filter={"room": {"timeline": {"limit": 5000}}},
                since=self._since,
                full_state=self._since is None,
            )
            assert isinstance(answer, SyncResponse), answer
            self._since = answer.next_batch
            self.invitations |= set(answer.rooms.invite)
            for room_id, joined in answer.rooms.join.items():
                events = [event.source for event in joined.timeline.events]
                self.seen.setdefault(room_id, []).extend(events)
                for event in joined.ephemeral:
                    if hasattr(event, "users"):
                        self.typing[room_id] = event.users
            await self.upkeep()
            self._read_again()

    async def wait_for(self, room: str, wanted: Callable[[Event], bool], *, limit: float = LIMIT) -> Event:
        try:
            async with asyncio.timeout(limit):
                while True:
                    # What could not be read at first may be read by now.
                    for event in self.seen.get(room, []):
                        if wanted(event):
                            return event
                    await self.sync(timeout=2.0)
        except TimeoutError:
            told = "\n".join(f"  {event['sender']}: {body(event)!r}" for event in self.seen.get(room, [])[-15:])
            raise AssertionError(f"not seen in {limit:.0f} s; the last of {room}:\n{told}") from None

    async def events(self, room: str) -> list[Event]:
        return [self.read(room, event) for event in await self.wire(room)]

    async def wire(self, room: str) -> list[Event]:
        """Everything that the server has of the room, oldest first, encrypted as it stands there."""
        return await super().events(room)

    def read(self, room: str, event: Event) -> Event:
        """An event decrypted, or as it was where that cannot be done."""
        if event.get("type") != "m.room.encrypted" or "ciphertext" not in event.get("content", {}):
            return event
        parsed = MegolmEvent.from_dict(event)
        if not isinstance(parsed, MegolmEvent):
            return event
        parsed.room_id = room
        try:
            found: Event = self.nio.decrypt_event(parsed).source
        except EncryptionError:
            return event
        return found

    async def attachment(self, event: Event) -> bytes:
        """The content of the file that came with a message."""
        file = event["content"].get("file")
        if file is None:
            return await super().attachment(event)
        ciphertext = await self.download(file["url"])
        content: bytes = decrypt_attachment(ciphertext, file["key"]["k"], file["hashes"]["sha256"], file["iv"])
        return content

    # --- keys ----------------------------------------------------------------------------------------------------

    def _read_again(self) -> None:
        for room, events in self.seen.items():
            events[:] = [self.read(room, event) for event in events]

    async def upkeep(self) -> None:
        """What the library's own loop does after each answer."""
        client: Any = self.nio
        if client.should_upload_keys:
            await client.keys_upload()
        if client.should_query_keys:
            await client.keys_query()
        if client.should_claim_keys:
            await client.keys_claim(client.get_users_for_key_claiming())
        await client.send_to_device_messages()
