"""The end of an authorization: written down, and told in the room once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bot import amounts, rendering
from bot.errors import UserError
from bot.saying import Place
from connectors import outbox
from register.queries import agents, pacing

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.services import Services
    from register.queries.pacing import AuthorizationRow


async def end(
    services: Services, tx: AsyncConnection, row: AuthorizationRow, how: Literal["used", "over"], now: float
) -> None:
    """End one that is used up or over, unless it was ended; in the transaction that says so in the room."""
    if not await pacing.end(tx, row.id, how, now):
        return
    amount = amounts.amount(row.amount, row.unit)
    words = {
        "used": f"⚖️ What was authorized for {rendering.code(row.scope)} ({amount}) is used up: it spends at its pace.",
        "over": f"⚖️ The time of what was authorized for {rendering.code(row.scope)} ({amount}) is over: it spends at "
        "its pace.",
    }
    await _say(services, tx, f"authorization/{row.id}/{how}", words[how], now)


async def _say(services: Services, tx: AsyncConnection, key: str, text: str, now: float) -> None:
    if services.agents is None:
        return
    try:
        connector, room = services.main_room(None)
    except UserError:
        # Nobody said which room is the main one: then it is where the agents are launched.
        rows = await agents.every(tx)
        if not rows:
            return
        newest = max(rows, key=lambda row: row.started_at or 0.0)
        connector, room = newest.connector, newest.room
    place = Place(connector, conversation=room)
    speaker = services.agents.teller.speaker
    for outbound in speaker.say(key, services.redact(text), place, services.capabilities(connector)):
        await outbox.put(tx, outbound, now)
