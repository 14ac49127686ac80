"""Orders in the register, and the callers that wait for their outcomes.

An order is written down under a key before anything is done for it. It is done as often as it takes until there is an
outcome, and never again after that: so whatever does it looks first whether it was done already.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from core.async_waits import set_within
from core.backoff import pause
from core.crash_points import declare
from core.errors import RegisterError
from database.engine.store import Store
from database.queries.forge import forge_orders
from database.queries.forge.forge_orders import ForgeOrder
from forge.model.errors import ForgeAway

PLACE = declare("forge.order")
DONE = declare("forge.done")

#: How many orders are acted on at one time.
MOST_AT_ONCE = 8
#: How many due orders are looked at, as others of their runs may be under way.
_MOST_DUE = 100
#: The pauses between attempts while the forge or the register is away, seconds.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
#: Seconds until an order that waits for something is looked at again, if nothing wakes it.
LOOK_AGAIN = 600.0
#: Why a try did nothing that failed in a way that nobody foresaw.
INTERNAL = "An internal error in Muster. Its log has more."

_log = structlog.get_logger("forge.orders")


@dataclass(frozen=True, slots=True)
class Acted:
    """An order is done."""

    outcome: str
    also: Callable[[AsyncConnection], Awaitable[None]] | None = None
    """Written in the same transaction as the outcome."""


@dataclass(frozen=True, slots=True)
class ActAgain:
    """An order could not be done yet. `OrderBook.wake` has it tried again at once."""

    why: str
    in_s: float = LOOK_AGAIN


Act = Callable[[ForgeOrder], Awaitable[Acted | ActAgain]]


@dataclass(slots=True)
class OrderBook:
    """The open orders. Call `run` beside what places them."""

    store: Store
    act: Act
    clock: Callable[[], float]
    rng: Callable[[], float] = random.random
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _outcomes: dict[str, asyncio.Future[str]] = field(default_factory=dict)
    _busy: dict[str, str] = field(default_factory=dict)
    """The orders that are acted on, and the runs that they are for."""
    _woken: set[str] = field(default_factory=set)

    async def place(self, key: str, run: str, kind: str, given: Mapping[str, str] | None = None) -> str:
        """Order something, unless it was ordered under this key before, and return its outcome when there is one."""
        now = self.clock()
        order = ForgeOrder(key=key, run=run, kind=kind, input=dict(given or {}), try_at=now, created_at=now)
        outcome = self._outcomes.setdefault(key, asyncio.get_running_loop().create_future())
        try:
            while True:
                with contextlib.suppress(RegisterError):
                    async with self.store.write(PLACE) as tx:
                        await forge_orders.add(tx, order)
                        stands = await forge_orders.get(tx, key)
                    if stands is not None and stands.outcome is not None:
                        return str(stands.outcome["is"])
                    break
                await asyncio.sleep(FIRST_PAUSE)
            self._news.set()
            return await asyncio.shield(outcome)
        finally:
            if self._outcomes.get(key) is outcome and outcome.done():
                del self._outcomes[key]

    def wake(self, key: str) -> None:
        """Have an order that waits tried again at once."""
        self._woken.add(key)
        self._news.set()

    async def run(self) -> None:
        """Act on orders until cancelled. First try all open ones: what they wait for may have come meanwhile."""
        async with asyncio.TaskGroup() as tasks:
            failures = 0
            is_first = True
            while True:
                self._news.clear()
                try:
                    if is_first:
                        self._woken |= await self._open()
                        is_first = False
                    wait = await self._begin(tasks)
                    failures = 0
                except RegisterError as error:
                    _log.warning("forge.register", reason=str(error))
                    failures += 1
                    wait = pause(failures, first=FIRST_PAUSE, longest=30.0, rng=self.rng)
                await set_within(self._news, wait)

    async def _open(self) -> set[str]:
        async with self.store.read() as tx:
            return await forge_orders.open_keys(tx)

    async def _begin(self, tasks: asyncio.TaskGroup) -> float | None:
        """Begin to act on orders whose time has come; return in how many seconds the next one is due."""
        now = self.clock()
        taken = frozenset(self._woken)  # others may be woken while these are read
        async with self.store.read() as tx:
            due = await forge_orders.due(tx, now, limit=_MOST_DUE)
            woken = [await forge_orders.get(tx, key) for key in sorted(taken)]
            next_at = await forge_orders.next_at(tx)
        # What is woken while it is tried is tried once more: it may have looked before there was something to see.
        self._woken -= taken - self._busy.keys()
        for order in woken:
            if order is not None and order.outcome is not None:
                self._tell(order.key, str(order.outcome["is"]))
        for order in [*(each for each in woken if each is not None and each.state == "open"), *due]:
            if order.key in self._busy:
                continue
            # The orders of a run come one after the other: what one makes, such as a clone, another removes.
            if len(self._busy) >= MOST_AT_ONCE or (order.run and order.run in self._busy.values()):
                self._woken.add(order.key)
                continue
            self._busy[order.key] = order.run
            tasks.create_task(self._do(order), name=f"forge order {order.key}")
        return None if next_at is None else max(0.05, next_at - now) if not due else 1.0

    async def _do(self, order: ForgeOrder) -> None:
        try:
            async with self.store.read() as tx:
                now = await forge_orders.get(tx, order.key)  # it may have been done since it was read
            if now is not None and now.state == "open":
                await self._try(now)
        except RegisterError as error:
            _log.warning("forge.register", order=order.key, reason=str(error))
            self._woken.add(order.key)  # its outcome may be written for all that
            await self.store.rest(FIRST_PAUSE)
        finally:
            del self._busy[order.key]
            self._news.set()

    async def _try(self, order: ForgeOrder) -> None:
        in_s = pause(order.tries + 1, first=FIRST_PAUSE, longest=LONGEST_PAUSE, rng=self.rng)
        try:
            await self._record(order, await self.act(order))
        except (ForgeAway, RegisterError) as error:
            await self._record(order, ActAgain(str(error), in_s))
        except Exception:
            _log.exception("forge.order_failed", order=order.key, kind=order.kind)
            await self._record(order, ActAgain(INTERNAL, in_s))

    async def _record(self, order: ForgeOrder, result: Acted | ActAgain) -> None:
        now = self.clock()
        async with self.store.write(DONE) as tx:
            if isinstance(result, ActAgain):
                if not await forge_orders.again(tx, order.key, try_at=now + result.in_s, detail=result.why):
                    self._woken.add(order.key)  # its outcome was written though nobody could be sure
                return
            if await forge_orders.done(tx, order.key, {"is": result.outcome}, now) and result.also is not None:
                await result.also(tx)
        self._tell(order.key, result.outcome)

    def _tell(self, key: str, outcome: str) -> None:
        waiting = self._outcomes.get(key)
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)
