"""The books of both sides laid beside each other: what the provider billed, and what the ledger holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from egress.ledger.model import LedgerEntry
from fleet.sim.provider.billing_ledger import BilledRequest
from tests.egress.random_clients import Given, Order
from tests.sim.odd_usage import UNTOLD

#: How a request may have ended in the ledger, by the provider's word for it, when its client stayed to the end.
_ENDINGS = {
    "completed": {"completed"},
    "refused": {"error"},
    "failed": {"error"},
    "disconnected": {"upstream_gone"},
    # A document may end anywhere, as far as HTTP knows.
    "unfinished": {"upstream_gone", "completed"},
}


@dataclass
class Audit:
    """What was compared, and what was wrong."""

    faults: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    exact: int = 0
    """Rows that equal the provider's, token by token."""
    estimated: int = 0
    free: int = 0

    def report(self) -> str:
        head = f"{self.exact} exact, {self.estimated} estimated, {self.free} at no cost; {dict(self.kinds)}"
        return "\n".join([head, f"{len(self.faults)} faults", *self.faults[:5]])


def compare(
    orders: Iterable[Order],
    given: Mapping[str, Given],
    served: Iterable[BilledRequest],
    rows: Sequence[LedgerEntry],
    *,
    killed: bool = False,
) -> Audit:
    """Lay the books beside each other.

    Args:
        orders: what was asked, each with a model of its own.
        given: what the clients got, by model.
        served: the provider's ledger.
        rows: the egress's.
        killed: the egress died meanwhile: what its clients did not see to the end may be an estimate.
    """
    audit = Audit()
    if sorted(row.seq for row in rows) != list(range(1, len(rows) + 1)):
        audit.faults.append(f"the sequence has gaps or repetitions: {[row.seq for row in rows][:50]} ...")
    if len({row.id for row in rows}) != len(rows):
        audit.faults.append("an id is there twice")
    by_model: dict[str, list[LedgerEntry]] = defaultdict(list)
    for row in rows:
        by_model[row.model_asked or ""].append(row)
    by_order = dict(by_model)
    provider: dict[str, list[BilledRequest]] = defaultdict(list)
    for entry in served:
        provider[entry.model].append(entry)
    for order in orders:
        found = _one(order, given[order.model], provider[order.model], by_model.pop(order.model, []), audit, killed)
        story = "".join(
            f"\n    {what}" for what in (order, given[order.model], provider[order.model], by_order.get(order.model))
        )
        audit.faults += [f"{order.model} {fault}{story}" for fault in found]
    audit.faults += [f"a row for what nobody asked: {model!r}" for model in by_model]
    return audit


def _one(
    order: Order, given: Given, served: list[BilledRequest], rows: list[LedgerEntry], audit: Audit, killed: bool
) -> Iterable[str]:
    if len(rows) > 1:
        yield f"stands {len(rows)} times in the ledger"
    if len(served) > 1:
        yield f"was sent {len(served)} times to the provider"
    if not rows:
        audit.kinds["never sent"] += 1
        if served:
            yield "was served, and is not in the ledger"
        if given.ended and given.status == 200:
            yield "was answered, and is not in the ledger"
        if not (given.left or killed):
            yield "has no row although its client stayed"
        return
    row = rows[0]
    if (row.agent, row.api) != (order.agent, order.api):
        yield f"is the row of {row.agent}, {row.api}"
    if row.ended_at < row.started_at or row.total_s < 0:
        yield "ended before it began"
    if row.first_byte_s is not None and row.first_byte_s > row.total_s:
        yield "had its first byte after its end"
    if not served:
        audit.kinds["not served"] += 1
        if row.reported:
            yield "is reported, but nobody served it"
        return
    if given.ended and given.status == 200 and given.error is None:
        # Whatever happened after that, and to whom.
        if row.ended != "completed":
            yield f"was seen to its end by its client, and ended as {row.ended}"
        if not row.reported and not untold(order):
            yield "was seen to its end by its client, and is an estimate"
    entry = served[0]
    audit.kinds[entry.state] += 1
    undisturbed = not given.left and not (killed and not given.ended)
    yield from _tokens(order, given, entry, row, audit, undisturbed)
    if undisturbed:
        yield from _end(order, given, entry, row, killed)


def _tokens(
    order: Order, given: Given, entry: BilledRequest, row: LedgerEntry, audit: Audit, undisturbed: bool
) -> Iterable[str]:
    if row.reported:
        audit.exact += 1
        if row.tokens != entry.tokens:
            yield f"has {row.tokens}, the provider billed {entry.tokens}"
        if untold(order):
            yield "is reported, though the provider told nothing that can be read"
        return
    if undisturbed and entry.reported:
        yield f"is an estimate, though the provider said what it billed: {entry.tokens}"
    if undisturbed and entry.state == "refused":
        audit.free += 1
        if row.tokens.total:
            yield f"costs {row.tokens}, though it was refused with {entry.status}"
        return
    audit.estimated += 1
    if entry.state == "refused" or row.status is None or row.status >= 400:
        return
    if row.tokens.output + row.tokens.reasoning < given.text_bytes // 4:
        yield f"is estimated at {row.tokens}, though its client was given {given.text_bytes} bytes of text"
    if given.size and row.tokens.total == 0 and "[[usage: free]]" not in order.text:
        yield "is estimated at nothing, though its client was given something"


def _end(order: Order, given: Given, entry: BilledRequest, row: LedgerEntry, killed: bool) -> Iterable[str]:
    if row.ended not in _ENDINGS.get(entry.state, {row.ended}):
        yield f"ended as {row.ended}, the provider says {entry.state}"
    # Behind the terminal event a client may hang up, and the egress may die.
    broken = given.ended and (killed or order.hangs_up)
    if entry.state in {"completed", "refused", "failed"} and (given.whole or not broken):
        # An error in mid-stream comes after a 200.
        status = 200 if entry.state == "failed" else entry.status
        visible = order.api == "chat" and order.stream and not order.asks_usage and status == 200
        if given.digest != (entry.visible_digest if visible else entry.digest):
            yield f"was given other bytes than the provider sent ({given.size} of {entry.sent})"
        if not given.whole:
            yield f"did not come to its end: {given.failure}"
        if {given.status, row.status} != {status}:
            yield f"was given the status {given.status}, has {row.status}, and the provider said {status}"
    if entry.state == "completed" and not given.ended:
        yield "was completed, and its client did not see that"
    if entry.state in {"disconnected", "unfinished"} and order.stream and given.ended:
        yield "looked complete to its client, and was not"
    if entry.state == "disconnected" and given.whole and given.status == 200:
        yield "broke off, and looked whole to its client"
    if entry.state in {"failed", "refused"} and given.error is None:
        yield "failed, and its client was not told"


def untold(order: Order) -> bool:
    """Whether the provider tells no bill, or none that can be read."""
    return any(f"[[usage: {kind}]]" in order.text for kind in UNTOLD)
