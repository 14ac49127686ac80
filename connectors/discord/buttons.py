"""Buttons under our messages: what pressing one means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.discord import content
from connectors.discord.interactions import DEFER_CHANGE, Dealt
from connectors.messages import Inbound, Reaction

if TYPE_CHECKING:
    from connectors.discord.interactions import Heard


async def pressed(heard: Heard, *, connector: str) -> Dealt | None:
    """A button that somebody pressed, as a reaction to its message with the button's key."""
    target, name = content.identifier(heard.message.get("id")), heard.data.get("custom_id")
    if target is None or not isinstance(name, str) or not name.startswith(content.PRESSED):
        return None
    key = name.removeprefix(content.PRESSED)
    inbound = Inbound(
        connector=connector,
        event_id=heard.id,
        conversation=heard.channel,
        parent=heard.parent,
        sender=heard.sender,
        sent_at=content.sent_at(int(heard.id)),
        body=Reaction(target=target, key=content.clean(key)[: content.LONGEST_KEY], pressed=True),
        groups=heard.groups or (),
    )
    return Dealt(acknowledgement={"type": DEFER_CHANGE}, inbound=inbound)
