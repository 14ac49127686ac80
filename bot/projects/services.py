"""Services available to code about projects."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.agents.services import AgentServices
from bot.commands.services import later
from bot.projects.ports import HearRoom, NewRoom, TopicsPort


@dataclass(kw_only=True, slots=True)
class ProjectServices(AgentServices):
    """The services of agents, and topics."""

    topics: TopicsPort = field(default_factory=later("topics"))
    """The topics of all projects."""
    make_room: NewRoom = field(default_factory=later("make_room"))
    """Makes a chat room for a project."""
    hear_room: HearRoom = field(default_factory=later("hear_room"))
    """Lets a connector hear a project's room from now on."""
