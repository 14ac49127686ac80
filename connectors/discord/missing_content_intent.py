"""Where the message-content intent is withheld: that is said in the channel once, not at each start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from connectors.contract.messages import Inbound, Remark
from connectors.discord.gateway_session import GatewaySession
from connectors.discord.receiver import DiscordReceiver
from core import durable_files

FILE = "content-withheld"
_TOLD = "told"

SENTENCE = "Without the message-content intent it reads only direct messages and messages that mention it."

_log = structlog.get_logger(__name__)


def way_out(*, asked_for: bool) -> str:
    """Return what to do, and what works without it."""
    words = "Slash commands do everything."
    if not asked_for:
        return words
    return (
        f"{words} To write as well, switch on Message Content Intent in the developer portal (your application, Bot), "
        "then restart Muster; to do without, set message_content: false in muster.yaml."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingContentIntent:
    path: Path
    connector: str
    channel: str
    asked_for: bool
    clock: Callable[[], float]

    async def tell(self, session: GatewaySession, receiver: DiscordReceiver) -> None:
        """Say it where it is so, unless that was done before; then be there until cancelled."""
        await receiver.caught_up.wait()
        try:
            if session.reads_content:
                # Once it is withheld again, that is news.
                await asyncio.to_thread(self.path.unlink, missing_ok=True)
                await asyncio.Event().wait()
            known = await asyncio.to_thread(self._read)
            if known != _TOLD:
                # Under the same id after a crash, so that it exists once.
                event_id = known or f"remark/{FILE}/{int(self.clock())}"
                await asyncio.to_thread(durable_files.write, self.path, event_id)
                receiver.take(self._remark(event_id))
        except OSError as error:
            _log.warning("discord_withheld_not_told", reason=str(error))
        await asyncio.Event().wait()

    async def arrived(self, event_id: str) -> None:
        """An event is in the inbox: if it is the remark, it has been said."""
        if event_id.startswith(f"remark/{FILE}/"):
            await asyncio.to_thread(durable_files.write, self.path, _TOLD)

    def _read(self) -> str:
        return self.path.read_text(errors="replace").strip() if self.path.exists() else ""

    def _remark(self, event_id: str) -> Inbound:
        text = (
            "Discord shows me only direct messages here, and messages that mention me: I have no message-content "
            f"intent. {way_out(asked_for=self.asked_for)} In an agent's thread `/say` talks to it."
        )
        return Inbound(
            connector=self.connector,
            event_id=event_id,
            conversation=self.channel,
            sender="muster",
            sent_at=self.clock(),
            body=Remark(text=text),
        )
