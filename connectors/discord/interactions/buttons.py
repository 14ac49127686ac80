"""Buttons under our messages: what pressing one means."""

from __future__ import annotations

from connectors.contract.messages import Reaction
from connectors.discord import message_conversion
from connectors.discord.interactions.interaction_handler import DEFER_CHANGE, Dealt, HeardInteraction
from connectors.discord.json_values import clean, identifier


async def pressed(heard: HeardInteraction, *, connector: str) -> Dealt | None:
    """Return a button that someone pressed, as a reaction to its message with the button's key."""
    target, name = identifier(heard.message.get("id")), heard.data.get("custom_id")
    if target is None or not isinstance(name, str) or not name.startswith(message_conversion.PRESSED):
        return None
    key = name.removeprefix(message_conversion.PRESSED)
    reaction = Reaction(target=target, key=clean(key)[: message_conversion.LONGEST_KEY], pressed=True)
    return Dealt(acknowledgement={"type": DEFER_CHANGE}, inbound=heard.inbound(reaction, connector=connector))
