"""Which requests leave now and which wait. It applies decisions of budget.limits.request_admission.

Each decision happens in memory and in one step of the event loop, so that two requests cannot be admitted on the same
tokens. Far from a limit, a request is decided once and never waits. Admission control makes the reservations durable.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from budget.costs.request_usage_from_history import History
from budget.costs.token_prices import Rates, rates
from budget.limits.input_bound import by_bytes, by_count, by_ratio
from budget.limits.request_admission import Admit, Need, RefuseRequest, RequestWait, Share, decide
from budget.limits.waiting_requests import Stays, WaitingLine, WaitingRequest
from budget.tokens import Tokens
from egress.ledger import table_rows
from egress.ledger.service import UsageLedger
from egress.ledger.table_rows import Reservation
from egress.limits.admission_interface import AdmissionRefused, AdmissionRequest, Cut, Measured
from egress.limits.agent_counter_index import AgentCounters, CounterIndex
from egress.limits.limit_counters import LimitCounter
from egress.limits.reservation import Gate, GateLease, dearest_input

_log = structlog.get_logger(__name__)

#: How long a request waits for others, in seconds. Node's fetch gives up on a response that has not begun after 300 s
#: (undici documentation, "headersTimeout"), and so does Codex on a silent one. Anthropic's and OpenAI's clients give up
#: after 600 s.
WAIT_S: Final = 240.0
#: An input of at most this many tokens, bounded by its bytes, is not measured more closely.
WORTH_MEASURING: Final = 2_048
#: A limit is near if less is left than this many times the request's maximum usage.
NEAR: Final = 4
#: How many responses are remembered that a later request may continue.
_RESPONSES: Final = 4_096


class LeaseOwner(Gate, Protocol):
    """Admission control, as far as the reservations need it."""

    def closed(self, agent: str) -> Cut | None: ...

    def alone(self, lease: GateLease, counter: LimitCounter, share: Share) -> None: ...

    def give_back(self, lease: GateLease) -> None: ...


class _Entry:
    """A waiting request."""

    def __init__(self, asked: AdmissionRequest, need: Need, lease: asyncio.Future[GateLease]) -> None:
        self.asked = asked
        self.need = need
        self.lease = lease
        self.why: RefuseRequest | None = None
        """What it is told when it has waited too long."""
        self.place: WaitingRequest[_Entry] | None = None


class ReservationQueue:
    """The reservations and the waiting requests of one egress.

    Args:
        gate: the owner of the leases.
        ledger: assigns numbers and ids to reservations.
        counters: the counters of the limits.
        history: the usage of past requests.
        leases: the running requests, by agent.
        refuse: writes a refusal to the audit, and returns the error.
        wait_s: how long a request waits for others.
        clock: seconds since the epoch.
        monotonic: seconds.
    """

    def __init__(
        self,
        gate: LeaseOwner,
        ledger: UsageLedger,
        counters: CounterIndex,
        history: History,
        leases: dict[str, set[GateLease]],
        *,
        refuse: Callable[[AdmissionRequest, AgentCounters, RefuseRequest], AdmissionRefused],
        wait_s: float,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._gate = gate
        self._ledger = ledger
        self._counters = counters
        self._history = history
        self._leases = leases
        self._refuse = refuse
        self._wait_s = wait_s
        self._clock = clock
        self._monotonic = monotonic
        self._line: WaitingLine[_Entry] = WaitingLine()
        self._advancing = False
        self._responses: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._measuring: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """The number of waiting requests."""
        return len(self._line)

    async def admit(self, asked: AdmissionRequest, way: AgentCounters) -> GateLease:
        """Reserve what a request may use, as soon as that fits.

        Raises:
            AdmissionRefused: it cannot fit, or has waited too long.
        """
        need = self._need(asked)
        waits = bool(self._line) and self._line.is_claimed([counter.key for counter in way.counters])
        if not waits:
            decision = self._decide(asked, way, need)
            if isinstance(decision, Admit):
                return self._lease(asked, way, need, decision)
            if isinstance(decision, RefuseRequest):
                raise self._refuse(asked, way, decision)
            if self._wait_s <= 0 and not need.counting:
                raise self._refuse(asked, way, decision.refusal)
        return await self._wait(asked, way, need)

    def remember(self, account: str, response_id: str | None, tokens: Tokens) -> None:
        """Remember how many tokens a request that continues this response reads again."""
        if response_id is not None:
            self._responses[account, response_id] = tokens.total
            if len(self._responses) > _RESPONSES:
                self._responses.popitem(last=False)

    def advance(self) -> None:
        """Admit waiting requests that fit now, oldest first. Never waits."""
        if self._advancing or not self._line:
            return
        self._advancing = True
        try:
            self._line.advance(self._ask)
        finally:
            self._advancing = False

    def rearrange(self) -> None:
        """Update the waiting requests after a change of limits."""
        for place in self._line:
            way = self._way(place.what.asked)
            place.draws = frozenset(counter.key for counter in way.counters) if way is not None else frozenset()
            place.claims &= place.draws
        self.advance()

    def end(self, agent: str, cut: Cut) -> None:
        """Refuse all waiting requests of an agent."""
        for place in self._line:
            if place.what.asked.agent == agent:
                self._fail(place.what, AdmissionRefused(cut.reason, scope=cut.scope))

    async def close(self) -> None:
        """Refuse all waiting requests, and cancel running measurements."""
        for place in self._line:
            self._fail(place.what, AdmissionRefused("The egress is stopping. Try again.", retry_after_s=2))
        for task in list(self._measuring):
            task.cancel()
        if self._measuring:
            await asyncio.wait(self._measuring)

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def _wait(self, asked: AdmissionRequest, way: AgentCounters, need: Need) -> GateLease:
        loop = asyncio.get_running_loop()
        entry = _Entry(asked, need, loop.create_future())
        entry.place = self._line.enter(entry, [counter.key for counter in way.counters])
        measuring: asyncio.Task[None] | None = None
        if need.counting:
            measuring = loop.create_task(self._measure(entry, asked), name="measuring an input")
            self._measuring.add(measuring)
            measuring.add_done_callback(self._measuring.discard)
        alarm = loop.call_later(self._wait_s, self._expire, entry) if self._wait_s > 0 else None
        try:
            self.advance()
            return await entry.lease
        except asyncio.CancelledError:
            # The request may have been admitted in this very step.
            if entry.lease.done() and not entry.lease.cancelled() and entry.lease.exception() is None:
                self._gate.give_back(entry.lease.result())
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
            if self._line.leave(entry.place):
                self.advance()
            if measuring is not None and not measuring.done():
                # The measurement reads the body, which the caller closes next.
                measuring.cancel()
                await asyncio.wait([measuring])

    async def _measure(self, entry: _Entry, asked: AdmissionRequest) -> None:
        measured = Measured()
        try:
            assert asked.measure is not None
            measured = await asked.measure()
        except Exception:
            # The bound by bytes, which needs no measurement, applies instead.
            _log.exception("measuring an input failed", agent=asked.agent)
        finally:
            if not entry.lease.done():
                entry.need = self._closer(entry, measured)
                self.advance()
                if self._wait_s <= 0 and not entry.lease.done():
                    self._expire(entry)

    def _expire(self, entry: _Entry) -> None:
        way = self._way(entry.asked)
        if entry.lease.done():
            return
        if way is None or entry.why is None:
            # Older requests still block this one, so no decision was made.
            busy = AdmissionRefused(
                f"Other requests of the same budgets are before this one for {self._wait_s:.0f} s. Try again.",
                retry_after_s=2,
            )
            self._fail(entry, busy)
        else:
            self._fail(entry, self._refuse(entry.asked, way, entry.why))

    def _ask(self, entry: _Entry) -> Stays | None:
        """Admit a waiting request and return None if it fits; otherwise return the limits that it waits for."""
        if entry.lease.done():
            return None
        way = self._way(entry.asked)
        denied = self._gate.closed(entry.asked.agent)
        if way is None or denied is not None:
            self._fail(entry, AdmissionRefused("Closed." if denied is None else denied.reason))
            return None
        try:
            decision = self._decide(entry.asked, way, entry.need)
            if isinstance(decision, Admit):
                entry.lease.set_result(self._lease(entry.asked, way, entry.need, decision))
                return None
            if isinstance(decision, RefuseRequest):
                entry.lease.set_exception(self._refuse(entry.asked, way, decision))
                return None
        except Exception as error:
            _log.exception("a waiting request failed", agent=entry.asked.agent)
            entry.lease.set_exception(error)
            return None
        entry.why = decision.refusal
        on = [way.counters[place] for place in decision.on]
        return Stays(
            on=frozenset(counter.key for counter in on),
            own=frozenset(counter.key for counter in on if counter.limit.kind == "allowance"),
        )

    def _fail(self, entry: _Entry, refused: AdmissionRefused) -> None:
        if not entry.lease.done():
            entry.lease.set_exception(refused)
        if entry.place is not None:
            self._line.leave(entry.place)

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _way(self, asked: AdmissionRequest) -> AgentCounters | None:
        return self._counters.ways.get((asked.agent, asked.provider, asked.account))

    def _need(self, asked: AdmissionRequest) -> Need:
        contents, model = asked.contents, table_rows.name(asked.model)
        previous = None
        if contents.previous is not None:
            previous = self._responses.get((asked.account, contents.previous))
        bound = by_bytes(asked.body_bytes, contents, provider=asked.provider, model=model, previous_tokens=previous)
        return Need(
            bounds=(bound,),
            counting=asked.measure is not None and bound.tokens > WORTH_MEASURING,
            max_tokens=asked.max_tokens,
            choices=asked.choices,
            caches=contents.caches,
            searches=asked.searches,
        )

    def _closer(self, entry: _Entry, measured: Measured) -> Need:
        """Return the request's need, with the result of measuring its input."""
        need, asked = entry.need, entry.asked
        bounds = list(need.bounds)
        if measured.counted is not None:
            bounds.append(by_count(measured.counted, asked.contents))
        elif measured.density is not None:
            ratio = self._history.ratio(asked.agent, table_rows.name(asked.model) or "")
            seen = by_ratio(
                asked.body_bytes, asked.contents, ratio=ratio, density=measured.density, least=need.bounds[0]
            )
            bounds += [seen] if seen is not None else []
        return Need(
            bounds=tuple(bounds),
            counted=measured.counted,
            max_tokens=need.max_tokens,
            choices=need.choices,
            caches=need.caches,
            searches=need.searches,
        )

    def _decide(self, asked: AdmissionRequest, way: AgentCounters, need: Need) -> Admit | RequestWait | RefuseRequest:
        now, model = self._clock(), table_rows.name(asked.model)

        known: dict[int, Rates | None] = {}

        def rates_of(input_tokens: int) -> Rates | None:
            if input_tokens not in known:
                known[input_tokens] = rates(asked.provider, model, now, input_tokens=input_tokens)
            return known[input_tokens]

        return decide(
            [counter.standing(now) for counter in way.counters],
            need,
            weights=self._counters.weights,
            rates=rates_of,
            now=now,
            agent=asked.agent,
            model=model,
        )

    def _lease(self, asked: AdmissionRequest, way: AgentCounters, need: Need, decision: Admit) -> GateLease:
        now, model = self._clock(), table_rows.name(asked.model)
        bound = table_rows.bounded(Tokens(input=(need.unsure or need.sure).tokens, output=decision.output))
        cost = rates(asked.provider, model, now, input_tokens=bound.input)
        nano = None if cost is None else dearest_input(cost, bound.input) + cost.price(Tokens(output=bound.output))
        near = any(
            share.how != "sure" or counter.left < NEAR * share.held
            for counter, share in zip(way.counters, decision.shares, strict=True)
        )
        number, id_ = self._ledger.next_number()
        lease = GateLease(
            self._gate,
            way=way,
            asked=asked,
            reservation=Reservation._make(
                (
                    number,
                    id_,
                    *way.who,
                    table_rows.name(asked.session),
                    table_rows.name(asked.turn),
                    table_rows.name(asked.task),
                    asked.account,
                    asked.provider,
                    asked.api,
                    model,
                    asked.attempt,
                    now,
                    bound.input,
                    bound.output,
                    0,
                    0,
                    0,
                    nano,
                )
            ),
            estimate=self._history.estimate(
                way.role, model or "", asked.body_bytes, decision.output, most_input=bound.input
            ),
            bound=bound,
            rates=cost,
            weights=self._counters.weights,
            max_tokens=decision.max_tokens,
            near=near,
            began=self._monotonic(),
        )
        for counter, share in zip(way.counters, decision.shares, strict=True):
            lease.hold(counter, share)
            if share.excess:
                self._gate.alone(lease, counter, share)
        self._leases.setdefault(asked.agent, set()).add(lease)
        return lease
