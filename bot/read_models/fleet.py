"""The fleet as `ps` shows it. Times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bot.read_models.provenance import Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class GateClosure:
    """One reason why the egress admits no request of an agent."""

    kind: Literal["estop", "cut_off", "paused", "used_up", "ended"]
    """``estop``: the emergency stop holds for all. ``cut_off``: until somebody restores it. ``paused``: it used too
    much without a result, until somebody answers `question`. ``used_up``: a limit is. ``ended``: until its next
    start."""
    by: str | None = None
    """The identity that closed it, or ``muster``; of an emergency stop the first one."""
    why: str | None = None
    at: float | None = None
    question: str | None = None
    limits: tuple[str, ...] = ()
    """The scopes of the limits that are used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentGate:
    """Whether the egress admits an agent's requests."""

    closures: tuple[GateClosure, ...] = ()
    """All reasons why it does not, the strongest first."""

    @property
    def state(self) -> str:
        """``open``, or the kind of the strongest reason."""
        return self.closures[0].kind if self.closures else "open"

    def closed_by(self, kind: str) -> GateClosure | None:
        """Return the reason of this kind, or None if there is none."""
        return next((each for each in self.closures if each.kind == kind), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitWait:
    """An agent waits for a limit or for the pace, and goes on by itself."""

    why: Literal["limit", "ahead", "pace"]
    """``limit``: it stopped at one. ``ahead``: it stopped ahead of the pace. ``pace``: its own tasks are held back."""
    until: float | None = None
    scope: str | None = None
    tasks: int = 0
    """Number of tasks that the pace holds back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetAgent:
    """One agent of the register."""

    name: str
    alias: str | None = None
    role: str
    runtime: str
    model: str | None = None
    model_answering: str | None = None
    """Another model that answers in place of `model`."""
    wanted: str
    """The desired state: running, stopped or frozen."""
    state: str
    """One of `fleet.supervision.liveness.STATES`."""
    seen: Provenance
    """The evidence of `state`."""
    detail: str | None = None
    detail_since: float | None = None
    """Since when `detail` is so; None where that tells nothing."""
    activity: str | None = None
    """The running tool call, the permission request, or what the agent says that it does."""
    activity_since: float | None = None
    wait: LimitWait | None = None
    """Why it does nothing, if that is a limit."""
    session: str | None = None
    turns: int | None = None
    turn_started_at: float | None = None
    queued: int = 0
    """Number of messages that wait for it."""
    sandbox: str
    unconfined: bool = False
    """Whether its sandbox profile isolates nothing."""
    never_asks: bool = False
    """Whether its runtime cannot ask for permission."""
    workspace: str
    host: str
    tenant_id: str
    started_at: float | None = None
    tries_at: float | None = None
    """Time of its next automatic start."""
    tokens_today: int | None = None
    """Tokens since midnight in the operator's time zone; None: unknown."""
    accounts: Mapping[str, str] = field(default_factory=dict)
    """The account of each provider that it is on."""
    gate: AgentGate | None = None
    """None: unknown."""
    drift: Literal["not_in_roster", "changed"] | None = None
    """How it differs from the roster. Always None if drift was not loaded."""
    run: str | None = None
    """The id of its newest run, if its latest launch was for one."""
    color: str | None = None
    """The color of that run."""
    elsewhere: bool = False
    """Whether it belongs to another installation; its state is that installation's last report."""

    @property
    def is_up(self) -> bool:
        """Whether it runs, should run, or ended without being stopped."""
        return self.wanted == "running" or self.state != "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedAgent:
    """An agent of the roster that could not start."""

    name: str
    reason: str
    """Sentences: why, and what to do."""
    refused: bool = False
    """Whether `launch` refuses it too. Otherwise it starts, and reaches no model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetModel:
    """All agents."""

    agents: tuple[FleetAgent, ...] = ()
    """Those of the register, by name; also those that are stopped."""
    blocked: tuple[BlockedAgent, ...] = ()
    """Those that are only in the roster, and could not start."""
    missing: tuple[str, ...] = ()
    """Other agents that are only in the roster. Empty if drift was not loaded."""
    strays: tuple[str, ...] = ()
    """Agents that run, and that the register does not know. Empty if drift was not loaded."""
    estop: GateClosure | None = None
    """The emergency stop, as far as known."""
