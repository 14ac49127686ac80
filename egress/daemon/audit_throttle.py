"""What agents try in vain, and what goes through their tunnels, as rows of the audit: so many, and never more.

An agent can ask for a thousand refused things a second; the ledger's disk is not its to fill. So the same attempt is
told once a minute, an agent has a bounded number of rows, and what was left out is told as a number. Bytes are summed
by host and told once a minute.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from egress.tunnel.byte_relay import Traffic

#: How often `flush` is to be called.
EVERY_S: Final = 60.0
#: Rows of one agent's attempts between two flushes.
MOST_ATTEMPTS: Final = 20
#: Hosts of one agent's whose bytes are told apart between two flushes.
MOST_HOSTS: Final = 50
#: In the place of those beyond.
OTHERS: Final = "other hosts"


class Write(Protocol):
    """Adds a row to the audit (egress.ledger.UsageLedger.note)."""

    def __call__(
        self, agent: str, action: str, *, cause: str, by: str, result: str, detail: Mapping[str, Any] | None = None
    ) -> None: ...


@dataclass(slots=True)
class _Sum:
    tunnels: int = 0
    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)


class AuditThrottle:
    """Of one event loop."""

    def __init__(self, write: Write, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds, from anywhere."""
        self._write = write
        self._clock = clock
        self._told: dict[tuple[str, str, str], float] = {}
        self._rows: Counter[str] = Counter()
        self._unsaid: Counter[str] = Counter()
        self._sums: dict[str, dict[str, _Sum]] = {}

    def attempt(self, agent: str, action: str, cause: str) -> None:
        """Something was refused."""
        key = agent, action, cause[:300]
        now = self._clock()
        known = self._told.get(key)
        if (known is not None and now - known < EVERY_S) or self._rows[agent] >= MOST_ATTEMPTS:
            self._unsaid[agent] += 1
            return
        self._rows[agent] += 1
        self._told[key] = now
        self._write(agent, action, cause=cause, by="egress", result="refused")

    def passed(self, traffic: Traffic) -> None:
        """A tunnel is closed."""
        hosts = self._sums.setdefault(traffic.agent, {})
        where = f"{traffic.host}:{traffic.port}"
        if where not in hosts and len(hosts) >= MOST_HOSTS:
            where = OTHERS
        found = hosts.setdefault(where, _Sum())
        found.tunnels += 1
        found.sent += traffic.sent
        found.received += traffic.received
        found.seconds += traffic.seconds
        found.ended[traffic.ended] += 1

    def flush(self) -> None:
        """Tell the sums, and what was left out; recount."""
        for agent, hosts in self._sums.items():
            for where, found in hosts.items():
                detail = {
                    "tunnels": found.tunnels,
                    "sent": found.sent,
                    "received": found.received,
                    "seconds": round(found.seconds, 3),
                    "ended": dict(found.ended),
                }
                self._write(agent, "tunnel", cause=where, by=agent, result="closed", detail=detail)
        for agent, number in self._unsaid.items():
            self._write(
                agent,
                "refused",
                cause=f"{number} further attempts, which are like those before or too many to be listed",
                by="egress",
                result="refused",
                detail={"attempts": number},
            )
        now = self._clock()
        self._told = {key: at for key, at in self._told.items() if now - at < EVERY_S}
        self._rows.clear()
        self._unsaid.clear()
        self._sums.clear()
