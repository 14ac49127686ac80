"""The exporter of traces: it sends what ended, and remembers how far it came once the collector has it.

The collector gets each span at least once. A kill between its answer and our commit sends the last spans again, under
the same ids and with the same content. While the collector is away, nothing is read and nothing is kept in memory: the
register has all of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from bot.read_models.health import PartHealth
from bot.text.timestamps import timestamp
from bot.traces import otlp
from bot.traces.beginning import SALT
from bot.traces.collector import CollectorAway
from bot.traces.gathering import GatheredSpans, SpanGatherer
from bot.traces.model import FinishedSpan, Value
from core.backoff import pause
from core.crash_points import declare
from core.errors import RegisterError
from database.engine.store import Store
from database.queries.operations import trace_positions

log = structlog.get_logger(__name__)

SENT = declare("traces.sent")

#: Seconds between two looks.
EVERY_S = 2.0
#: The pauses while the collector does not take anything, seconds.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


class SpanReceiver(Protocol):
    """What takes spans (`bot.traces.collector.Collector`)."""

    @property
    def endpoint(self) -> str: ...

    async def send(self, body: bytes, spans: int) -> int: ...


@dataclass(slots=True, kw_only=True)
class TraceExporter:
    store: Store
    gatherer: SpanGatherer
    collector: SpanReceiver
    resource: Mapping[str, Value]
    version: str
    redact: Callable[[str], str]
    clock: Callable[[], float]
    trouble: str | None = None
    """Why nothing can be sent now; None if there is no known problem."""
    reached: float | None = None
    """When the collector took spans last, in seconds since the epoch."""
    sent: int = 0
    """How many spans were sent since the start."""
    refused: int = 0
    """How many of them the collector did not take for good."""
    _failures: int = field(default=0, init=False)

    async def run(self) -> None:
        """Send until cancelled. No failure of it is one of Muster's."""
        while True:
            wait = EVERY_S
            try:
                if await self.send_next():
                    wait = 0.0
                self.trouble, self._failures = None, 0
            except CollectorAway as away:
                wait = self._failed(str(away)) if away.pause_s is None else max(self._failed(str(away)), away.pause_s)
            except RegisterError as error:
                await self.store.rest(self._failed(f"the register cannot be used: {error}"))
                continue
            except Exception as error:
                log.exception("traces.failed")
                wait = self._failed(f"an internal error ({type(error).__name__}); the log has the details")
            await asyncio.sleep(wait)

    def _failed(self, reason: str) -> float:
        """Note why nothing was sent, and return the seconds to wait."""
        if self.trouble is None:
            log.warning("traces.not_sent", reason=reason)
        self.trouble = reason
        self._failures += 1
        return pause(self._failures, first=FIRST_PAUSE, longest=LONGEST_PAUSE, rng=random.random)

    async def send_next(self) -> bool:
        """Send the next spans, and return whether there may be more.

        Raises:
            CollectorAway: the collector did not take them.
            RegisterError: the register cannot be used.
        """
        async with self.store.read() as tx:
            places = await trace_positions.every(tx)
        found = await self.gatherer.gather(places, places[SALT])
        if not found.is_news:
            return False
        if found.spans:
            refused = await self.collector.send(self._encoded(found.spans), len(found.spans))
            self.reached = self.clock()
            self.sent += len(found.spans)
            if refused:
                self.refused += refused
                log.warning("traces.refused", spans=refused)
        await self._remember(found)
        return found.is_full

    async def _remember(self, found: GatheredSpans) -> None:
        async with self.store.write(SENT) as tx:
            for source, settled in found.settled.items():
                await trace_positions.settle(tx, source, settled)
            for source, waiting in found.waiting.items():
                await trace_positions.wait_for(tx, source, waiting)
            await trace_positions.move(tx, found.places, self.clock())

    def _encoded(self, spans: list[FinishedSpan]) -> bytes:
        return otlp.encode(map(self._without_secrets, spans), self.resource, version=self.version)

    def _without_secrets(self, span: FinishedSpan) -> FinishedSpan:
        """Return the span without attributes that have a secret in them. An agent could name a model so."""
        kept = {
            name: value
            for name, value in span.attributes.items()
            if not isinstance(value, str) or self.redact(value) == value
        }
        return replace(span, name=self.redact(span.name), attributes=kept)

    def condition(self) -> PartHealth:
        """Return what ``health`` says of it."""
        lost = f" The collector did not take {self.refused} of them." if self.refused else ""
        if self.trouble is not None:
            since = "" if self.reached is None else f" It took the last ones at {timestamp(self.reached)}."
            detail = f"{self.collector.endpoint}: {self.trouble}. Nothing is lost; Muster goes on trying.{since}{lost}"
        elif self.reached is None:
            detail = f"{self.collector.endpoint}: there was nothing to send yet."
        else:
            detail = f"{self.collector.endpoint}: {self.sent} spans sent since the start.{lost}"
        reachable = False if self.trouble is not None else None if self.reached is None else True
        return PartHealth(
            name="traces",
            kind="traces",
            reachable=reachable,
            impaired=bool(self.refused),
            seen_at=self.reached,
            detail=detail,
        )
