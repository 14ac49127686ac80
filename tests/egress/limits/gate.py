"""A gate over a real ledger, for tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from budget.tokens import Tokens
from egress.ledger.model import Action, LedgerEntry
from egress.ledger.service import UsageLedger
from egress.limits.admission_control import AdmissionControl
from egress.limits.admission_interface import AdmissionRequest, Cut, Ending
from egress.limits.reservation import GateLease
from egress.settings import AgentRegistration, EgressSettings, LimitSettings
from tests.egress.ledger.rows import Clock

#: No text has more tokens than bytes: a request of so many reads a hundred at most.
BODY = 100
MODEL = "claude-sonnet-4-5"


def pool(amount: float, scope: str = "host", **others: Any) -> LimitSettings:
    return LimitSettings(kind="pool", scope=scope, amount=amount, **others)


def allowance(amount: float, scope: str = "agent:coder0", **others: Any) -> LimitSettings:
    return LimitSettings(kind="allowance", scope=scope, amount=amount, **others)


def registration(agent: str = "coder0", **changes: Any) -> AgentRegistration:
    given: dict[str, Any] = {
        "launch_id": f"{agent}-1",
        "role": "coder",
        "accounts": {"anthropic": "main", "openai": "spare"},
        "profile": "strict",
        "profiles": ("strict", "base"),
    }
    return AgentRegistration(agent=agent, **given | changes)


def asked(agent: str = "coder0", **changes: Any) -> AdmissionRequest:
    """A request that reads 100 tokens and writes 100 at most."""
    given: dict[str, Any] = {
        "account": "main",
        "provider": "anthropic",
        "api": "anthropic",
        "model": MODEL,
        "body_bytes": BODY,
        "max_tokens": 100,
    }
    return AdmissionRequest(agent=agent, **given | changes)


def completed(read: int = 100, written: int = 100, **changes: Any) -> Ending:
    given: dict[str, Any] = {
        "ended": "completed",
        "status": 200,
        "tokens": Tokens(input=read, output=written),
        "reported": True,
        "model": MODEL,
        "raw": {"input_tokens": read},
    }
    return Ending(**given | changes)


@dataclass
class House:
    """One life of an egress, without its sockets."""

    ledger: UsageLedger
    gate: AdmissionControl
    clock: Clock
    estop: Path
    enforced: list[tuple[str, str, str]] = field(default_factory=list)

    async def limits(self, *limits: LimitSettings, **others: Any) -> None:
        await self.gate.set_settings(EgressSettings(host="attic", limits=limits, **others))

    async def use(self, agent: str = "coder0", read: int = 100, written: int = 100, **changes: Any) -> None:
        """One request from its beginning to its end."""
        lease = await self.gate.admit(asked(agent, **changes))
        await lease.settle(completed(read, written))

    async def actions(self) -> list[Action]:
        """All of the audit, what was asked for up to now included."""
        await self.ledger.flushed()
        return await self.ledger.actions_after(0, 1000)

    async def entries(self) -> list[LedgerEntry]:
        return await self.ledger.entries_after(0, 1000)

    def limit(self, scope: str = "host", counted_on: str | None = None) -> dict[str, Any]:
        """What stands against one limit."""
        (found,) = [
            row
            for row in self.gate.standing()["limits"]
            if row["scope"] == scope and counted_on in (None, row["counted_on"])
        ]
        return dict(found)

    def agent(self, name: str = "coder0") -> dict[str, Any]:
        return dict(self.gate.standing()["agents"][name])


@contextlib.asynccontextmanager
async def house(
    folder: Path,
    *limits: LimitSettings,
    agents: int = 2,
    clock: Clock | None = None,
    wait_s: float = 0.0,
    estop: Path | None = None,
    **others: Any,
) -> AsyncIterator[House]:
    """A gate that knows so many agents, and has nobody wait unless it is told so; what it is given before, it has from
    the ledger in this folder."""
    clock = clock or Clock()
    estop = estop or folder / "estop"
    ledger = await UsageLedger.open(folder / "ledger.db", clock=clock)
    made: House

    async def enforce(registration: AgentRegistration, action: str, cause: str) -> str:
        made.enforced.append((registration.agent, action, cause))
        return "done"

    gate = AdmissionControl(ledger, estop=estop, enforce=enforce, wait_s=wait_s, clock=clock, monotonic=clock)
    made = House(ledger, gate, clock, estop)
    try:
        await gate.start(EgressSettings(host="attic", limits=limits, **others))
        for number in range(agents):
            await gate.register(registration(f"coder{number}"))
        yield made
        await gate.close()
    finally:
        await ledger.close()


def heard(lease: GateLease) -> list[Cut]:
    """What a lease says to who listens for its cut, from now on."""
    cuts: list[Cut] = []
    lease.on_cut(cuts.append)
    return cuts
