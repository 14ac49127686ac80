"""What the egress's client can call upon."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.commands.services import later
from bot.messaging.services import MessagingServices

if TYPE_CHECKING:
    from bot.egress_client.client import EgressClient
    from bot.egress_client.ports import LimitListener, WindowPort


@dataclass(kw_only=True, slots=True)
class EgressServices(MessagingServices):
    """What messaging has, and the egress."""

    outlet: EgressClient | None = None
    """The egress as this process knows it; None: agents do without."""
    pace: WindowPort = field(default_factory=later("pace"))
    """Windows and their even-spread lines."""
    continuing: LimitListener = field(default_factory=later("continuing"))
    """Has agents go on that stopped at a limit."""
