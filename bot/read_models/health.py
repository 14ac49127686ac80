"""How each part of Muster does. Times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressFacts:
    """What the egress says of itself. None is unknown."""

    estop: bool = False
    agents: int | None = None
    streams: int | None = None
    """The number of requests under way."""
    pid: int | None = None
    unwritable: str | None = None
    """Why its ledger takes no writes, so that nothing is let out; None: it does, or unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHealth:
    """A connector, the register, the egress, the forge, a disk, or the collector of traces."""

    name: str
    kind: Literal["connector", "register", "egress", "forge", "disk", "traces"]
    reachable: bool | None = None
    """None: not known."""
    impaired: bool = False
    """Whether it works, but not all of it."""
    detail: str = ""
    seen_at: float | None = None
    system: str | None = None
    """The chat system of a connector."""
    authenticated: bool | None = None
    """Whether a connector is logged in; None: not known, or no connector."""
    egress: EgressFacts | None = None

    @property
    def state(self) -> Literal["up", "impaired", "down", "unknown"]:
        """All of it in a word."""
        if self.reachable is False:
            return "down"
        if self.impaired or self.authenticated is False:
            return "impaired"
        return "up" if self.reachable else "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHealth:
    """A job of the schedule."""

    name: str
    schedule: str | None = None
    last_run: float | None = None
    duration_s: float | None = None
    """Of the last run."""
    next_run: float | None = None
    running_since: float | None = None
    last_error: str | None = None
    missed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingOrchestrator:
    """A standby, which leads once this orchestrator ends."""

    owner: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgeHealth:
    """What is known of the forge and its issues."""

    host: str
    listens: bool
    """Whether the forge sends its events."""
    webhooks: Mapping[str, int]
    """How often a delivery had which outcome, since the start."""
    looked_at: Mapping[str, float | None]
    """When each repository was last looked through; None: not yet."""
    waiting: int
    """Events that are not handled."""
    runs: Mapping[str, int]
    """Number of runs in each state that is not an end."""
    trouble: Mapping[str, str]
    """What does not work now, by what was tried."""
    last_malformed: str | None = None
    """What was wrong with the last delivery that could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthModel:
    """All parts, and what follows of them."""

    status: str
    """ok, degraded or down."""
    version: str
    started_at: float
    parts: tuple[PartHealth, ...] = ()
    jobs: tuple[JobHealth, ...] = ()
    agents: Mapping[str, int] | None = None
    """Number of agents in each state; None while the register is away."""
    standbys: tuple[WaitingOrchestrator, ...] | None = None
    """None: this register has none, or is away."""
    tasks: Mapping[str, int] | None = None
    """Number of tasks in each state that is not an end; None while the register is away."""
    forge: ForgeHealth | None = None
    """None: there is no forge, or the register is away."""

    def parts_of(self, kind: Literal["connector", "register", "egress", "forge", "disk", "traces"]) -> list[PartHealth]:
        """Return the parts of one kind."""
        return [each for each in self.parts if each.kind == kind]
