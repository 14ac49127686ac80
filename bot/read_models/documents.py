"""What a feed serves: each read model under a name, with a revision.

Names are ``fleet``, ``waiting``, ``tasks``, ``runs``, ``limits``, ``audit``, ``health`` and ``agents/NAME``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from bot.read_models.agent import AgentModel
from bot.read_models.audit import AuditModel
from bot.read_models.fleet import FleetModel
from bot.read_models.health import HealthModel
from bot.read_models.limits import LimitsModel
from bot.read_models.runs import RunsModel
from bot.read_models.tasks import TasksModel
from bot.read_models.waiting import WaitingModel

ReadModel: TypeAlias = (
    FleetModel | WaitingModel | TasksModel | RunsModel | LimitsModel | AuditModel | HealthModel | AgentModel
)

#: The type of each document that there is once.
TYPES: Final[Mapping[str, type[ReadModel]]] = {
    "fleet": FleetModel,
    "waiting": WaitingModel,
    "tasks": TasksModel,
    "runs": RunsModel,
    "limits": LimitsModel,
    "audit": AuditModel,
    "health": HealthModel,
}
#: Names of agents' documents begin with this.
AGENTS: Final = "agents/"


def type_of(name: str) -> type[ReadModel] | None:
    """Return the type of a document, or None if there is no such name."""
    return AgentModel if name.startswith(AGENTS) and len(name) > len(AGENTS) else TYPES.get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A read model at a time."""

    name: str
    revision: int
    """Larger than that of every document that changed before. It changes with `value` only."""
    epoch: str
    """Of the process that counts the revisions. Revisions of different epochs cannot be compared."""
    made_at: float
    """When it was last gathered, in seconds since the epoch."""
    value: ReadModel | None
    """None: there is no such agent."""


class DocumentFeed(Protocol):
    """Where documents come from: the orchestrator itself, its gateway, or the files that it leaves when it is down."""

    async def get(self, name: str) -> Document:
        """Return a document as it is now. Its value is None if there is no such agent.

        Raises:
            MusterError: there is no document of that name, or what it is made of cannot be read now.
        """

    async def page(self, name: str, before: str) -> ReadModel | None:
        """Return an older page of a document whose value has a `before`, with the place that was in it.

        Raises:
            MusterError: as `get` raises it, or there is no such place.
        """

    def follow(
        self, names: Collection[str], *, after: tuple[str, int] | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Document]]:
        """Follow documents: each as it is now, then each time that it changed, at most twice a second.

        A slow reader skips states and gets the newest one.

        Args:
            names: the documents.
            after: epoch and revision of the newest document that the reader has; documents that have not changed since
                are left out. Documents of another epoch are all sent.

        Raises:
            MusterError: as `get` raises it.
        """
