"""A bounded number of audit rows for the agents' refused attempts and their tunnel traffic.

An agent can send a thousand requests a second that are refused, and must not fill the ledger's disk. So the same
attempt is written once a minute, and each agent has a bounded number of rows. The number of omitted attempts is
written, too. Bytes are summed by host and written once a minute.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from egress.tunnel.byte_relay import Traffic

#: How often `flush` must be called, in seconds.
EVERY_S: Final = 60.0
#: Rows for one agent's attempts between two flushes.
MOST_ATTEMPTS: Final = 20
#: Hosts of one agent with separate sums between two flushes.
MOST_HOSTS: Final = 50
#: The collective name of all further hosts.
OTHERS: Final = "other hosts"


class Write(Protocol):
    """Adds a row to the audit (egress.ledger.service.UsageLedger.note)."""

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
    """The audit throttle of one event loop."""

    def __init__(self, write: Write, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds, from any starting point."""
        self._write = write
        self._clock = clock
        self._told: dict[tuple[str, str, str], float] = {}
        self._rows: Counter[str] = Counter()
        self._unsaid: Counter[str] = Counter()
        self._sums: dict[str, dict[str, _Sum]] = {}

    def attempt(self, agent: str, action: str, cause: str) -> None:
        """Write a refused attempt, or only count it."""
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
        """Add the traffic of a closed tunnel."""
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
        """Write the sums and the number of omitted attempts, and reset all counts."""
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
                cause=f"{number} further attempts, repeated or too many to list",
                by="egress",
                result="refused",
                detail={"attempts": number},
            )
        now = self._clock()
        self._told = {key: at for key, at in self._told.items() if now - at < EVERY_S}
        self._rows.clear()
        self._unsaid.clear()
        self._sums.clear()
