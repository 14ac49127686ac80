"""What can be known of agents without the orchestrator: from their agent hosts, their journals and the emergency stop.

What only the orchestrator or the egress knows is None: accounts, use, drift and gates. Nothing is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path
from typing import Final

from bot.config.paths import Paths
from bot.egress_client import emergency_stop
from bot.read_models.fleet import FleetAgent, FleetModel, GateClosure
from bot.read_models.provenance import Provenance
from core.redaction import SecretMasker
from fleet.control.agent_host_client import AgentLink, HostStatus
from fleet.control.host_spec import AgentSpec
from fleet.errors import FleetError
from fleet.hosting.host_command_line import SPEC
from fleet.journal import events, reader
from fleet.journal.events import JournalEntry
from fleet.supervision import host_lifecycle, liveness, offline_orders

#: Seconds for an agent host to answer.
ANSWER_S: Final = 2.0
_AT_ONCE: Final = 50
#: Entries of a journal among which its last state is looked for.
_LAST_ENTRIES: Final = 50
#: Masks what looks like a secret; only the orchestrator has the known ones.
_redact: Final = SecretMasker()
_FAILURES: Final = (events.RuntimeFailed, events.RuntimeDied)


def load(paths: Paths) -> FleetModel:
    """Return the agents that were launched on this machine and are not removed, by name."""
    folders = sorted(folder for folder in paths.agents.glob("*") if (folder / SPEC).is_file())
    found = asyncio.run(_load(paths, folders))
    estop = None
    if emergency_stop.is_pulled(paths.state):
        by, at = emergency_stop.pulled_by(paths.state), emergency_stop.pulled_at(paths.state)
        estop = GateClosure(kind="estop", by=by, at=at)
    return FleetModel(agents=tuple(found), estop=estop)


async def _load(paths: Paths, folders: list[Path]) -> list[FleetAgent]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def look(folder: Path) -> FleetAgent | None:
        async with slots:
            return await _look(paths, folder)

    return [agent for agent in await asyncio.gather(*map(look, folders)) if agent is not None]


async def _look(paths: Paths, folder: Path) -> FleetAgent | None:
    try:
        spec = AgentSpec.read(folder / SPEC)
    except (OSError, ValueError, TypeError):
        return None
    runs = await asyncio.to_thread(host_lifecycle.is_running, folder)
    status = await _status(paths, spec.agent) if runs else None
    wanted, last = await asyncio.to_thread(_files, folder)
    state, at = _told(last)
    now = time.time()
    seen = liveness.judge(
        status,
        now=now,
        seen_at=None if status is None else now,
        host_runs=runs,
        last_state=state,
        last_change=at,
    )
    working = status is not None and seen.state in {"working", "waiting"}
    activity, since = (status.activity, status.turn_started_at) if status is not None and working else (None, None)
    if status is not None and status.terminal_by is not None:
        activity, since = f"handed over to {status.terminal_by}", status.terminal_since
    return FleetAgent(
        name=spec.agent,
        role=spec.role,
        runtime=spec.runtime,
        model=spec.model,
        wanted=wanted,
        state=seen.state,
        seen=Provenance(source=seen.evidence, at=seen.evidence_at),
        detail=seen.detail and _redact(seen.detail),
        detail_since=seen.detail_since,
        activity=_redact(activity) if activity else None,
        activity_since=since,
        session=None if status is None else status.session,
        turns=None if status is None else status.turns,
        turn_started_at=None if status is None else status.turn_started_at,
        queued=0 if status is None else status.queued,
        sandbox=spec.sandbox,
        unconfined=spec.sandbox == "none",
        workspace=spec.workspace,
        host=socket.gethostname(),
        tenant_id="",
    )


def _files(folder: Path) -> tuple[str, list[JournalEntry]]:
    """Return what is wanted of an agent, and its last journal entries. What cannot be read must not hide the others."""
    wanted, last = "running", list[JournalEntry]()
    with contextlib.suppress(OSError):
        wanted = offline_orders.desired_state(offline_orders.read(folder))
    with contextlib.suppress(OSError):
        last = reader.read_last(folder, _LAST_ENTRIES)
    return wanted, last


async def _status(paths: Paths, name: str) -> HostStatus | None:
    with contextlib.suppress(FleetError, OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_S), await AgentLink.connect(paths.agent_socket(name)) as link:
            return await link.status()
    return None


def _told(entries: list[JournalEntry]) -> tuple[str, float | None]:
    """Return the state that a journal said last, and when."""
    for entry in reversed(entries):
        if isinstance(entry.event, _FAILURES):
            return "failed", entry.at
        if isinstance(entry.event, events.Closing):
            return "frozen" if entry.event.reason == events.FREEZE else "stopped", entry.at
        if isinstance(entry.event, events.Opened):
            return "starting", entry.at
        if isinstance(entry.event, events.RuntimeStarted):
            break
    return "idle", entries[-1].at if entries else None
