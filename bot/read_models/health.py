"""How each part of Muster does. Times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHealth:
    """A connector, the register, the egress, the forge or a disk."""

    name: str
    kind: Literal["connector", "register", "egress", "forge", "disk"]
    reachable: bool | None = None
    """None: not known."""
    impaired: bool = False
    """Whether it works, but not all of it."""
    detail: str = ""
    seen_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHealth:
    """A job of the schedule."""

    name: str
    schedule: str | None = None
    last_run: float | None = None
    next_run: float | None = None
    running_since: float | None = None
    last_error: str | None = None
    missed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgeHealth:
    """What is known of the forge and its issues."""

    webhooks: Mapping[str, int]
    """How often a delivery had which outcome, since the start."""
    looked_at: Mapping[str, float | None]
    """When each repository was last looked through; None: not yet."""
    waiting: int
    """Events that are not handled."""
    runs: Mapping[str, int]
    """Number of runs in each state that is not an end."""
    trouble: int
    """How many things do not work now."""


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
    tasks: Mapping[str, int] | None = None
    """Number of tasks in each state that is not an end; None while the register is away."""
    forge: ForgeHealth | None = None
    """None: there is no forge, or the register is away."""
