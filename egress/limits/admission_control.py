"""Admission control: which requests may leave, and when a running request must end.

It implements egress.limits.admission_interface.Gatekeeper. egress.limits.reservation_queue decides which requests may
leave; each reservation is durable before the request leaves. The rules are in budget.limits.request_admission. If
running responses pass a limit anyway, all requests that draw on it are cut in the same step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from budget.costs.request_usage_from_history import History
from budget.limits.request_admission import RefuseRequest, Share, excess_text
from egress.ledger import table_rows
from egress.ledger.model import EXCESS, FOR_NOW, Observation, error_type
from egress.ledger.service import UsageLedger
from egress.ledger.table_rows import Settlement
from egress.limits.admission_interface import AdmissionRefused, AdmissionRequest, Cut, Ending
from egress.limits.agent_counter_index import AgentCounters, CounterIndex, SettingsRefused
from egress.limits.blocklist import EVERYBODY, Blocklist
from egress.limits.freeze_and_kill import Enforcer
from egress.limits.freeze_and_kill import enforce as enforce_by_host
from egress.limits.limit_counters import LimitCounter
from egress.limits.limit_exceeded_actions import LimitExceededActions, closes_routes, detail_of
from egress.limits.request_charge import charge
from egress.limits.reservation import GateLease
from egress.limits.reservation_queue import WAIT_S, ReservationQueue
from egress.limits.temporary_overrides import TemporaryOverrides
from egress.limits.view import overview
from egress.settings import AgentRegistration, EgressSettings

_log = structlog.get_logger(__name__)

_LEARN_ROWS: Final = 20_000
_AUDIT_S: Final = 60


class AdmissionControl:
    """Admission control of one egress.

    Args:
        ledger: an open ledger.
        estop: the file whose presence is the emergency stop.
        enforce: freezes or kills an agent, and returns a description of the result.
        wait_s: the longest time that a request waits for others near a limit.
        clock: seconds since the epoch.
        monotonic: seconds.
    """

    def __init__(
        self,
        ledger: UsageLedger,
        *,
        estop: Path,
        enforce: Callable[[AgentRegistration, str, str], Awaitable[str]] = enforce_by_host,
        wait_s: float = WAIT_S,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._enforcer = Enforcer(ledger, enforce)
        self._clock = clock
        self._monotonic = monotonic
        self._history = History()
        self._counters = CounterIndex(ledger, clock)
        self._settings = EgressSettings(host="")
        self._agents: dict[str, AgentRegistration] = {}
        self._leases: dict[str, set[GateLease]] = {}
        self._watchers: dict[str, dict[object, Callable[[Cut], None]]] = {}
        self._arranging = asyncio.Lock()
        self._lifts = TemporaryOverrides(self._counters, lowered=self._reach, clock=clock)
        self._told: dict[tuple[str, str, str], float] = {}
        self._crossings = LimitExceededActions(
            ledger,
            self._leases,
            ways=lambda: self._counters.ways.values(),
            close=self._tell_watchers,
            enforce=self._enforce_soon,
            clock=clock,
        )
        self._reserving = ReservationQueue(
            self,
            ledger,
            self._counters,
            self._history,
            self._leases,
            refuse=self._turned_away,
            wait_s=wait_s,
            clock=clock,
            monotonic=monotonic,
        )
        self._denials = Blocklist(ledger, estop, end=self._end, enforce=self._enforce_soon, clock=clock)
        self.deny = self._denials.deny
        self.allow = self._denials.allow
        self.look = self._denials.look
        self.estop = self._denials.stop
        self.clear_estop = self._denials.clear

    async def start(self, settings: EgressSettings) -> None:
        """Apply these settings to all agents that the ledger knows. Must run before any admission.

        If the settings are invalid (for example, another version wrote them), no agent is known. Nothing is admitted
        until valid settings arrive.

        Raises:
            LedgerUnwritable: the ledger could not be read.
        """
        for learned in await self._ledger.learned(_LEARN_ROWS):
            self._history.add(learned.role, learned.model, learned.tokens)
        try:
            await self._arrange(settings, dict(self._ledger.agents))
        except SettingsRefused as error:
            _log.error("settings_refused", error=str(error))

    async def close(self) -> None:
        """Stop waiting requests and timers, and wait for running freezes and kills."""
        self._lifts.close()
        await self._reserving.close()
        await self._enforcer.close()

    # --- settings and agents ----------------------------------------------------------------------------------------

    @property
    def settings(self) -> EgressSettings:
        return self._settings

    @property
    def agents(self) -> dict[str, AgentRegistration]:
        """The registered agents, by name."""
        return dict(self._agents)

    async def set_settings(self, settings: EgressSettings) -> None:
        """Apply other settings from now on, also to running requests: those beyond a lower limit are cut.

        Raises:
            SettingsRefused: the settings are invalid; nothing was changed.
            LedgerUnwritable: a limit counts something new, and the ledger could not be read.
        """
        await self._arrange(settings, None)

    async def register(self, registration: AgentRegistration) -> None:
        """Register an agent, or change its registration; durable.

        Raises:
            SettingsRefused: its limits are invalid; nothing was changed.
            LedgerUnwritable: the registration could not be written.
        """
        await self._arrange(None, {registration.agent: registration}, add=True)
        await self._ledger.keep_agent(registration)
        for counter in self._counters:
            counter.met.discard(registration.agent)

    async def unregister(self, agent: str) -> None:
        """Unregister an agent, and end its running requests."""
        self._end(agent, Cut(reason=f"{agent} is no longer registered with the egress."))
        await self._ledger.forget_agent(agent)
        async with self._arranging:
            agents = {name: each for name, each in self._agents.items() if name != agent}
            await self._arrange_locked(self._settings, agents)

    async def _arrange(
        self, settings: EgressSettings | None, agents: dict[str, AgentRegistration] | None, *, add: bool = False
    ) -> None:
        async with self._arranging:
            if agents is None:
                agents = self._agents
            elif add:
                agents = self._agents | agents
            await self._arrange_locked(settings or self._settings, agents)

    async def _arrange_locked(self, settings: EgressSettings, agents: dict[str, AgentRegistration]) -> None:
        def attach(counter: LimitCounter) -> None:
            for leases in self._leases.values():
                for lease in leases:
                    if counter.counted_on in lease.way.draw.every_scope:
                        lease.hold(counter)

        await self._counters.arrange(self._lifts.lasting(settings), agents.values(), attach=attach)
        self._settings, self._agents = settings, agents
        self._lifts.watch()
        for counter in self._counters:
            self._reach(counter)
        self._reserving.rearrange()

    def _reach(self, counter: LimitCounter) -> None:
        if counter.reached:
            self._crossings.reach(counter)

    # --- Gatekeeper -------------------------------------------------------------------------------------------------

    async def admit(self, asked: AdmissionRequest) -> GateLease:
        cut = self._denials.closed(asked.agent)
        if cut is not None:
            raise self._refused(asked.agent, AdmissionRefused(cut.reason, scope=cut.scope))
        way = self._counters.ways.get((asked.agent, asked.provider, asked.account))
        if way is None:
            raise self._refused(
                asked.agent,
                AdmissionRefused(f"The egress knows no account {asked.account} of {asked.provider} for {asked.agent}."),
            )
        lease = await self._reserving.admit(asked, way)
        try:
            self._ledger.reserve(lease.reservation)
        except BaseException:
            self.give_back(lease)
            raise
        return lease

    def denied(self, agent: str) -> Cut | None:
        cut = self._denials.closed(agent)
        if cut is not None:
            return cut
        now = self._clock()
        for way in self._counters.ways_of(agent):
            for counter in way.counters:
                if closes_routes(counter):
                    standing = counter.standing(now)
                    if counter.spent:
                        spent = RefuseRequest(
                            why="spent", standing=standing, agent=agent, need=0, retry_after_s=None, model=None
                        )
                        return Cut(reason=spent.text, scope=counter.limit.scope)
        return None

    def watch(self, agent: str, act: Callable[[Cut], None]) -> Callable[[], None]:
        token = object()
        self._watchers.setdefault(agent, {})[token] = act

        def stop() -> None:
            watchers = self._watchers.get(agent, {})
            watchers.pop(token, None)
            if not watchers:
                self._watchers.pop(agent, None)

        return stop

    def standing(self) -> dict[str, Any]:
        """Return the limits, their usage and the running requests, ready for JSON."""
        return overview(
            counters=self._counters,
            agents=self._agents,
            denials=self._denials,
            streams={name: len(leases) for name, leases in self._leases.items()},
            unwritable=self._ledger.unwritable,
            now=self._clock(),
        )

    @property
    def waiting(self) -> int:
        """The number of requests that wait for others."""
        return self._reserving.waiting

    # --- reserve, settle --------------------------------------------------------------------------------------------

    def closed(self, agent: str) -> Cut | None:
        """Return why no request of this agent is admitted, regardless of limits, or None if requests are allowed."""
        return self._denials.closed(agent)

    def _turned_away(self, asked: AdmissionRequest, way: AgentCounters, refusal: RefuseRequest) -> AdmissionRefused:
        for counter in way.counters:
            if counter.spent:
                self._crossings.reach(counter, asked.agent)
        self._crossings.met_in_vain(way, refusal)
        return self._refused(
            asked.agent,
            AdmissionRefused(
                refusal.text,
                retry_after_s=refusal.retry_after_s,
                scope=refusal.standing.limit.scope,
                detail=detail_of(refusal),
            ),
        )

    def alone(self, lease: GateLease, counter: LimitCounter, share: Share) -> None:
        """Write an audit row: a request runs alone and may pass a limit by its input
        (budget.limits.request_admission)."""
        self._ledger.note(
            lease.agent,
            EXCESS,
            cause=excess_text(counter.standing(self._clock()), share, lease.agent),
            by="egress",
            result="admitted",
            detail={
                "kind": counter.limit.kind,
                "scope": counter.limit.scope,
                "unit": counter.limit.unit,
                "window": counter.limit.window,
                "excess": share.excess,
                "request": lease.id,
            },
        )

    def settle(self, lease: GateLease, ending: Ending) -> asyncio.Future[int]:
        """Settle a lease; called by the lease itself."""
        now = self._clock()
        elapsed = self._monotonic() - lease.began
        asked = lease.asked
        tokens = table_rows.bounded(
            charge(ending, so_far=lease.so_far, estimate=lease.estimate, bound=lease.bound, elapsed_s=elapsed)
        )
        model = table_rows.name(ending.model)
        nano = lease.price(model, tokens, now, ending.raw)
        counters = [hold.counter for hold in lease.holds]
        self._forget(lease)
        for counter in counters:
            counter.roll(now)
            counter.load(tokens, nano or 0, 1, self._counters.weights)
        today = lease.way.today
        today.roll(now)
        today.add(tokens, nano or 0)
        if ending.reported and ending.ended == "completed":
            asked_for = lease.reservation.model_asked or ""
            self._history.add(lease.way.role, asked_for, tokens, asked.body_bytes)
            self._history.add_ratio(asked.agent, asked_for, tokens.all_input, asked.body_bytes)
            self._reserving.remember(asked.account, ending.response_id, tokens)
        written = self._ledger.settle(
            Settlement(
                lease.reservation,
                model,
                tokens.input,
                tokens.output,
                tokens.cache_read,
                tokens.cache_write,
                tokens.reasoning,
                ending.reported,
                table_rows.usage(ending.raw),
                ending.status,
                ending.ended,
                error_type(ending.detail),
                now,
                ending.first_byte_s,
                elapsed,
                nano,
            )
        )
        if ending.observations:
            self._ledger.observe(ending.observations)
        for counter in counters:
            if counter.reached:
                self._crossings.reach(counter, asked.agent)
        self._reserving.advance()
        return written

    def observe(self, observations: tuple[Observation, ...]) -> None:
        """Keep the quotas that an unmetered response reported."""
        if observations:
            self._ledger.observe(observations)

    def passed(self, lease: GateLease, counter: LimitCounter) -> None:
        """Handle a limit that a lease's usage passed; called by the lease itself."""
        self._crossings.reach(counter, lease.agent)

    def told(self, lease: GateLease) -> None:
        """Keep the usage that a lease's stream has reported; called by the lease itself."""
        self._ledger.tell(lease.reservation)

    def freed(self) -> None:
        """Admit waiting requests after a lease reduced its hold; called by the lease itself."""
        self._reserving.advance()

    def give_back(self, lease: GateLease) -> None:
        """Release the reservation of a request that does not leave after all."""
        self._forget(lease)
        self._reserving.advance()

    def _forget(self, lease: GateLease) -> None:
        lease.let_go()
        leases = self._leases.get(lease.agent)
        if leases is not None:
            leases.discard(lease)
            if not leases:
                del self._leases[lease.agent]

    def _enforce_soon(
        self, agent: str, action: str, cause: str, by: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        registration = self._agents.get(agent)
        if registration is not None:
            self._enforcer.soon(registration, action, cause, by, detail)

    # ----------------------------------------------------------------------------------------------------------------

    def _end(self, agent: str, cut: Cut) -> int:
        """End the running requests of an agent, or of every agent, and return their number."""
        names = list({*self._leases, *self._watchers, *self._agents}) if agent == EVERYBODY else [agent]
        count = 0
        for name in names:
            count += sum(lease.end(cut) for lease in list(self._leases.get(name, ())))
            self._reserving.end(name, cut)
            self._tell_watchers(name, cut)
        return count

    def _tell_watchers(self, agent: str, cut: Cut) -> None:
        for act in list(self._watchers.get(agent, {}).values()):
            act(cut)

    def _refused(self, agent: str, refused: AdmissionRefused) -> AdmissionRefused:
        """Write a refusal to the audit, at most once a minute for each agent, scope and reason."""
        now = self._monotonic()
        about = agent, refused.scope or "", str(refused.detail.get("why"))
        if now - self._told.get(about, -_AUDIT_S) >= _AUDIT_S:
            if len(self._told) > 10_000:
                self._told.clear()
            self._told[about] = now
            self._ledger.note(
                agent,
                "refused",
                cause=str(refused),
                by="egress",
                result="refused" if refused.retry_after_s is None else FOR_NOW,
                detail={"scope": refused.scope, **refused.detail},
            )
        return refused
