"""What only one person reads: an answer to a button that they pressed, shown to no one else in the channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from connectors.discord import message_conversion
from connectors.discord.interactions.open_interactions import OpenInteractions
from connectors.discord.json_values import Json, identifier
from connectors.discord.message_splitting import in_parts
from connectors.discord.rest_client import DiscordClient, DiscordRefusal, DiscordUnreachable
from connectors.discord.sent_log import SentLog

_EPHEMERAL = 1 << 6
_GONE = frozenset({401, 403, 404})


@dataclass(frozen=True, kw_only=True, slots=True)
class EphemeralMessages:
    """Answers by an interaction's token, which holds for a quarter of an hour."""

    wire: DiscordClient
    kept: OpenInteractions
    record: SentLog
    clock: Callable[[], float]

    async def say(self, text: str, *, to: str | None, key: str) -> str | None:
        """Tell whoever caused the interaction `to`, in as many messages as that takes.

        Discord recognises no nonces here: after a crash right behind one of them, that one is told a second time.

        Returns:
            the first one's id; None where the token is of no use, and then something of it may have been told.
        """
        first = None
        for number, part in enumerate(in_parts(text)):
            said = await self._post(message_conversion.edited(part), to=to, key=f"aside {key}#{number}")
            if said is None:
                return None
            first = first or said
        return first

    async def show(self, caption: str, file: tuple[str, str, bytes], *, to: str | None, key: str) -> str | None:
        """Return the same with a file: its name, its media type and what is in it."""
        return await self._post(message_conversion.captioned(caption, file[0]), to=to, key=f"aside {key}", file=file)

    async def _post(
        self, body: Json, *, to: str | None, key: str, file: tuple[str, str, bytes] | None = None
    ) -> str | None:
        nonce = message_conversion.nonce(key)
        if (standing := self.record.message(nonce)) is not None:
            return standing
        found = self.kept.get(to)
        if found is None or not found.alive(self.clock()):
            return None
        path = f"/webhooks/{found.application}/{quote(found.token, safe='')}"
        try:
            answer = await self.wire.call("POST", path, body=body | {"flags": _EPHEMERAL}, file=file)
        except DiscordRefusal as error:
            if error.status in _GONE:
                return None
            raise
        number = identifier(answer.get("id") if isinstance(answer, dict) else None)
        if number is None:
            raise DiscordUnreachable("it took a message without saying under which id")
        await self.record.put(nonce, number)
        return number
