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

    from bot.app.services import Services
    from bot.commands.executor import Executor
    from bot.messaging.composer import Composer
    from connectors.contract.connector_protocol import Connector
    from connectors.contract.messages import Health


async def make(
    services: Services,
    executor: Executor,
    speaker: Composer,
    connectors: Mapping[str, Connector],
    broken: Mapping[str, Health],
) -> None:
    """Make `services.conversations` and `services.delivery`.

    Args:
        services: what there is by now.
        executor: runs the commands that come in.
        speaker: puts words into the shape of a connector.
        connectors: by their names.
        broken: why those that are configured and cannot be made cannot.
    """
    utterances = Utterances(services.store)
    services.conversations = conversations = Conversations(
        services,
        executor,
        speaker,
        Strangers(services, speaker),
        Pictures(services.paths.incoming, connectors.get),
        utterances,
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
