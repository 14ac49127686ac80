"""The chat room of the fleet: the main one, or else the one where its agents are launched."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.messaging.composer import MessagePlace
from bot.messaging.services import MessagingServices
from bot.text.errors import UserError
from database.queries.agents import agents

#: A function that returns the connector and conversation of the main room, or raises UserError if none is set.
MainRoom: TypeAlias = "Callable[[], tuple[str, str]]"


async def fleet_room(tx: AsyncConnection, main_room: MainRoom) -> MessagePlace | None:
    """Return the main room, or else the newest agent's room, or None if there is none yet.

    Raises:
        RegisterError: the register cannot be read.
    """
    try:
        connector, room = main_room()
    except UserError:
        rows = await agents.every(tx)
        if not rows:
            return None
        newest = max(rows, key=lambda row: row.started_at or 0.0)
        connector, room = newest.connector, newest.room
    return MessagePlace(connector, conversation=room)


async def say(services: MessagingServices, tx: AsyncConnection, key: str, text: str) -> bool:
    """Put a text into the outbox for this room, once per key. Wake the delivery afterwards.

    Returns:
        False if there is no room yet.

    Raises:
        RegisterError: the register cannot be written.
    """
    place = await fleet_room(tx, lambda: services.main_room(None))
    if place is None:
        return False
    await services.agents.journal_effects.speak(tx, key, text, place)
    return True
