"""The account of each agent's session.

It is chosen (`budget.policy.account_choice`) and recorded in the transaction that starts the agent. This transaction
sees all earlier leases, so sessions that start together use different accounts. An agent keeps its account over
restarts. If the account is used up, the next start of the host moves the agent and reports the move in its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line
from bot.pacing.window_services import WindowServices
from bot.pacing.window_status import PaceSnapshot
from bot.text import markdown
from bot.text.errors import UserError
from budget.policy.account_choice import AccountCandidate, Chosen, WindowRoom, choose
from budget.windows.pace_admission import Cost, Waits, decide
from budget.windows.work_draw import WorkDraw
from core.crash_points import declare
from database.queries.agents import session_accounts
from database.queries.agents.agents import AgentRow
from database.queries.agents.session_accounts import AccountLease
from fleet.errors import FleetError
from fleet.launch.launch_plan import LaunchPlan

LEASED = declare("session.leased")


def candidate(
    snapshot: PaceSnapshot, account: str, plan: LaunchPlan | AgentRow, leases: int = 0, at_once: int | None = None
) -> AccountCandidate:
    """Return what is left of an account for a session, and how many it has.

    Args:
        snapshot: the window states.
        account: the account.
        plan: the session, by its model.
        leases: the number of other sessions on the account.
        at_once: the maximum number of sessions; None: there is none.
    """
    scope = f"account:{account}"
    standings = [
        standing
        for standing in snapshot.for_draw(WorkDraw(account=account, model=plan.model, host=False))
        if standing.window.scope == scope
    ]
    rooms = []
    for standing in standings:
        window = standing.window
        used, limit = window.known_use, window.known_limit
        left = None if used is None else 0.0 if limit <= 0 else (limit - used - standing.held) / limit
        rooms.append(WindowRoom(window=window.key.removeprefix("account:"), left=left, resets_at=window.resets_at))
    waits = isinstance(decide(standings, Cost(tokens=0.0, usd=0.0), "normal", snapshot.now, snapshot.policy), Waits)
    return AccountCandidate(account=account, rooms=rooms, leases=leases, at_once=at_once, waits=waits)


async def lease(
    services: WindowServices,
    tx: AsyncConnection,
    row: AgentRow,
    accounts: Mapping[str, Sequence[str]],
    snapshot: PaceSnapshot,
    *,
    may_refuse: bool = False,
) -> dict[str, str]:
    """Choose and record the account of each provider for an agent's session, and announce a change.

    Args:
        services: the services to use.
        tx: the transaction that starts the agent; it sees all earlier leases.
        row: the agent.
        accounts: the accounts that serve it, by provider; the provider of its model comes first
            (`fleet.launch.launch_plan.LaunchPlan.accounts`).
        snapshot: the window states.
        may_refuse: refuse an agent that needs a new account if all accounts have their maximum of sessions.

    Raises:
        UserError: the agent is refused for this reason.
    """
    settings = services.settings.accounts
    others = [each for each in await session_accounts.live(tx) if each.agent != row.name]
    found: dict[str, str] = {}
    for left in (await session_accounts.of_agent(tx, row.name)).keys() - accounts.keys():
        # The agent no longer uses this provider, so it must not occupy a session slot there.
        await session_accounts.drop(tx, row.name, left)
    for place, (provider, serving) in enumerate(accounts.items()):
        names = [name for name in serving if _has_credential(services, name)] or serving
        candidates = [
            candidate(
                snapshot,
                name,
                row,
                leases=sum(each.account == name for each in others),
                at_once=settings[name].at_once if name in settings else None,
            )
            for name in names
        ]
        held = await session_accounts.get(tx, row.name, provider)
        chosen = choose(candidates, held=held.account if held is not None else None)
        if chosen is None:
            continue
        taken = next(each for each in candidates if each.account == chosen.account)
        if may_refuse and place == 0 and taken.full and (held is None or held.account != chosen.account):
            listed = ", ".join(f"{each.account} ({each.leases} of {each.at_once})" for each in candidates if each.full)
            raise UserError(
                f"Every account that serves {row.name} has its maximum of sessions (`at_once`): {listed}. "
                f"Free one with {command_line('stop NAME')}, or raise `at_once` in muster.yaml.",
                code="account.full",
            )
        found[provider] = chosen.account
        if held is not None and held.account == chosen.account:
            continue
        new = AccountLease(
            agent=row.name,
            provider=provider,
            account=chosen.account,
            launch_id=row.launch_id,
            reason=chosen.reason,
            leased_at=services.clock(),
        )
        await session_accounts.put(tx, new)
        if place == 0 and (text := _told(chosen, held, several=len(names) > 1)) is not None:
            key = f"lease/{row.name}/{row.launch_id}/{chosen.account}/{new.leased_at:.3f}"
            await services.agents.journal_effects.note(tx, row, key, text)
    return found


def _has_credential(services: WindowServices, account: str) -> bool:
    """Return whether no credential is known to be missing. The egress checks all but environment variables."""
    found = services.settings.accounts.get(account)
    reference = None if found is None else found.credential
    if reference is None or reference.scheme != "env":
        return True
    return bool(services.environ.get(reference.name, "").strip())


def _told(chosen: Chosen, held: AccountLease | None, *, several: bool) -> str | None:
    account = markdown.code(chosen.account)
    if chosen.moved_from is not None:
        before = markdown.code(chosen.moved_from)
        return f"🔀 It moves from the account {before}, which is used up, to {account}: {chosen.reason}."
    if held is not None:
        before = markdown.code(held.account)
        return f"🔀 It is on the account {account} now, as {before} serves it no longer, or has no credential any more."
    return f"It is on the account {account}: {chosen.reason}." if several else None


async def accounts_of(services: WindowServices, row: AgentRow) -> Mapping[str, str]:
    """Return the agent's account for each provider, before its host starts (`fleet.launch.host_spec_builder`).

    Raises:
        FleetError: no account serves it.
        RegisterError: the register cannot be written.
    """
    accounts = await asyncio.to_thread(services.planner.choices_of, row)
    if not accounts:
        return {}
    snapshot = await services.pace.snapshot()
    async with services.store.write(LEASED) as tx:
        found = await lease(services, tx, row, accounts, snapshot)
    services.delivery.wake()
    return found


async def drawn_on(services: WindowServices, row: AgentRow, leased: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the provider and the account of an agent's model, from its leased accounts."""
    provider: str | None = None
    if len(leased) > 1:
        with contextlib.suppress(FleetError):
            provider = next(iter(await asyncio.to_thread(services.planner.choices_of, row)), None)
    if provider not in leased:
        provider = next(iter(leased), None)
    return provider, leased.get(provider or "")
