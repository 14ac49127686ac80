"""Whose turn it is: deficit round robin over flows, by what their tasks cost. Pure.

A flow is what shares are equal among: an operator, and among one operator's tasks a role. In deficit round robin
(Shreedhar and Varghese, 1996) every flow that has work is given a quantum in each round, and is served when what it was
given covers the cost of its next task. Here nobody walks the rounds: it is computed in how many of them each flow's
next task is covered, and the fewest win. The quantum is one token, so that the order is the finest there is.

A flow without work is given nothing, and what it has not used is taken back; what it owes, because its tasks cost more
than was projected, it goes on owing while others are served. A flow whose work cannot begin now, for want of an agent
or of room in a window, neither gains nor loses.

So a flow's next task is served before any other flow has been served more, since it was ready, than what that task and
that other flow's dearest cost (`bound`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

#: No task costs less than this, so that a flow of tasks that cost nothing does not go on for ever.
LEAST_COST = 1.0
#: Between an operator and the role in the name of a flow; no identity has one.
SEPARATOR = " "


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """A flow whose next task could begin now."""

    key: str
    cost: float
    """What that task is projected to cost; tokens."""

    @property
    def charged(self) -> float:
        """What it is charged."""
        return self.cost if self.cost > LEAST_COST else LEAST_COST


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """Whose turn it is."""

    key: str
    rounds: float
    """How many rounds that takes."""
    deficits: Mapping[str, float]
    """What every flow may still be served once it was; a flow that is missing nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The next task of one role of one operator."""

    operator: str
    role: str
    cost: float

    @property
    def flow(self) -> str:
        """The flow of this role among the operator's."""
        return f"{self.operator}{SEPARATOR}{self.role}"


def turn(flows: Sequence[Flow], deficits: Mapping[str, float], *, blocked: Collection[str] = ()) -> Turn:
    """The flow that is served next, and what each may be served after that.

    Args:
        flows: those whose next task could begin now, at least one; of equal ones the first is served.
        deficits: what each flow may still be served in its round.
        blocked: flows with work that cannot begin now.
    """
    rounds = {flow.key: max(0.0, flow.charged - deficits.get(flow.key, 0.0)) for flow in flows}
    served = min(flows, key=lambda flow: rounds[flow.key])
    walked = rounds[served.key]
    after = {key: kept for key, kept in deficits.items() if key in blocked}
    for key, kept in deficits.items():
        if key not in rounds and key not in after:
            after[key] = min(0.0, kept + walked)
    for flow in flows:
        after[flow.key] = deficits.get(flow.key, 0.0) + walked
    after[served.key] -= served.charged
    return Turn(key=served.key, rounds=walked, deficits=after)


def next_share(
    ready: Sequence[Share], deficits: Mapping[str, float], *, blocked: Collection[tuple[str, str]] = ()
) -> tuple[Share, dict[str, float]]:
    """Which role of which operator is served next, first among operators, then among the roles of that operator.

    Args:
        ready: the next task of each role that could begin now, at least one; of equal ones the first is served.
        deficits: of the flows of operators, and of those of their roles.
        blocked: operator and role of tasks that cannot begin now.

    Returns:
        The one that is served, and what every flow may be served after that.
    """
    own: dict[str, tuple[Share, Mapping[str, float]]] = {}
    for operator in dict.fromkeys(share.operator for share in ready):
        shares = {share.flow: share for share in reversed(ready) if share.operator == operator}
        flows = [Flow(key=share.flow, cost=share.cost) for share in reversed(list(shares.values()))]
        begins = f"{operator}{SEPARATOR}"
        mine = {key: kept for key, kept in deficits.items() if key.startswith(begins)}
        waiting = {f"{begins}{role}" for name, role in blocked if name == operator} - shares.keys()
        found = turn(flows, mine, blocked=waiting)
        own[operator] = shares[found.key], found.deficits
    among = [Flow(key=operator, cost=share.cost) for operator, (share, _) in own.items()]
    waiting = {name for name, _ in blocked} - own.keys()
    outer = turn(among, {key: kept for key, kept in deficits.items() if SEPARATOR not in key}, blocked=waiting)
    served, inner = own[outer.key]
    # Only the roles of the operator that is served go through rounds.
    others = {
        key: kept
        for key, kept in deficits.items()
        if SEPARATOR in key and not key.startswith(f"{served.operator}{SEPARATOR}")
    }
    return served, {**others, **outer.deficits, **inner}


def corrected(
    deficits: Mapping[str, float], *, operator: str, role: str, charged: float, actual: float
) -> dict[str, float]:
    """What the flows of a task may be served once it is known what it cost instead of what they were charged for it.

    Only those that change are in it. Nobody is given back more than to nothing: credit is for those that wait.
    """
    more = max(LEAST_COST, actual) - max(LEAST_COST, charged)
    found = {}
    for key in (operator, f"{operator}{SEPARATOR}{role}"):
        kept = deficits.get(key, 0.0)
        found[key] = kept - more if more > 0 else max(kept, min(0.0, kept - more))
    return found


def bound(*, cost: float, dearest: float, deficit: float = 0.0) -> float:
    """What any other flow is served at most before a flow that is ready is: its task's cost, less what it may already
    be served, and the dearest task of the other."""
    return max(0.0, max(LEAST_COST, cost) - deficit) + max(LEAST_COST, dearest)
