"""Which agents' requests the egress admits now, and why not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.egress_client import emergency_stop, held_agents
from bot.egress_client.client import is_commanded
from bot.pacing.runaway_guard import KIND as RUNAWAY
from bot.pacing.services import PacingServices
from bot.read_models.fleet import AgentGate, GateClosure
from database.queries.chat import questions


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetGates:
    """The closed gates of this host's agents."""

    estop: GateClosure | None
    by_agent: Mapping[str, tuple[GateClosure, ...]]

    def of(self, agent: str) -> AgentGate:
        """Return an agent's gate. It is open if the egress knows of no reason."""
        whole = () if self.estop is None else (self.estop,)
        return AgentGate(closures=(*whole, *self.by_agent.get(agent, ())))


async def load(services: PacingServices) -> FleetGates | None:
    """Return the gates, or None if there is no egress or it does not answer in time."""
    standing = await held_agents.look(services)
    if standing is None:
        return None
    estop = None
    if standing.get("estop"):
        state = services.paths.state
        by = await asyncio.to_thread(emergency_stop.pulled_by, state)
        estop = GateClosure(kind="estop", by=by, at=await asyncio.to_thread(emergency_stop.pulled_at, state))
    async with services.store.read() as tx:
        asked = {each.id for each in await questions.pending(tx, kind=RUNAWAY)}
    return FleetGates(estop=estop, by_agent=closures(standing, asked))


def closures(standing: Mapping[str, Any], asked: set[str]) -> dict[str, tuple[GateClosure, ...]]:
    """Return by agent the reasons why its gate is closed, apart from the emergency stop.

    Args:
        standing: the state of admission control, as `egress.limits.view` gives it.
        asked: the ids of the open questions whether an agent that used too much may go on.
    """
    found: dict[str, list[GateClosure]] = {}
    denials: Sequence[Mapping[str, Any]] = standing.get("denials") or ()
    for denial in denials:
        found.setdefault(str(denial["agent"]), []).append(_denied(denial, asked))
    for agent, limits in held_agents.used_up(standing).items():
        found.setdefault(agent, []).append(GateClosure(kind="used_up", limits=tuple(limits)))
    return {agent: tuple(each) for agent, each in found.items()}


def _denied(denial: Mapping[str, Any], asked: set[str]) -> GateClosure:
    by, why, at = denial.get("by") or None, denial.get("cause") or None, denial.get("at")
    if not is_commanded(denial):
        return GateClosure(kind="ended", by=by, why=why, at=at)
    # An answer continues a paused agent; `restore` alone would leave the question open. If a person cut the agent off
    # meanwhile, an answer does not help.
    kind, _, question = str(denial.get("id")).partition("/")
    if kind == RUNAWAY and question in asked:
        return GateClosure(kind="paused", by=by, why=why, at=at, question=question)
    return GateClosure(kind="cut_off", by=by, why=why, at=at)
