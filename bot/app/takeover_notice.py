"""The notice to the chat room that another orchestrator leads, sent in the transaction that takes the lead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.app.connectors import bridge, main_room
from bot.config.loader import Settings
from bot.config.paths import Paths
from bot.leadership import lease as tenure
from bot.messaging import rooms
from bot.messaging.composer import Composer
from bot.text import markdown
from connectors.contract.messages import Capabilities
from connectors.delivery import outbox
from database.queries.operations.leases import Lease


@dataclass(frozen=True, kw_only=True, slots=True)
class Announcement:
    """A callback that puts the notice into the outbox (bot.leadership.lease.Succession)."""

    settings: Settings
    paths: Paths
    redact: Callable[[str], str]
    clock: Callable[[], float]
    stood_by: bool = False
    """Whether this orchestrator was a standby; a mere restart is not announced."""

    async def __call__(self, tx: AsyncConnection, lease: Lease, before: Lease | None, now: float) -> None:
        if before is None or not (self.stood_by or not before.owner.endswith(tenure.whereabouts(self.paths.state))):
            return
        place = await rooms.fleet_room(tx, lambda: main_room(self.settings)(None))
        if place is None:
            return
        words = self.redact(text(lease, before, now, self.paths.state))
        speaker = Composer(self.paths.outgoing)
        for key, at in bridge(self.settings).spread(f"lead/{lease.token}", place):
            for outbound in speaker.say(key, words, at, Capabilities()):
                await outbox.put(tx, outbound, self.clock())


def text(lease: Lease, before: Lease, now: float, state: Path) -> str:
    """Return the notice as Markdown."""
    new, old = (markdown.code(markdown.one_line(each.owner, 300)) for each in (lease, before))
    others = "" if before.owner.endswith(tenure.whereabouts(state)) else (
        " That machine's agents keep running, but show as unknown until its Muster leads again."
    )  # fmt: skip
    return f"⇄ Muster is led by {new} now, since {old} {_end(before, now)}.{others}"


def _end(before: Lease, now: float) -> str:
    if before.until == tenure.LET_GO:
        return "ended"
    if before.until > now:
        return "ended without a word"
    last = before.until - tenure.SHARED_DURATION
    return f"was silent for {markdown.span(max(0.0, now - last))}"
