"""Services available to messaging."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.commands.services import CommandServices, later
from bot.messaging.bridge import Bridge
from bot.messaging.event_hub import EventHub
from bot.messaging.fleet_port import FleetPort


@dataclass(kw_only=True, slots=True)
class MessagingServices(CommandServices):
    """Services for commands, plus rooms and events."""

    events: EventHub = field(default_factory=EventHub)
    """Live events for observers."""
    bridge: Bridge = field(default_factory=Bridge)
    """The chat rooms that mirror each other."""
    agents: FleetPort = field(default_factory=later("agents"))
    """The agents, as far as lower packages need them."""
