"""A lock that allows one lifecycle command per agent at a time: a lease in the register, held while the command runs.

A second command waits a moment, and then fails with the holder's name. A command that a crash interrupted still holds
its lease when it resumes, because the lease records the run's id. If the process never returns, the lease expires.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.context import Context, RunSteps
from bot.commands.services import CommandServices
from bot.text import markdown
from bot.text.errors import UserError
from core.crash_points import declare
from core.errors import RegisterError
from database.queries.agents import agents
from database.queries.operations import leases
from database.queries.operations.leases import Lease, LeaseHeld, LeaseLost

T = TypeVar("T")
S = TypeVar("S", bound="CommandServices")

log = structlog.get_logger(__name__)

CUSTODY = declare("agent.custody")

#: Duration of a lease, and the interval of its renewal, in seconds.
DURATION = 60.0
RENEW = 15.0
#: Maximum wait for another command, and the interval of the checks, in seconds.
PATIENCE = 5.0
LOOK_AGAIN = 0.1

#: Separator between the readable part and the run's id in a lease's owner.
_RUN = ", run "
#: Separator between the command and its author.
_BY = " by "
#: A command only for people. It takes the lease away from an agent's command, which then has no further effect.
_AT_ONCE = "kill"
#: Prefix of the identities of agents (bot.interfaces.mcp.server).
_AGENT = "agent:"


class AgentBusy(UserError):
    """Another command is running for this agent."""

    code = "agent.busy"


def lease_of(agent: str) -> str:
    """Return the name of an agent's lease."""
    return f"agent:{agent}"


async def is_held(tx: AsyncConnection, agent: str, now: float) -> bool:
    """Return whether a command is running for this agent."""
    found = await leases.find(tx, lease_of(agent))
    return found is not None and found.until > now


@contextlib.asynccontextmanager
async def custody(ctx: Context[S], agent: str, doing: str) -> AsyncIterator[Context[S]]:
    """Keep other lifecycle commands away from this agent until the block ends.

    Args:
        ctx: the command's context.
        agent: the agent's name; the agent need not exist yet.
        doing: the command's name, for the error message of a second command.

    Yields:
        The context to continue with: its commits succeed only while the lease is held.

    Raises:
        AgentBusy: another command holds the lease for too long. An agent's command does not delay a person's `kill`.
        AgentElsewhere: the agent belongs to another installation.
    """
    await _make_sure_it_is_ours(ctx, agent)
    owner = f"{doing}{_BY}{ctx.identity}{_RUN}{ctx.run_id}"
    lease = await _acquired(ctx, agent, owner, over_agents=doing == _AT_ONCE)
    renewing = asyncio.create_task(_renew(ctx, lease), name=f"custody {agent}")
    try:
        yield replace(ctx, steps=_Guarded(ctx.steps, lease))
    except asyncio.CancelledError:
        raise  # cut off, and taken up again by the next process: it stays the command's
    except BaseException:
        await _release(ctx, lease)
        raise
    else:
        await _release(ctx, lease)
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])


async def _make_sure_it_is_ours(ctx: Context[CommandServices], agent: str) -> None:
    async with ctx.services.store.read() as tx:
        row = await agents.get(tx, agent)
    if row is not None:
        ctx.services.agents.make_sure_it_is_ours(row)


async def _acquired(ctx: Context[CommandServices], agent: str, owner: str, *, over_agents: bool) -> Lease:
    services = ctx.services
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        try:
            async with services.store.write(CUSTODY) as tx:
                now = services.clock()
                if over_agents and (found := await leases.find(tx, lease_of(agent))) and _is_an_agents(found):
                    await leases.release(tx, found, now=now)
                return await leases.acquire(tx, lease_of(agent), owner, now=now, duration=DURATION)
        except LeaseHeld as held:
            if asyncio.get_running_loop().time() >= deadline:
                raise AgentBusy(_busy(agent, held.lease, services.clock())) from None
        await asyncio.sleep(LOOK_AGAIN)


def _is_an_agents(lease: Lease) -> bool:
    return lease.owner.partition(_BY)[2].startswith(_AGENT)


def _busy(agent: str, lease: Lease, now: float) -> str:
    who = markdown.one_line(lease.owner.rpartition(_RUN)[0] or lease.owner)
    since = markdown.span(max(0.0, now - lease.acquired_at))
    return f"{agent}: {who} is under way, for {since} now. Nothing was changed; ask again when it has ended."


async def _renew(ctx: Context[CommandServices], lease: Lease) -> None:
    while True:
        await asyncio.sleep(RENEW)
        try:
            async with ctx.services.store.write(CUSTODY) as tx:
                await leases.renew(tx, lease, now=ctx.services.clock(), duration=DURATION)
        except LeaseLost as lost:
            log.warning("custody.lost", lease=lease.name, reason=str(lost))
            return
        except RegisterError as error:
            log.info("custody.not_renewed", lease=lease.name, reason=str(error))


async def _release(ctx: Context[CommandServices], lease: Lease) -> None:
    with contextlib.suppress(RegisterError):
        async with ctx.services.store.write(CUSTODY) as tx:
            await leases.release(tx, lease, now=ctx.services.clock())


@dataclass(frozen=True, slots=True)
class _Guarded:
    """Steps of a run that are committed only while a lease is held (bot.commands.context.RunSteps)."""

    steps: RunSteps
    lease: Lease

    async def once(self, step: str, act: Callable[[], Awaitable[T]]) -> T:
        return await self.steps.once(step, act)

    async def commit(self, step: str, act: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async def held(tx: AsyncConnection) -> T:
            await leases.check(tx, self.lease)
            return await act(tx)

        return await self.steps.commit(step, held)

    async def progress(self, text: str) -> None:
        await self.steps.progress(text)
