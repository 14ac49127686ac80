"""An admitted request, as the proxy holds it (egress.admission.Lease)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from budget.prices import price
from budget.tokens import Tokens
from egress.charging import at_an_end, has_input, next_step
from egress.ledger import rows
from egress.standing import Hold, weight

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from budget.history import Estimate
    from budget.prices import Rates
    from budget.tokens import Weights
    from egress.admission import Asked, Cut, Ending
    from egress.ledger.rows import Reservation
    from egress.standing import Tally
    from egress.tallies import Way


_log = structlog.get_logger(__name__)

_NOTHING: Final = Tokens()
#: Ten thousand US dollars: more no request costs, whatever its provider says. The ledger's sums stay within 64 bits.
MOST_NANO_USD: Final = 10**13


class _Gate(Protocol):
    def settle(self, lease: GateLease, ending: Ending) -> asyncio.Future[int]: ...

    def passed(self, lease: GateLease, tally: Tally) -> None: ...

    def told(self, lease: GateLease) -> None: ...


class GateLease:
    """Counts what its request uses against every tally that it draws on.

    Args:
        gate: is told of limits that are passed, and settles.
        way: of its agent over its account.
        asked: what was asked for.
        reservation: its row in the ledger.
        estimate: what is expected of it.
        rates: what its tokens cost.
        weights: of tokens.
        max_tokens: the bound that must be set.
        near: little is left of a limit.
        began: by the monotonic clock.
    """

    __slots__ = (
        "_acts",
        "_assumed",
        "_gate",
        "_money",
        "_reserved",
        "_settling",
        "_weighed",
        "_weights",
        "asked",
        "began",
        "cut",
        "estimate",
        "max_tokens",
        "near",
        "rates",
        "reservation",
        "so_far",
        "way",
    )

    def __init__(
        self,
        gate: _Gate,
        *,
        way: Way,
        asked: Asked,
        reservation: Reservation,
        estimate: Estimate,
        rates: Rates | None,
        weights: Weights,
        max_tokens: int | None,
        near: bool,
        began: float,
    ) -> None:
        self._gate = gate
        self.way = way
        self.asked = asked
        self.reservation = reservation
        self._reserved = rows.reserved(reservation)
        self.estimate = estimate
        self.rates = rates
        self._weights = weights
        self.max_tokens = max_tokens
        self.near = near
        self.began = began
        self.cut: Cut | None = None
        self.so_far = _NOTHING
        self._assumed = weight(estimate.input, weights)
        self._weighed: list[Hold] = []
        self._money: list[Hold] = []
        self._acts: list[Callable[[Cut], None]] = []
        self._settling: asyncio.Future[int] | None = None

    @property
    def id(self) -> str:
        return self.reservation.id

    @property
    def agent(self) -> str:
        return self.asked.agent

    @property
    def holds(self) -> list[Hold]:
        return self._weighed + self._money

    def hold(self, tally: Tally, reserved: int) -> None:
        """Hold this much against a tally, in the parts that it counts, and count on it from now on.

        What it reads is counted from the beginning: once it has left, the provider bills it.
        """
        hold = Hold(tally, reserved)
        if tally.limit.unit == "tokens":
            self._weighed.append(hold)
            hold.count(self._assumed if self.so_far is _NOTHING else weight(self._counted(), self._weights))
        else:
            self._money.append(hold)
            hold.count(0 if self.rates is None else self.rates.price(self._counted()))

    def draws_on(self, tally: Tally) -> bool:
        return any(hold.tally is tally for hold in self.holds)

    def let_go(self) -> None:
        """Give back what is held."""
        for hold in self.holds:
            hold.release()
        self._weighed.clear()
        self._money.clear()

    def end(self, cut: Cut) -> bool:
        """Have the request end; whether that is new to it."""
        if self.cut is not None or self._settling is not None:
            return False
        self.cut = cut
        acts, self._acts = self._acts, []
        for act in acts:
            act(cut)
        return True

    def on_cut(self, act: Callable[[Cut], None]) -> None:
        if self.cut is not None:
            act(self.cut)
        else:
            self._acts.append(act)

    def progress(self, so_far: Tokens) -> None:
        if so_far is self.so_far or self._settling is not None:
            return
        self.so_far = so_far
        if self._weighed:
            used = weight(so_far, self._weights)
            if not has_input(so_far):
                used += self._assumed
            for hold in self._weighed:
                if hold.count(used):
                    self._gate.passed(self, hold.tally)
        if self._money and self.rates is not None:
            used = self.rates.price(self._counted())
            for hold in self._money:
                if hold.count(used):
                    self._gate.passed(self, hold.tally)

    def told(self, so_far: Tokens) -> int:
        if self._settling is None:
            tokens = rows.bounded(at_an_end(so_far, self._reserved))
            self.reservation = self.reservation._replace(
                input=tokens.input,
                output=tokens.output,
                cache_read=tokens.cache_read,
                cache_write=tokens.cache_write,
                reasoning=tokens.reasoning,
                nano_usd=None if self.rates is None else min(self.rates.price(tokens), MOST_NANO_USD),
            )
            self._gate.told(self)
        return next_step(so_far)

    async def settle(self, ending: Ending) -> None:
        if self._settling is None:
            self._acts.clear()
            self._settling = self._gate.settle(self, ending)
            await self._settling

    def price(self, model: str | None, tokens: Tokens, now: float, raw: Mapping[str, Any] | None) -> int | None:
        """What it cost, in nano-USD: by the model that answered, or else by the one that was asked for."""
        try:
            for name in dict.fromkeys((model, self.reservation.model_asked)):
                found = price(self.asked.provider, name, tokens, now, raw)
                if found is not None:
                    return min(found, MOST_NANO_USD)
        except Exception:
            # Whatever a provider may write into its bill, what was used is counted.
            _log.exception("price_failed", model=model)
        return None

    def _counted(self) -> Tokens:
        if self.so_far is _NOTHING:
            return self.estimate.input
        return self.so_far if has_input(self.so_far) else self.so_far + self.estimate.input
