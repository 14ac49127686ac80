"""The audit tells what agents tried and where their bytes went, and no agent can fill it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from egress.daemon.audit_throttle import EVERY_S, MOST_ATTEMPTS, MOST_HOSTS, OTHERS, AuditThrottle
from egress.tunnel.byte_relay import Traffic


class Audit:
    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, Mapping[str, Any] | None]] = []
        self.time = 0.0
        self.remarks = AuditThrottle(self, clock=lambda: self.time)

    def __call__(
        self, agent: str, action: str, *, cause: str, by: str, result: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        self.rows.append((agent, action, cause, detail))


def traffic(host: str, sent: int = 1, received: int = 2) -> Traffic:
    return Traffic(agent="coder0", host=host, port=443, sent=sent, received=received, seconds=1.5, ended="closed")


def test_the_same_attempt_is_told_once_a_minute_and_counted() -> None:
    audit = Audit()
    for _ in range(5):
        audit.remarks.attempt("coder0", "route-refused", "evil.example:443")
    assert audit.rows == [("coder0", "route-refused", "evil.example:443", None)]
    audit.time = EVERY_S
    audit.remarks.flush()
    assert audit.rows[1][3] == {"attempts": 4}
    audit.remarks.attempt("coder0", "route-refused", "evil.example:443")
    assert len(audit.rows) == 3


def test_no_agent_fills_the_audit_and_none_takes_anothers_place() -> None:
    audit = Audit()
    for number in range(1000):
        audit.remarks.attempt("coder0", "route-refused", f"{number}.example:443")
    audit.remarks.attempt("coder1", "route-refused", "evil.example:443")
    assert len(audit.rows) == MOST_ATTEMPTS + 1
    audit.remarks.flush()
    assert audit.rows[-1][3] == {"attempts": 1000 - MOST_ATTEMPTS}


def test_bytes_are_summed_by_host_and_told_once() -> None:
    audit = Audit()
    for _ in range(3):
        audit.remarks.passed(traffic("docs.python.org", 10, 20))
    for number in range(MOST_HOSTS * 2):
        audit.remarks.passed(traffic(f"{number}.example.org"))
    audit.remarks.flush()
    told = {cause: detail for _, _, cause, detail in audit.rows}
    assert told["docs.python.org:443"] == {
        "tunnels": 3,
        "sent": 30,
        "received": 60,
        "seconds": 4.5,
        "ended": {"closed": 3},
    }
    assert len(told) == MOST_HOSTS + 1
    rest = told[OTHERS]
    assert rest is not None
    assert rest["tunnels"] == MOST_HOSTS + 1
    audit.rows.clear()
    audit.remarks.flush()
    assert not audit.rows
