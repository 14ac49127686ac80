"""Answers to interactions: the first thing that is said to one takes the place of "is thinking".

That is done with the interaction's token, which Discord takes for fifteen minutes, and said twice it exists once. What
is said later, or where Discord does not take it so any more, is an ordinary message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from connectors.discord.interactions.interaction_handler import COMMAND
from connectors.discord.interactions.open_interactions import Interaction, OpenInteractions
from connectors.discord.json_values import Json, identifier
from connectors.discord.rest_client import DiscordClient, DiscordRefusal, DiscordUnreachable
from connectors.discord.sent_log import SentLog

_LOADING = 1 << 7
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
            WireError: it cannot be said now.
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
        path = f"/webhooks/{interaction.application}/{quote(interaction.token, safe='')}/messages/@original"
        try:
            answer = await self.wire.call("PATCH", path, body={key: body[key] for key in _CHANGED if key in body})
        except DiscordRefusal as error:
            # Of a token that is too old it says 401, which of our own would pass.
            if error.passes and error.status != 401:
                raise
            return await self._standing(interaction, conversation, nonce) if said_before else None
        number = identifier(answer.get("id") if isinstance(answer, dict) else None)
        if number is None:
            raise DiscordUnreachable("it took an answer without saying under which id")
        await self._done(interaction, nonce, number)
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
