"""What deals with chat: events that come in, and what goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.conversations import Conversations
from bot.pictures import Pictures
from bot.strangers import Strangers
from bot.upkeep.holding import held_back
from bot.utterances import Utterances
from connectors.delivery import Delivery, DeliverySettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bot.commands.execution import Executor
    from bot.saying import Speaker
    from bot.services import Services
    from connectors.contract import Connector
    from connectors.messages import Health


async def make(
    services: Services,
    executor: Executor,
    speaker: Speaker,
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
