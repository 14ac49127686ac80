"""Where plain words in a chat room go: to a new topic, to an agent, or to the orchestrator. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from bot.config.projects import ORCHESTRATOR, PROJECT_NAME, TOPIC, ProjectBlock, RoomBlock

_MENTION: Final = re.compile(rf"\s*@({PROJECT_NAME.pattern})[:,]?(?:\s+|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OpenTopic:
    """The words open a topic of a project."""

    project: str
    text: str


@dataclass(frozen=True, slots=True)
class ToAgent:
    """The words go to one agent."""

    name: str


Placement: TypeAlias = "OpenTopic | ToAgent | None"


@dataclass(frozen=True, kw_only=True, slots=True)
class Placements:
    projects: Mapping[str, ProjectBlock]
    rooms: Mapping[str, RoomBlock]
    locate: Callable[[str, str], str]
    """Resolves a connector and a room's name in muster.yaml to the conversation."""

    def of(self, connector: str, room: str, text: str) -> Placement:
        """Return where words in a room, outside of any thread, go; None for the orchestrator."""
        mention = _MENTION.match(text)
        if mention is not None and (named := mention[1].casefold()) in self.projects:
            return OpenTopic(named, text[mention.end() :])
        own = self.project_of(connector, room)
        block = next((block for name, block in self.rooms.items() if self._is(name, connector, room)), None)
        if block is None:
            return None if own is None else OpenTopic(own, text)
        if block.words == TOPIC:
            project = block.project or own
            return OpenTopic(project, text) if project in self.projects and project is not None else None
        return None if block.words == ORCHESTRATOR else ToAgent(block.words)

    def project_of(self, connector: str, room: str) -> str | None:
        """Return the project whose own room this is, or None."""
        return next(
            (
                name
                for name, project in self.projects.items()
                if project.room is not None and self._is(project.room, connector, room)
            ),
            None,
        )

    def _is(self, written: str, connector: str, room: str) -> bool:
        named, _, conversation = written.partition(":")
        return named == connector and room in (conversation, self.locate(named, conversation))
