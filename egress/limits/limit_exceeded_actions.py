"""What happens when a limit is reached: requests that draw on it end, and its policy is applied to each agent involved.

docs/decisions/0023 explains to whom the policy applies, when, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from budget.limits.request_admission import LimitState, RefuseRequest, Why, cut_text
from budget.limits.scopes import Scope
from egress.ledger.service import UsageLedger
from egress.limits.admission_interface import Cut
from egress.limits.agent_counter_index import AgentCounters
from egress.limits.blocklist import EVERYBODY
from egress.limits.limit_counters import LimitCounter, fine
from egress.limits.reservation import GateLease


class LimitExceededActions:
    """Applies the consequences of reached limits, for one egress.

    Args:
        ledger: the ledger with the audit.
        leases: the running requests, by agent.
        ways: returns the counters of all agents over their accounts.
        close: notifies the watchers of an agent that all its traffic is denied.
        enforce: starts to freeze or kill an agent (agent, action, cause, by, detail for the audit); returns at once.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        ledger: UsageLedger,
        leases: Mapping[str, set[GateLease]],
        *,
        ways: Callable[[], Iterable[AgentCounters]],
        close: Callable[[str, Cut], None],
        enforce: Callable[[str, str, str, str, Mapping[str, Any]], None],
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._leases = leases
        self._ways = ways
        self._close = close
        self._enforce = enforce
        self._clock = clock

    def reach(self, counter: LimitCounter, agent: str | None = None) -> None:
        """End all requests that draw on a limit, and apply its policy once to each agent involved."""
        counter.roll(now := self._clock())
        if not counter.reached:
            return
        ended = [
            lease
            for leases in self._leases.values()
            for lease in leases
            if lease.cut is None and lease.draws_on(counter)
        ]
        involved = {lease.agent for lease in ended} | ({agent} if agent is not None else set())
        if not involved:
            return
        # An allowance counts a single agent, so it is the only one involved.
        about = min(involved) if counter.limit.kind == "allowance" else EVERYBODY
        standing = counter.standing(now)
        reason = cut_text(standing, -(-counter.streaming // fine(counter.limit)), about, midway=bool(ended))
        cut = Cut(reason=reason, scope=counter.limit.scope)
        count = sum(lease.end(cut) for lease in ended)
        new = involved - counter.met
        counter.met |= new
        if not counter.crossed:
            counter.crossed = True
            self._ledger.note(
                about,
                "limit",
                cause=reason,
                by="egress",
                result=f"{count} streams ended",
                detail={
                    **_detail("spent", standing, standing.ends_at),
                    "kind": counter.limit.kind,
                    "limit": counter.limit.amount,
                    "used": -(-(counter.used + counter.streaming) // fine(counter.limit)),
                    "policy": counter.limit.policy,
                    "agents": sorted(involved),
                },
            )
            if closes_routes(counter):
                for name in {way.draw.agent for way in self._ways() if counter in way.counters}:
                    self._close(name, cut)
        if counter.limit.policy != "cutoff":
            for name in sorted(new):
                self._enforce(
                    name, counter.limit.policy, reason, "egress", _detail("spent", standing, standing.ends_at)
                )

    def met_in_vain(self, way: AgentCounters, refusal: RefuseRequest) -> None:
        """Freeze an agent that asks for more than is left, if that is the limit's policy.

        Otherwise its request would fail repeatedly. No agent is killed for this: a request's need is an estimate, and a
        killed agent's conversation is lost.
        """
        if refusal.why != "too_big" or refusal.retry_after_s is not None or refusal.standing.limit.policy != "freeze":
            return
        for counter in way.counters:
            if counter.limit is refusal.standing.limit and refusal.agent not in counter.met:
                counter.met.add(refusal.agent)
                self._enforce(refusal.agent, "freeze", refusal.text, "egress", detail_of(refusal))


def detail_of(refusal: RefuseRequest) -> dict[str, Any]:
    """Return the cause of a refusal, for the audit."""
    return _detail(refusal.why, refusal.standing, refusal.opens_at)


def _detail(why: Why, standing: LimitState, opens_at: float | None) -> dict[str, Any]:
    limit = standing.limit
    return {"scope": limit.scope, "why": why, "unit": limit.unit, "window": limit.window, "opens_at": opens_at}


def closes_routes(counter: LimitCounter) -> bool:
    """Return whether this limit closes all of an agent's routes, not only the requests that draw on it."""
    return Scope.parse(counter.limit.scope).sort not in ("provider", "account")
