"""Durable delivery between chat systems and Muster, the same for every connector.

Incoming events are written to the `inbox` together with the cursor behind them, and handed out until they are finished
(`receiver`). Outgoing messages wait in the `outbox` and are sent until the chat system has them, or become dead letters
(`sender`). `lane_scheduler` and `send_rate_limiter` decide which row goes next. `connector_supervisor` keeps each
connector running, and `retention` deletes old rows.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from connectors.contract.connector_protocol import Connector
from connectors.contract.messages import Batch, Health
from connectors.delivery import inbox, outbox
from connectors.delivery.connector_supervisor import Supervisor
from connectors.delivery.receiver import Handler, InboxReceiver, OnFailed
from connectors.delivery.sender import OnOutcome, OutboxSender
from connectors.delivery.settings import DeliverySettings
from connectors.delivery.write_retry import persist
from core.crash_points import declare
from database.engine.store import Store

__all__ = ["Delivery", "DeliverySettings"]

ABANDON = declare("outbox.abandon")
ACCEPT = declare("inbox.accept")


class Delivery:
    """Connects connectors to the register, and the inbox to a handler."""

    def __init__(
        self,
        store: Store,
        connectors: Mapping[str, Connector],
        handler: Handler,
        *,
        settings: DeliverySettings | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        broken: Mapping[str, Health] | None = None,
        on_outcome: OnOutcome | None = None,
        on_failed: OnFailed | None = None,
    ) -> None:
        """Args:
        store: the open register.
        connectors: by their names; they are subscribed to here.
        handler: deals with one inbound event and finishes it (`inbox.finish`) in its own last transaction. Raising
            means that the event is handed out again: for ever while the register or the chat system is away, else a
            few times.
        settings: times and bounds.
        clock: seconds since the epoch.
        steady: seconds since any moment, however the clock is set; what waits is given up by these.
        rng: a number from 0 up to 1, for jitter.
        broken: the health of connectors that could not even be made.
        on_outcome: told of every row that was sent or is dead; best effort.
        on_failed: called in the transaction that gives an inbound event up.
        """
        self._settings = settings or DeliverySettings()
        self._store = store
        self._clock = clock
        self._broken = dict(broken or {})
        self._receiver = InboxReceiver(store, handler, self._settings, clock=clock, on_failed=on_failed)
        self._listeners: list[Callable[[], None]] = []
        self._supervisors: dict[str, Supervisor] = {}
        for name, connector in connectors.items():
            sender = OutboxSender(
                store, name, connector, self._settings, clock=clock, steady=steady, rng=rng, on_outcome=on_outcome
            )
            self._supervisors[name] = Supervisor(store, name, connector, sender, self._settings, clock=clock, rng=rng)
            connector.subscribe(partial(self.accept, name))

    async def run(self) -> None:
        """Receive, hand out and send, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receiver.run(), name="receiver")
            for name, supervisor in self._supervisors.items():
                tasks.create_task(supervisor.run(), name=f"supervisor {name}")
                tasks.create_task(supervisor.sender.run(), name=f"sender {name}")

    def connector(self, name: str) -> Connector | None:
        """Return the connector of that name."""
        supervisor = self._supervisors.get(name)
        return None if supervisor is None else supervisor.connector

    def wake(self) -> None:
        """There may be something new in the outbox: to be called after the commit that put it there.

        Forgetting it loses nothing, but the row waits for the next look into the register.
        """
        for supervisor in self._supervisors.values():
            supervisor.sender.wake()
        for listener in tuple(self._listeners):
            listener()

    @contextmanager
    def heard(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` at each `wake` in the block: something was committed that people are told."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    async def accept(self, name: str, batch: Batch) -> None:
        """Write a batch and the cursor behind it in one transaction. Returns when it is durable."""
        arrival = await persist(self._store, ACCEPT, lambda tx: inbox.accept(tx, name, batch, self._clock()))
        if batch.events and not (arrival is not None and self._receiver.take(arrival)):
            self._receiver.wake()
        if (supervisor := self._supervisors.get(name)) is not None:
            supervisor.heard()

    async def health(self) -> dict[str, Health]:
        """Return every connector's health by name, also of those that could not be made."""
        found = await asyncio.gather(*(supervisor.health() for supervisor in self._supervisors.values()))
        return {**self._broken, **dict(zip(self._supervisors, found, strict=True))}

    async def abandon(self) -> int:
        """Give up what waited too long for connectors that are not run, because they are not configured any more or
        cannot be made: no one else does. Says how many rows that were.

        Raises:
            RegisterError: the register cannot be used.
        """
        before, total = self._clock() - self._settings.give_up_after, 0
        async with self._store.read() as tx:
            names = [name for name in await outbox.waiting(tx) if name not in self._supervisors]
        for name in names:
            why = "cannot be used" if name in self._broken else "is not configured"
            while True:
                async with self._store.write(ABANDON) as tx:
                    count = await outbox.abandon(tx, name, before, f"the connector {name} {why}")
                total += count
                if count == 0:
                    break
        return total

    async def idle(self) -> None:
        """Wait until every event was dealt with, and nothing is left that could be sent just now."""
        while True:
            resting = [self._receiver.resting, *(each.sender.resting for each in self._supervisors.values())]
            for event in resting:
                await event.wait()
            if all(event.is_set() for event in resting):
                return
