"""What deals with chat: events that come in, and what goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.interfaces.chat.restore_guard import held_back
from bot.interfaces.chat.router import Conversations
from bot.interfaces.chat.unknown_senders import Strangers
from bot.messaging.attachments import Pictures
from bot.messaging.own_messages import Utterances
from connectors.delivery.service import Delivery, DeliverySettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bot.commands.executor import Executor
    from bot.interfaces.chat.duplicate_events import Overlap
    from bot.messaging.composer import Composer
    from bot.reports.services import ReportServices
    from connectors.contract.connector_protocol import Connector
    from connectors.contract.messages import Health


async def make(
    services: ReportServices,
    executor: Executor,
    speaker: Composer,
    connectors: Mapping[str, Connector],
    broken: Mapping[str, Health],
    overlap: Overlap,
) -> Conversations:
    """Make `services.delivery`, and who deals with what people say.

    Args:
        services: what there is now.
        executor: runs the commands that come in.
        speaker: puts words into the shape of a connector.
        connectors: by their names.
        overlap: which of them may read the same.
        broken: why those that are configured and cannot be made cannot.
    """
    utterances = Utterances(services.store)
    conversations = Conversations(
        services,
        executor,
        speaker,
        Strangers(services, speaker),
        Pictures(services.paths.incoming, connectors.get),
        utterances,
        overlap,
    )
    services.delivery = Delivery(
        services.store,
        connectors,
        await held_back(services, speaker, conversations.handle),
        settings=DeliverySettings(give_up_after=services.settings.delivery.give_up_after),
        clock=services.clock,
        broken=broken,
        on_outcome=utterances.decided,
        on_failed=conversations.given_up,
    )
    return conversations
