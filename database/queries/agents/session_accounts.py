"""Which account each agent's session is on."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.queries.record import Record
from database.schema import account_leases, agents


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountLease(Record):
    """An agent is on this account of this provider, until it is moved."""

    agent: str
    provider: str
    account: str
    launch_id: str
    #: Why it was this one, as it was told.
    reason: str
    leased_at: float


async def get(tx: AsyncConnection, agent: str, provider: str) -> AccountLease | None:
    those = (account_leases.c.agent == agent, account_leases.c.provider == provider)
    return await AccountLease.one(tx, select(account_leases).where(*those))


async def of_agent(tx: AsyncConnection, agent: str) -> dict[str, str]:
    """Return the account of each provider that an agent is on."""
    leases = await AccountLease.every(tx, select(account_leases).where(account_leases.c.agent == agent))
    return {lease.provider: lease.account for lease in leases}


async def by_agent(tx: AsyncConnection) -> dict[str, dict[str, str]]:
    """Return the account of each provider that each agent is on, also of those that do not run."""
    found: dict[str, dict[str, str]] = {}
    for lease in await AccountLease.every(tx, select(account_leases)):
        found.setdefault(lease.agent, {})[lease.provider] = lease.account
    return found


async def live(tx: AsyncConnection) -> list[AccountLease]:
    """Return those of agents that are to run. Who is stopped or frozen uses nothing, and keeps its account all the
    same."""
    joined = select(account_leases).join(agents, agents.c.name == account_leases.c.agent)
    return await AccountLease.every(tx, joined.where(agents.c.wanted == "running").order_by(account_leases.c.agent))


async def put(tx: AsyncConnection, lease: AccountLease) -> None:
    """Set an agent's account of a provider; another one is let go."""
    same = (account_leases.c.agent == lease.agent) & (account_leases.c.provider == lease.provider)
    await tx.execute(delete(account_leases).where(same))
    await tx.execute(insert(account_leases), [asdict(lease)])


async def drop(tx: AsyncConnection, agent: str, provider: str | None = None) -> None:
    """Let go of an agent's account: of one provider, or of all."""
    those = account_leases.c.agent == agent
    if provider is not None:
        those &= account_leases.c.provider == provider
    await tx.execute(delete(account_leases).where(those))
