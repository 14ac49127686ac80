"""The gate: what may leave, and when what has left must end (egress.admission.Gatekeeper).

Everything is decided in memory and in one step of the event loop, so that no two requests can be admitted on the same
tokens; and is durable before anybody acts on it. What is promised of limits is said in budget.admission: nothing is
admitted once a limit is used up or held, and when what streams passes it, all that draw on it are cut in the same step.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

from budget.admission import Refuse, decide
from budget.history import LONGEST_ANSWER, History
from budget.prices import rates
from budget.tokens import Tokens
from egress.admission import Cut, Refused
from egress.charging import charge
from egress.crossing import Crossings, closes_routes, detail_of
from egress.denials import EVERYBODY, Denials
from egress.enforcement import Enforcer
from egress.enforcement import enforce as enforce_by_host
from egress.entries import FOR_NOW, error_type
from egress.lease import GateLease
from egress.ledger import rows
from egress.ledger.rows import Reservation, Settlement
from egress.lifts import Lifts
from egress.overview import overview
from egress.settings import EgressSettings
from egress.standing import fine
from egress.tallies import SettingsRefused, Tallies

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from budget.history import Estimate
    from budget.prices import Rates
    from egress.admission import Asked, Ending
    from egress.entries import Observation
    from egress.ledger import Ledger
    from egress.settings import Registration
    from egress.standing import Tally
    from egress.tallies import Way

_log = structlog.get_logger(__name__)

_LEARN_ROWS: Final = 20_000
_AUDIT_S: Final = 60
#: A limit is near with less left than so many times what a request could use at most.
_NEAR: Final = 4


class Gate:
    """Who may go on.

    Args:
        ledger: open.
        estop: the file whose presence is the emergency stop.
        enforce: freezes or kills an agent, and says how it went.
        clock: seconds since the epoch.
        monotonic: seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        estop: Path,
        enforce: Callable[[Registration, str, str], Awaitable[str]] = enforce_by_host,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._enforcer = Enforcer(ledger, enforce)
        self._clock = clock
        self._monotonic = monotonic
        self._history = History()
        self._tallies = Tallies(ledger, clock)
        self._settings = EgressSettings(host="")
        self._agents: dict[str, Registration] = {}
        self._leases: dict[str, set[GateLease]] = {}
        self._watchers: dict[str, dict[object, Callable[[Cut], None]]] = {}
        self._arranging = asyncio.Lock()
        self._lifts = Lifts(self._tallies, lowered=self._reach, clock=clock)
        self._told: dict[tuple[str, str, str], float] = {}
        self._crossings = Crossings(
            ledger,
            self._leases,
            ways=lambda: self._tallies.ways.values(),
            close=self._tell_watchers,
            enforce=self._enforce_soon,
            clock=clock,
        )
        self._denials = Denials(ledger, estop, end=self._end, enforce=self._enforce_soon, clock=clock)
        self.deny = self._denials.deny
        self.allow = self._denials.allow
        self.look = self._denials.look
        self.estop = self._denials.stop
        self.clear_estop = self._denials.clear

    async def start(self, settings: EgressSettings) -> None:
        """Hold these settings, for all agents that the ledger knows. Comes before anything is admitted.

        When they cannot hold (another version wrote them), no agent is known, and so nothing is admitted, until they
        are told anew.

        Raises:
            LedgerUnwritable: the ledger could not be asked.
        """
        for learned in await self._ledger.learned(_LEARN_ROWS):
            self._history.add(learned.role, learned.model, learned.tokens)
        try:
            await self._arrange(settings, dict(self._ledger.agents))
        except SettingsRefused as error:
            _log.error("settings_refused", error=str(error))

    async def close(self) -> None:
        """Wait for what is being done to agents."""
        self._lifts.close()
        await self._enforcer.close()

    # --- what is told to it -----------------------------------------------------------------------------------------

    @property
    def settings(self) -> EgressSettings:
        return self._settings

    @property
    def agents(self) -> dict[str, Registration]:
        """Whom it knows."""
        return dict(self._agents)

    async def set_settings(self, settings: EgressSettings) -> None:
        """Hold other limits from now on, also for what is under way: what is beyond a lower one is cut.

        Raises:
            SettingsRefused: they cannot hold; nothing was changed.
            LedgerUnwritable: a limit counts what was not counted before, and the ledger could not be asked.
        """
        await self._arrange(settings, None)

    async def register(self, registration: Registration) -> None:
        """Know an agent, or know it otherwise; durable.

        Raises:
            SettingsRefused: its limits cannot hold; nothing was changed.
            LedgerUnwritable: it could not be written.
        """
        await self._arrange(None, {registration.agent: registration}, add=True)
        await self._ledger.keep_agent(registration)
        for tally in self._tallies:
            tally.met.discard(registration.agent)

    async def unregister(self, agent: str) -> None:
        """Know an agent no more, and end what it has under way."""
        self._end(agent, Cut(reason=f"{agent} is not registered with the egress any more."))
        await self._ledger.forget_agent(agent)
        async with self._arranging:
            agents = {name: each for name, each in self._agents.items() if name != agent}
            await self._arrange_locked(self._settings, agents)

    async def _arrange(
        self, settings: EgressSettings | None, agents: dict[str, Registration] | None, *, add: bool = False
    ) -> None:
        async with self._arranging:
            if agents is None:
                agents = self._agents
            elif add:
                agents = self._agents | agents
            await self._arrange_locked(settings or self._settings, agents)

    async def _arrange_locked(self, settings: EgressSettings, agents: dict[str, Registration]) -> None:
        def attach(tally: Tally) -> None:
            for leases in self._leases.values():
                for lease in leases:
                    if tally.counted_on in lease.way.draw.every_scope:
                        lease.hold(tally, 0)

        await self._tallies.arrange(self._lifts.lasting(settings), agents.values(), attach=attach)
        self._settings, self._agents = settings, agents
        self._lifts.watch()
        for tally in self._tallies:
            self._reach(tally)

    def _reach(self, tally: Tally) -> None:
        if tally.reached:
            self._crossings.reach(tally)

    # --- Gatekeeper -------------------------------------------------------------------------------------------------

    async def admit(self, asked: Asked) -> GateLease:
        cut = self._denials.closed(asked.agent)
        if cut is not None:
            raise self._refused(asked.agent, Refused(cut.reason, scope=cut.scope))
        way = self._tallies.ways.get((asked.agent, asked.provider, asked.account))
        if way is None:
            raise self._refused(
                asked.agent,
                Refused(f"The egress knows no account {asked.account} of {asked.provider} for {asked.agent}."),
            )
        lease = self._reserve(asked, way)
        try:
            self._ledger.reserve(lease.reservation)
        except BaseException:
            self._forget(lease)
            raise
        return lease

    def denied(self, agent: str) -> Cut | None:
        cut = self._denials.closed(agent)
        if cut is not None:
            return cut
        now = self._clock()
        for way in self._tallies.ways_of(agent):
            for tally in way.tallies:
                if closes_routes(tally):
                    standing = tally.standing(now)
                    if tally.spent:
                        spent = Refuse(
                            why="spent", standing=standing, agent=agent, need=0, retry_after_s=None, model=None
                        )
                        return Cut(reason=spent.text, scope=tally.limit.scope)
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
        """What holds, what was used of it, and who is under way. Ready for JSON."""
        return overview(
            tallies=self._tallies,
            agents=self._agents,
            denials=self._denials,
            streams={name: len(leases) for name, leases in self._leases.items()},
            unwritable=self._ledger.unwritable,
            now=self._clock(),
        )

    # --- reserve, settle --------------------------------------------------------------------------------------------

    def _reserve(self, asked: Asked, way: Way) -> GateLease:
        now = self._clock()
        model = rows.name(asked.model)
        estimate = self._history.estimate(way.role, model or "", asked.body_bytes, asked.max_tokens)
        cost = rates(asked.provider, model, now, input_tokens=estimate.expected.all_input)
        decision = decide(
            [tally.standing(now) for tally in way.tallies],
            estimate,
            max_tokens=asked.max_tokens,
            weights=self._tallies.weights,
            rates=cost,
            now=now,
            agent=asked.agent,
            model=model,
        )
        if isinstance(decision, Refuse):
            for tally in way.tallies:
                if tally.spent:
                    self._crossings.reach(tally, asked.agent)
            self._crossings.met_in_vain(way, decision)
            raise self._refused(
                asked.agent,
                Refused(
                    decision.text,
                    retry_after_s=decision.retry_after_s,
                    scope=decision.standing.limit.scope,
                    detail=detail_of(decision),
                ),
            )
        expected = rows.bounded(estimate.expected)
        number, id_ = self._ledger.next_number()
        lease = GateLease(
            self,
            way=way,
            asked=asked,
            reservation=Reservation._make(
                (
                    number,
                    id_,
                    *way.who,
                    rows.name(asked.session),
                    rows.name(asked.turn),
                    rows.name(asked.task),
                    asked.account,
                    asked.provider,
                    asked.api,
                    model,
                    asked.attempt,
                    now,
                    expected.input,
                    expected.output,
                    expected.cache_read,
                    expected.cache_write,
                    expected.reasoning,
                    None if cost is None else cost.price(expected),
                )
            ),
            estimate=estimate,
            rates=cost,
            weights=self._tallies.weights,
            max_tokens=decision.max_tokens,
            near=self._is_near(way, estimate, decision.max_tokens or asked.max_tokens, cost, now),
            began=self._monotonic(),
        )
        for tally, reserved in zip(way.tallies, decision.reserve, strict=True):
            lease.hold(tally, reserved * fine(tally.limit))
        self._leases.setdefault(asked.agent, set()).add(lease)
        return lease

    def _is_near(self, way: Way, estimate: Estimate, max_tokens: int | None, cost: Rates | None, now: float) -> bool:
        """Whether a limit has less left than a few times what this request could use at the very most."""
        output = LONGEST_ANSWER if max_tokens is None else min(max_tokens, LONGEST_ANSWER)
        most = Tokens(input=estimate.input.all_input, output=output)
        for tally in way.tallies:
            if tally.limit.unit == "tokens":
                worst = self._tallies.weights.weigh(most)
            else:
                worst = 0 if cost is None else cost.price(most)
            if tally.standing(now).left < _NEAR * worst:
                return True
        return False

    def settle(self, lease: GateLease, ending: Ending) -> asyncio.Future[int]:
        """A lease's own way to be settled."""
        now = self._clock()
        elapsed = self._monotonic() - lease.began
        asked = lease.asked
        tokens = rows.bounded(charge(ending, so_far=lease.so_far, estimate=lease.estimate, elapsed_s=elapsed))
        model = rows.name(ending.model)
        nano = lease.price(model, tokens, now, ending.raw)
        tallies = [hold.tally for hold in lease.holds]
        self._forget(lease)
        for tally in tallies:
            tally.roll(now)
            tally.load(tokens, nano or 0, 1, self._tallies.weights)
        today = lease.way.today
        today.roll(now)
        today.add(tokens, nano or 0)
        if ending.reported and ending.ended == "completed":
            self._history.add(lease.way.role, lease.reservation.model_asked or "", tokens, asked.body_bytes)
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
                rows.usage(ending.raw),
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
        for tally in tallies:
            if tally.reached:
                self._crossings.reach(tally, asked.agent)
        return written

    def observe(self, observations: tuple[Observation, ...]) -> None:
        """Keep what a response said of quotas that was not metered."""
        if observations:
            self._ledger.observe(observations)

    def passed(self, lease: GateLease, tally: Tally) -> None:
        """A lease's own way to say that what it used passes a limit."""
        self._crossings.reach(tally, lease.agent)

    def told(self, lease: GateLease) -> None:
        """A lease's own way to keep what its stream has told."""
        self._ledger.tell(lease.reservation)

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
        """End what an agent, or everybody, has under way; how much it was."""
        names = list({*self._leases, *self._watchers}) if agent == EVERYBODY else [agent]
        count = 0
        for name in names:
            count += sum(lease.end(cut) for lease in list(self._leases.get(name, ())))
            self._tell_watchers(name, cut)
        return count

    def _tell_watchers(self, agent: str, cut: Cut) -> None:
        for act in list(self._watchers.get(agent, {}).values()):
            act(cut)

    def _refused(self, agent: str, refused: Refused) -> Refused:
        """Enter a refusal into the audit: of each agent, scope and reason one in a minute."""
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
