"""The services of the egress client."""

from __future__ import annotations

from dataclasses import dataclass

from bot.egress_client.client import EgressClient
from bot.egress_client.ports import LimitServices


@dataclass(kw_only=True, slots=True)
class EgressServices(LimitServices):
    """The messaging services and the egress."""

    egress_client: EgressClient | None = None
    """The egress client of this process; None if agents do not use an egress."""
