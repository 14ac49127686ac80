"""The watchdog's view of the fleet: registered agents, their open requests, the roster, and unknown agent hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from bot.agents.journal.projection import TURN_FAILED
from bot.agents.service import Agents
from bot.messaging.fleet_port import AgentView
from core.errors import MusterError
from database.engine.store import Store
from database.queries.agents import agent_messages
from database.queries.chat import approvals
from fleet.name_rules import is_agent_name
from fleet.roster import drift
from fleet.roster.cache import LatestRoster
from fleet.supervision import host_lifecycle
from fleet.supervision.health_findings import (
    FleetView,
    HealthFinding,
    HealthThresholds,
    OpenRequest,
    Sighting,
    found_in,
)
from fleet.supervision.restart_policy import RestartRecord

log = structlog.get_logger(__name__)

#: Seconds for which a failed turn counts, unless a later turn of the same agent succeeds.
ERRING_S = 600.0
#: Kinds of findings about differences between the roster, the register and the running agents.
_DRIFT = frozenset({"stray", "unrostered", "missing", "changed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotLoader:
    store: Store
    agents: Agents
    roster: LatestRoster
    folders: Path
    """The folder that holds the private folders of all agents."""
    clock: Callable[[], float]
    redact: Callable[[str], str]

    async def look(self) -> FleetView:
        """Return the current state of the fleet.

        Raises:
            RegisterError: the register cannot be used.
        """
        await self.roster.refresh()
        views = await self.agents.view()
        async with self.store.read() as tx:
            since = self.clock() - ERRING_S
            erring = await agent_messages.erring(tx, since=since, begins=TURN_FAILED)
            pending = await approvals.in_states(tx, ["pending"])
        names = {view.row.name for view in views}
        elsewhere = {view.row.name for view in views if view.elsewhere}
        return FleetView(
            at=self.clock(),
            agents=[self._sighting(view, erring.get(view.row.name)) for view in views],
            questions=[
                OpenRequest(id=each.id, agent=each.agent, asked_at=each.asked_at, expires_at=each.expires_at)
                for each in pending
                if each.agent not in elsewhere
            ],
            rostered=self.roster.names,
            workers=self.roster.workers,
            changed=self._changed(views),
            mistake=self.roster.problem,
            strays=await asyncio.to_thread(_strays, self.folders, names),
        )

    def _changed(self, views: Sequence[AgentView]) -> list[str]:
        """Return the agents that must restart to match the roster."""
        if self.roster.names is None:
            return []
        rows = [view.row for view in views if not view.elsewhere]
        entries = {row.name: entry for row in rows if (entry := self.roster.entry(row.name)) is not None}
        return [change.agent for change in drift.changes(rows, entries) if change.kind == "restart"]

    async def cancel(self, name: str, turn: str) -> None:
        """Cancel this turn of an agent, if it is still running."""
        try:
            await self.agents.cancel(await self.agents.get(name), turn)
        except MusterError as error:
            log.info("watchdog.not_cancelled", agent=name, turn=turn, reason=str(error))

    async def drift(self) -> list[HealthFinding]:
        """Return the current differences between the roster, the register and the running agents, by name."""
        found = found_in(await self.look(), HealthThresholds())
        return sorted((each for each in found.findings if each.kind in _DRIFT), key=lambda each: each.agent)

    def _sighting(self, view: AgentView, erred: tuple[float, str] | None) -> Sighting:
        row, status, liveness = view.row, view.status, view.liveness
        if liveness.detail is not None and not liveness.healthy:
            # Mask secrets now: later steps remove numbers, and redaction would not recognize the rest of a key.
            liveness = replace(liveness, detail=self.redact(liveness.detail))
        record = RestartRecord.from_json(row.revival)
        fell = row.wanted == "running" and bool(record.of)
        return Sighting(
            fell_for=record.why if fell else None,
            erred_at=erred[0] if erred is not None else None,
            erred_for=erred[1] if erred is not None else "",
            name=row.name,
            wanted=row.wanted,
            liveness=liveness,
            changed_at=row.stopped_at or row.started_at,
            turn=status.turn if status is not None else None,
            event_at=(status.event_at or status.turn_started_at) if status is not None else None,
            elsewhere=view.elsewhere,
            has_purpose=row.purpose is not None,
        )


def _strays(folders: Path, known: Collection[str]) -> list[str]:
    try:
        found = sorted(folder.name for folder in folders.iterdir())
    except FileNotFoundError:
        return []
    unknown = (name for name in found if name not in known and is_agent_name(name))
    return [name for name in unknown if host_lifecycle.is_running(folders / name)]
