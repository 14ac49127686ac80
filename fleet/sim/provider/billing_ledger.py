"""What the simulated provider was asked and what it billed: the truth that metering is compared with."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Literal, TypeAlias

from budget.tokens import Tokens
from fleet.sim.provider.normalized_request import Api
from fleet.sim.provider.token_count import BilledTokens

State: TypeAlias = Literal["running", "completed", "refused", "failed", "disconnected", "unfinished", "client_gone"]

#: So many of the latest requests are kept.
CAPACITY = 20_000
LONGEST_TEXT = 8_000


@dataclass(frozen=True, kw_only=True, slots=True)
class BilledRequest:
    """One request to a model."""

    number: int
    """Counts from 1, in the order of arrival."""
    id: str
    api: Api
    model: str
    account: str
    """A digest of the key, so that keys are told apart without being shown."""
    at: float
    stream: bool
    attempt: int
    """Which time this very request came, from 1."""
    text: str
    """The last words of the person."""
    results: int
    """Tool outputs since then: 0 says that a turn begins."""
    spoken: int
    """Which time the person speaks in this conversation: above 1, the client sent what was said before."""
    tools: int
    """How many tools were offered. Side requests of runtimes (titles) offer none."""
    state: State = "running"
    """refused: an error before anything was sent; failed: an error in mid-stream; disconnected: the connection was
    broken; unfinished: the body ended without the terminal event."""
    status: int = 200
    stop: str | None = None
    answer: str = ""
    usage: BilledTokens = field(default_factory=BilledTokens)
    reported: bool = False
    """The response said what was billed, all of it."""
    max_tokens: int | None = None
    """The bound that the request set."""
    sent: int = 0
    """Bytes of content, before any compression."""
    digest: str = ""
    """Of that content: SHA-256, hexadecimal."""
    visible_digest: str = ""
    """The same without a chunk that has only the usage."""
    ended_at: float | None = None

    @property
    def tokens(self) -> Tokens:
        """What was billed, no token counted twice. Anthropic does not tell reasoning from other output."""
        reasoning = 0 if self.api == "anthropic" else self.usage.reasoning
        return Tokens(
            input=self.usage.input,
            output=self.usage.output - reasoning,
            cache_read=self.usage.cache_read,
            cache_write=self.usage.cache_write,
            reasoning=reasoning,
        )

    def to_json(self) -> dict[str, Any]:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**fields, "usage": dict(self.usage.as_ledger()), "tokens": dataclasses.asdict(self.tokens)}


class BillingLedger:
    """The requests, newest last, and a way to wait for them."""

    def __init__(self, log: IO[str] | None = None) -> None:
        self._log = log
        self._entries: dict[int, BilledRequest] = {}
        self._changed = asyncio.Condition()
        self._count = 0

    def next_number(self) -> int:
        self._count += 1
        return self._count

    @property
    def entries(self) -> tuple[BilledRequest, ...]:
        return tuple(self._entries.values())

    async def put(self, entry: BilledRequest) -> None:
        """Add an entry, or replace the one of the same number; a finished one goes to the log."""
        self._entries[entry.number] = entry
        while len(self._entries) > CAPACITY:
            del self._entries[next(iter(self._entries))]
        if self._log is not None and entry.state != "running":
            self._log.write(json.dumps(entry.to_json(), ensure_ascii=False) + "\n")
            self._log.flush()
        async with self._changed:
            self._changed.notify_all()

    async def find(
        self, matches: Callable[[BilledRequest], bool], *, at_least: int = 0, timeout: float = 0.0
    ) -> tuple[BilledRequest, ...]:
        """Return the matching entries, as soon as there are `at_least` so many, or after `timeout` seconds what there
        is."""
        found: tuple[BilledRequest, ...] = ()

        def enough() -> bool:
            nonlocal found
            found = tuple(entry for entry in self._entries.values() if matches(entry))
            return len(found) >= at_least

        if enough() or timeout <= 0:
            return found
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(enough)
        except TimeoutError:
            enough()
        return found
