"""The handling of chat: incoming events and outgoing messages."""

from __future__ import annotations

from collections.abc import Mapping

from bot.commands.executor import Executor
from bot.interfaces.chat.duplicate_events import DuplicateEvents
from bot.interfaces.chat.restore_guard import held_back
from bot.interfaces.chat.router import ChatRouter
from bot.interfaces.chat.unknown_senders import UnknownSenders
from bot.messaging.attachments import Pictures
from bot.messaging.composer import Composer
from bot.messaging.own_messages import OwnMessages
from bot.reports.services import ReportServices
from connectors.contract.connector_protocol import Connector
from connectors.contract.messages import Health
from connectors.delivery.service import Delivery, DeliverySettings


async def make(
    services: ReportServices,
    executor: Executor,
    speaker: Composer,
    connectors: Mapping[str, Connector],
    broken: Mapping[str, Health],
    overlap: DuplicateEvents,
) -> ChatRouter:
    """Create `services.delivery`, and return the handler of incoming messages.

    Args:
        services: the services so far.
        executor: runs the commands from chat.
        speaker: composes messages for connectors.
        connectors: connectors by name.
        broken: the failures of configured connectors that could not be created.
        overlap: the connectors that may receive the same messages.
    """
    own_messages = OwnMessages(services.store)
    conversations = ChatRouter(
        services,
        executor,
        speaker,
        UnknownSenders(services, speaker),
        Pictures(services.paths.incoming, connectors.get),
        own_messages,
        overlap,
    )
    services.delivery = Delivery(
        services.store,
        connectors,
        await held_back(services, speaker, conversations.handle),
        settings=DeliverySettings(give_up_after=services.settings.delivery.give_up_after),
        clock=services.clock,
        broken=broken,
        on_outcome=own_messages.decided,
        on_failed=conversations.given_up,
    )
    return conversations
