"""The agents, as the subjects below theirs see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bot.commands.ports import OwnedPort

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.messaging.agent_channel import Voice
    from database.queries.agents.agent_messages import AgentMessage
    from database.queries.agents.agents import AgentRow
    from fleet.control.agent_host_client import BackgroundProcesses, HostStatus
    from fleet.supervision.liveness import Liveness


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentView:
    """One agent as `ps` shows it."""

    row: AgentRow
    liveness: Liveness
    status: HostStatus | None
    activity: str | None
    """What it does, in a few words: the tool call that runs, what it asks for, or that it waits at a limit."""
    activity_since: float | None = None
    """Since when, in seconds since the epoch."""
    queued: int = 0
    """Messages that wait for it."""
    tries_at: float | None = None
    """When it is started again by itself, in seconds since the epoch; None: it is not."""
    elsewhere: bool = False
    """It belongs to another installation, whose word for it is the last there is."""


class DesiredStatePort(Protocol):
    """Who writes down what is wanted of agents."""

    async def stop(self, tx: AsyncConnection, row: AgentRow, *, now: bool) -> None:
        """It is to stop."""

    async def freeze(self, tx: AsyncConnection, row: AgentRow, *, now: bool) -> None:
        """It is to stop, and to go on in the same conversation later."""

    async def resume(self, tx: AsyncConnection, row: AgentRow, *, run_id: str, by: str) -> bool:
        """It is to go on; False: it was not frozen."""


class FleetPort(OwnedPort, Protocol):
    """All agents of this host (bot.agents.service.Agents)."""

    @property
    def teller(self) -> Voice: ...

    @property
    def wishes(self) -> DesiredStatePort: ...

    def look_again(self, name: str) -> None: ...

    def bring_mail(self, name: str) -> None: ...

    def in_turn(self, name: str) -> bool: ...

    def turn_of(self, name: str) -> str | None: ...

    def is_known(self, name: str) -> bool: ...

    def is_up(self, name: str) -> bool: ...

    def is_ours(self, row: AgentRow) -> bool: ...

    async def get(self, name: str) -> AgentRow: ...

    async def view(self) -> list[AgentView]: ...

    async def cancel(self, row: AgentRow, turn: str | None = None) -> bool: ...

    async def left_running(self, name: str, *, turn_over_s: int = 0) -> BackgroundProcesses | None: ...

    async def withdraw(self, tx: AsyncConnection, message: AgentMessage, *, end: bool = False) -> bool: ...

    async def send(
        self,
        tx: AsyncConnection,
        row: AgentRow,
        text: str,
        *,
        message_id: str,
        by: str,
        mode: str = "queue",
        attachments: Sequence[Mapping[str, Any]] = (),
        connector: str | None = None,
        conversation: str | None = None,
        event_id: str | None = None,
        answer_in: str | None = None,
    ) -> AgentMessage: ...
