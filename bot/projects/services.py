"""Services available to code about projects."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.commands.services import later
from bot.projects.ports import HearRoom, NewRoom, TopicsPort
from bot.runs.services import RunServices


@dataclass(kw_only=True, slots=True)
class ProjectServices(RunServices):
    """The services of runs, and topics."""

    topics: TopicsPort = field(default_factory=later("topics"))
    """The topics of all projects."""
    make_room: NewRoom = field(default_factory=later("make_room"))
    """Makes a chat room for a project."""
    hear_room: HearRoom = field(default_factory=later("hear_room"))
    """Lets a connector hear a project's room from now on."""
