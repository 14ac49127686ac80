"""Live events for observers: the gateway's WebSocket, and later the dashboard.

Events are not stored. A client that must not miss any reads the register.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from core.redaction import redacted_mapping

#: Maximum number of events that wait for one client; a slower client is disconnected.
BACKLOG = 1000


class TooSlow(Exception):
    """The client fell too far behind and missed events."""


class Subscription:
    """One client's view of the hub: ``async for event in subscription``, until `TooSlow`."""

    def __init__(self, backlog: int) -> None:
        self._waiting: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(backlog)
        self._overrun = asyncio.Event()

    def put(self, event: Mapping[str, Any]) -> bool:
        """Queue an event. Return False if the client is too far behind; it then gets only the queued events."""
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            self._overrun.set()
            return False
        return True

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Mapping[str, Any]:
        if self._waiting.empty() and self._overrun.is_set():
            raise TooSlow
        return await self._waiting.get()


class EventHub:
    """Hub that sends each event to all current subscribers without waiting for them."""

    def __init__(self, backlog: int = BACKLOG, redact: Callable[[str], str] = str) -> None:
        self._backlog = backlog
        self._redact = redact
        self._subscriptions: set[Subscription] = set()

    def is_watched(self) -> bool:
        """Return whether there are subscribers."""
        return bool(self._subscriptions)

    def publish(self, event: Mapping[str, Any]) -> None:
        """Publish an event: a JSON object with a ``type``. Secrets in it are redacted.

        A secret that is split over several events is not recognized (bot.agents.journal.entry_stream).
        """
        if not self._subscriptions:
            return
        event = redacted_mapping(event, self._redact)
        for subscription in tuple(self._subscriptions):
            if not subscription.put(event):
                self._subscriptions.discard(subscription)

    @contextmanager
    def subscribed(self) -> Iterator[Subscription]:
        """Subscribe for the duration of a block."""
        subscription = Subscription(self._backlog)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
