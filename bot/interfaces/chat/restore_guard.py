"""Protection after a restore: messages from before it arrive again, and are not acted on.

The chat system sends them again, but the register does not know what was done between the backup and the restore. Each
conversation gets one notice, because some messages may never have been acted on.
"""

from __future__ import annotations

import hashlib

import structlog

from bot.agents.services import AgentServices
from bot.messaging.composer import Composer, MessagePlace
from bot.messaging.replies import REMARK
from bot.text.timestamps import timestamp
from connectors.contract.messages import Priority, Text
from connectors.delivery import inbox, outbox
from connectors.delivery.inbox import Arrival
from connectors.delivery.receiver import Handler
from database.queries.operations import restored_backup

log = structlog.get_logger(__name__)


async def held_back(services: AgentServices, speaker: Composer, handle: Handler) -> Handler:
    """Return a handler of events: `handle` itself, or after a restore, one that holds back older events.

    The time of an event is that of its sender, as reported by the chat system. For local connectors, it is this
    machine's.
    """
    async with services.store.read() as tx:
        restored_at = await restored_backup.last(tx)
    if restored_at is None:
        return handle

    async def only_newer(arrival: Arrival) -> None:
        if arrival.inbound.sent_at >= restored_at or not await _is_operators(services, arrival):
            await handle(arrival)
            return
        await _hold_back(services, speaker, arrival, restored_at)

    return only_newer


async def _is_operators(services: AgentServices, arrival: Arrival) -> bool:
    # Messages of strangers are refused in any case, within their own limits.
    inbound = arrival.inbound
    return bool(await services.operators.permission(inbound.identity, inbound.groups))


async def _hold_back(services: AgentServices, speaker: Composer, arrival: Arrival, restored_at: float) -> None:
    inbound, now = arrival.inbound, services.clock()
    log.info("chat.held_back", connector=inbound.connector, event_id=inbound.event_id, sent_at=inbound.sent_at)
    async with services.store.write(REMARK) as tx:
        if isinstance(inbound.body, Text):
            text = (
                f"⏪ Muster was restored from a backup at {timestamp(restored_at)}. What was written here between the "
                "backup and that moment is not acted on again, from this message on: it may have been done already. "
                "Where it was not, say it again."
            )
            place = MessagePlace(inbound.connector, conversation=inbound.conversation)
            can = services.capabilities(inbound.connector)
            where = hashlib.blake2s(f"{inbound.connector}\0{inbound.conversation}".encode(), digest_size=10).hexdigest()
            key = f"restored/{restored_at:.0f}/{where}"
            for outbound in speaker.say(key, text, place, can, priority=Priority.REPLY, reply_to=inbound.event_id):
                await outbox.put(tx, outbound, now)
        await inbox.finish(tx, arrival.seq, now, detail="written before Muster was restored from a backup")
    services.delivery.wake()
