"""In a room on a real homeserver, with a client of its own (`tests.operator_client`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.seat import LOOK_AGAIN, Download, Seat, Seen
from tests.encrypted_operator import EncryptedOperator
from tests.operator_client import Event, Operator, body, relation, thread_root
from tests.synapse import Account, Synapse


class MatrixSeat(Seat):
    """The events of one room, folded as a client shows them. A thread's place is its root."""

    kind = "matrix"

    def __init__(self, ana: Operator, bot: Account, room: str, *, encrypted: bool) -> None:
        self._encrypted = encrypted
        self.who = ana.user_id
        self.room = room
        self._ana = ana
        self._bot = bot

    @classmethod
    @asynccontextmanager
    async def opened(cls, synapse: Synapse, keys: Path | None = None) -> AsyncIterator[MatrixSeat]:
        """A new room; an encrypted one, when there is a folder for the operator's keys."""
        account, bot = await synapse.register(prefix="ana"), await synapse.register(prefix="muster")
        async with Operator(account) if keys is None else EncryptedOperator(account, keys) as ana:
            room = await ana.create_room("fleet", invite=[bot.user_id], encrypted=keys is not None)
            yield cls(ana, bot, room, encrypted=keys is not None)

    def block(self) -> Mapping[str, Any]:
        return {
            "homeserver": self._bot.homeserver,
            "user": self._bot.user_id,
            "access_token": "env:MATRIX_TOKEN",
            "fleet_room": self.room,
            "encryption": "required" if self._encrypted else "off",
        }

    def environment(self) -> Mapping[str, str]:
        return {"MATRIX_TOKEN": self._bot.access_token}

    async def arrived(self) -> None:
        await self._ana.wait_for(
            self.room,
            lambda event: event.get("state_key") == self._bot.user_id and event["content"].get("membership") == "join",
        )

    # --- doing ---------------------------------------------------------------------------------------------------

    async def say(self, text: str, place: str) -> str:
        return await self._ana.say(self.room, text, thread=self._thread(place))

    async def attach(self, content: bytes, name: str, media_type: str, place: str, caption: str) -> str:
        return await self._ana.send_file(
            self.room, content, name, media_type, thread=self._thread(place), caption=caption
        )

    async def choose(self, message: Seen, offer: str) -> None:
        await self._ana.react(self.room, message.id, offer)

    async def edit(self, message: str, text: str, place: str) -> None:
        await self._ana.edit(self.room, message, text)

    async def take_back(self, message: str, place: str) -> None:
        await self._ana.redact(self.room, message)

    # --- seeing --------------------------------------------------------------------------------------------------

    async def look(self) -> list[Seen]:
        shown = [event for event in self._ours() if event["type"] == "m.room.message"]
        edits: dict[str, list[Event]] = {}
        for event in shown:
            if relation(event).get("rel_type") == "m.replace":
                edits.setdefault(relation(event)["event_id"], []).append(event)
        rooted = {root for event in shown if (root := thread_root(event))}
        marks: dict[str, list[str]] = {}
        for event in self._ours():
            if relation(event).get("rel_type") == "m.annotation":
                marks.setdefault(relation(event)["event_id"], []).append(relation(event)["key"])
        return [
            self._seen(event, edits.get(event["event_id"], []), marks.get(event["event_id"], []), rooted)
            for event in shown
            if relation(event).get("rel_type") != "m.replace"
        ]

    async def news(self) -> None:
        await self._ana.sync(timeout=LOOK_AGAIN)

    async def receipts(self, message: str, place: str) -> list[str]:
        found = [relation(event) for event in self._ours()]
        return [each["key"] for each in found if each.get("rel_type") == "m.annotation" and each["event_id"] == message]

    async def working(self) -> set[str]:
        # Matrix has no typing in threads: it shows in their room.
        return {self.room} if self._bot.user_id in self._ana.typing.get(self.room, []) else set()

    async def fetch(self, file: Download) -> bytes:
        event = next(event for event in self._ours() if event["event_id"] == file.ref)
        return await self._ana.attachment(event)

    # --- inside --------------------------------------------------------------------------------------------------

    def _thread(self, place: str) -> str | None:
        return None if place == self.room else place

    def _ours(self) -> list[Event]:
        return [event for event in self._ana.seen.get(self.room, []) if event["sender"] == self._bot.user_id]

    def _seen(self, event: Event, edits: list[Event], marks: list[str], rooted: set[str]) -> Seen:
        content, found, name = event["content"], relation(event), event["event_id"]
        falls_back = found.get("rel_type") == "m.thread" and found.get("is_falling_back")
        file = Download(name=content["filename"], ref=name) if {"url", "file"} & content.keys() else None
        return Seen(
            id=name,
            place=thread_root(event) or self.room,
            text=body(edits[-1] if edits else event),
            answers=None if falls_back else found.get("m.in_reply_to", {}).get("event_id"),
            opens=name if name in rooted else None,
            offers=tuple(marks),
            file=file,
            changes=len(edits),
        )
