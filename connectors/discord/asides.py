"""What only one person reads: an answer to a button that they pressed, shown to nobody else in the channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from connectors.discord import content
from connectors.discord.splitting import split
from connectors.discord.wire import Refusal, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectors.discord.open_interactions import OpenInteractions
    from connectors.discord.record import Record
    from connectors.discord.wire import Wire

_EPHEMERAL = 1 << 6
_GONE = frozenset({401, 403, 404})


@dataclass(frozen=True, kw_only=True, slots=True)
class Asides:
    """Answers by an interaction's token, which holds for a quarter of an hour."""

    wire: Wire
    kept: OpenInteractions
    record: Record
    clock: Callable[[], float]

    async def say(self, text: str, *, to: str | None, key: str) -> str | None:
        """Tell whoever caused the interaction `to`. Returns the message's id; None where its token is of no use.

        Discord recognises no nonces here: after a crash right behind it, it is told a second time.
        """
        nonce = content.nonce(key)
        if (standing := self.record.message(nonce)) is not None:
            return standing
        found = self.kept.get(to)
        if found is None or not found.alive(self.clock()):
            return None
        body = content.edited(split(text)[0]) | {"flags": _EPHEMERAL}
        try:
            answer = await self.wire.call(
                "POST", f"/webhooks/{found.application}/{quote(found.token, safe='')}", body=body
            )
        except Refusal as error:
            if error.status in _GONE:
                return None
            raise
        number = content.identifier(answer.get("id") if isinstance(answer, dict) else None)
        if number is None:
            raise Unreachable("it took a message without saying under which id")
        await self.record.put(nonce, number)
        return number
