"""Interface of the agents for the packages below theirs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.ports import OwnedPort
from bot.messaging.agent_channel import AgentChannel
from bot.read_models.fleet import LimitWait
from database.queries.agents.agent_messages import AgentMessage
from database.queries.agents.agents import AgentRow
from fleet.control.agent_host_client import BackgroundProcesses, HostStatus
from fleet.errors import AgentRefused
from fleet.supervision.liveness import Liveness


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentView:
    """One agent as `ps` shows it."""

    row: AgentRow
    liveness: Liveness
    status: HostStatus | None
    activity: str | None
    """Its activity in a few words: the running tool call, or its request."""
    activity_since: float | None = None
    """Start of the activity, in seconds since the epoch."""
    wait: LimitWait | None = None
    """Why it does nothing, if that is a limit."""
    queued: int = 0
    """Number of messages that wait for it."""
    tries_at: float | None = None
    """Time of its next automatic start, in seconds since the epoch; None: there is none."""
    elsewhere: bool = False
    """Whether it belongs to another installation; its state is that installation's last report."""


class DesiredStatePort(Protocol):
    """Writer of agents' desired states."""

    async def stop(self, tx: AsyncConnection, row: AgentRow, *, now: bool) -> None:
        """Record that the agent is to stop."""

    async def freeze(self, tx: AsyncConnection, row: AgentRow, *, now: bool) -> None:
        """Record that the agent is to stop, and continue the same conversation later."""

    async def resume(self, tx: AsyncConnection, row: AgentRow, *, run_id: str, by: str) -> bool:
        """Record that the agent is to go on. Return False if it was not frozen."""


class FleetPort(OwnedPort, Protocol):
    """All agents of this host (bot.agents.service.Agents)."""

    @property
    def journal_effects(self) -> AgentChannel: ...

    @property
    def desired_states(self) -> DesiredStatePort: ...

    def look_again(self, name: str) -> None: ...

    def bring_mail(self, name: str) -> None: ...

    def rules_changed(self) -> None: ...

    async def rules_refused(self, names: Collection[str], within: float) -> Mapping[str, AgentRefused]: ...

    def in_turn(self, name: str) -> bool: ...

    def turn_of(self, name: str) -> str | None: ...

    def is_known(self, name: str) -> bool: ...

    def is_up(self, name: str) -> bool: ...

    async def get(self, name: str) -> AgentRow: ...

    async def view(self) -> list[AgentView]: ...

    async def view_of(self, name: str) -> AgentView: ...

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
