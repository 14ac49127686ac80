"""Answers to interactions, by an interaction's token, which Discord takes for fifteen minutes.

The first thing that is said to a command takes the place of "is thinking", and said twice it exists once. What is said
later, or where Discord does not take it so any more, is an ordinary message. What only one person reads is shown to no
one else in the channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import discord

from connectors.discord import message_conversion
from connectors.discord.interactions.interaction_handler import COMMAND, EPHEMERAL
from connectors.discord.interactions.open_interactions import Interaction, OpenInteractions
from connectors.discord.json_values import Json
from connectors.discord.message_splitting import in_parts
from connectors.discord.rest_client import DiscordClient, DiscordRefusal
from connectors.discord.sent_log import SentLog

_LOADING = discord.MessageFlags.loading.flag
_GONE = frozenset({401, 403, 404})
#: What may be said of a message that exists already ("Edit Original Interaction Response").
_CHANGED = ("content", "allowed_mentions", "components", "flags")


@dataclass(frozen=True, kw_only=True, slots=True)
class InteractionReplies:
    wire: DiscordClient
    kept: OpenInteractions
    record: SentLog
    clock: Callable[[], float]

    async def first(self, interaction: Interaction, conversation: str, body: Json) -> str | None:
        """Say something as the answer. Returns the message's id; None: it is to be said as an ordinary message.

        Args:
            interaction: what is answered.
            conversation: where it was done.
            body: of a request that creates a message, with its nonce.

        Raises:
            DiscordRequestError: it cannot be said now.
        """
        nonce = body["nonce"]
        if (standing := self.record.message(nonce)) is not None:
            return standing
        if interaction.kind != COMMAND or interaction.first not in (None, nonce):
            return None
        said_before = interaction.first == nonce
        if not interaction.alive(self.clock()):
            return await self._standing(interaction, conversation, nonce) if said_before else None
        if not said_before:
            await self.kept.change(interaction.id, first=nonce)
        changes = {key: body[key] for key in _CHANGED if key in body}
        try:
            number = await self.wire.send_message(
                f"{interaction.webhook}/messages/@original", body=changes, method="PATCH"
            )
        except DiscordRefusal as error:
            # Of a token that is too old it says 401, which of our own would pass.
            if error.passes and error.status != 401:
                raise
            return await self._standing(interaction, conversation, nonce) if said_before else None
        await self._done(interaction, nonce, number)
        return number

    async def tell(self, text: str, *, to: str | None, key: str) -> str | None:
        """Tell whoever caused the interaction `to`, and no one else, in as many messages as that takes.

        Discord recognises no nonces here: after a crash right behind one of them, that one is told a second time.

        Returns:
            the first one's id; None where the token is of no use, and then something of it may have been told.
        """
        first = None
        for number, part in enumerate(in_parts(text)):
            said = await self._tell(message_conversion.edited(part), to=to, key=f"aside {key}#{number}")
            if said is None:
                return None
            first = first or said
        return first

    async def show(self, caption: str, file: tuple[str, str, bytes], *, to: str | None, key: str) -> str | None:
        """Show them alone a file: its name, its media type and what is in it. Return as `tell`."""
        return await self._tell(message_conversion.captioned(caption, file[0]), to=to, key=f"aside {key}", file=file)

    async def _tell(
        self, body: Json, *, to: str | None, key: str, file: tuple[str, str, bytes] | None = None
    ) -> str | None:
        nonce = message_conversion.nonce(key)
        if (standing := self.record.message(nonce)) is not None:
            return standing
        found = self.kept.get(to)
        if found is None or not found.alive(self.clock()):
            return None
        try:
            number = await self.wire.send_message(found.webhook, body=body | {"flags": EPHEMERAL}, file=file)
        except DiscordRefusal as error:
            if error.status in _GONE:
                return None
            raise
        await self.record.put(nonce, number)
        return number

    async def _standing(self, interaction: Interaction, conversation: str, nonce: str) -> str | None:
        """Return the answer, where an earlier request came through without our knowing."""
        if interaction.message is None:
            return None
        try:
            found = await self.wire.call("GET", f"/channels/{conversation}/messages/{interaction.message}")
        except DiscordRefusal as error:
            if error.passes:
                raise
            return None
        if not isinstance(found, dict) or int(found.get("flags") or 0) & _LOADING:
            return None
        await self._done(interaction, nonce, interaction.message)
        return interaction.message

    async def _done(self, interaction: Interaction, nonce: str, number: str) -> None:
        await self.record.put(nonce, number)
        if interaction.message != number:
            await self.kept.change(interaction.id, message=number)
