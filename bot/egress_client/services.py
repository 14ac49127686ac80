"""The services of the egress client."""

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
    """The messaging services and the egress."""

    outlet: EgressClient | None = None
    """The egress client of this process; None if agents do not use an egress."""
    pace: WindowPort = field(default_factory=later("pace"))
    """Windows and their pace lines."""
    continuing: LimitListener = field(default_factory=later("continuing"))
    """Resumes agents that stopped at a limit."""
