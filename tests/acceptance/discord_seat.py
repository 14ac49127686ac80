"""In a channel of the fake Discord, which knows what its people see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.acceptance.seat import LOOK_AGAIN, Download, Seat, Seen
from tests.connectors.discord.fake_server_state import Json, Place, World
from tests.connectors.discord.server import serving


class DiscordSeat(Seat):
    """The app of `ana`. A thread's place is its id."""

    kind = "discord"
    keeps_taps = False

    def __init__(self, world: World, api: str) -> None:
        self.who = str(world.ana.id)
        self.room = str(world.channel.id)
        self._world = world
        self._api = api

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[DiscordSeat]:
        async with serving() as (world, api):
            yield cls(world, api)

    def block(self) -> Mapping[str, Any]:
        return {
            "token": "env:DISCORD_TOKEN",
            "guild": str(self._world.guild),
            "channel": self.room,
            "api": self._api,
        }

    def environment(self) -> Mapping[str, str]:
        return {"DISCORD_TOKEN": self._world.token}

    # --- doing ---------------------------------------------------------------------------------------------------

    async def say(self, text: str, place: str) -> str:
        return self._world.say(text, place=self._place(place))

    async def attach(self, content: bytes, name: str, media_type: str, place: str, caption: str) -> str:
        where = self._place(place)
        file = self._world.upload(name, media_type, content, place=where)
        return self._world.say(caption, place=where, attachments=[file])

    async def choose(self, message: Seen, offer: str) -> None:
        pressed = next((id for label, id in self._world.buttons(message.id).items() if label.startswith(offer)), None)
        if pressed is None:
            self._world.react(message.id, offer)
        else:
            self._world.click(message.id, pressed)

    async def edit(self, message: str, text: str, place: str) -> None:
        self._world.edit(message, text)

    async def take_back(self, message: str, place: str) -> None:
        self._world.delete(message)

    # --- seeing --------------------------------------------------------------------------------------------------

    async def look(self) -> list[Seen]:
        ours = [(place, each) for place in self._world.places.values() for each in self._world.said(place)]
        return [self._seen(place, each) for place, each in sorted(ours, key=lambda pair: int(pair[1]["id"]))]

    async def news(self) -> None:
        await self._world.changed(LOOK_AGAIN)

    async def receipts(self, message: str, place: str) -> list[str]:
        return self._world.reactions(message)

    async def working(self) -> set[str]:
        return {str(each) for each in self._world.typing}

    async def fetch(self, file: Download) -> bytes:
        return self._world.files[file.ref]

    # --- inside --------------------------------------------------------------------------------------------------

    def _place(self, place: str) -> Place:
        return self._world.places[int(place)]

    def _seen(self, place: Place, message: Json) -> Seen:
        files = [Download(name=each["filename"], ref=each["url"]) for each in message["attachments"]]
        answered = message.get("message_reference", {})
        signs = [label.partition(" ")[0] for label in self._world.buttons(message["id"])]
        return Seen(
            id=message["id"],
            place=str(place.id),
            text=message["content"],
            answers=answered.get("message_id") or message.get("interaction_metadata", {}).get("id"),
            opens=message["id"] if int(message["id"]) in self._world.places else None,
            offers=(*self._world.reactions(message["id"]), *signs),
            file=files[0] if files else None,
            changes=len(message.get("_edits", [])),
        )
