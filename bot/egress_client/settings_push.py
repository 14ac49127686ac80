"""The settings to push to the egress: from muster.yaml, the roster's budgets, commands and agents. Pure.

For one scope, a limit set by command overrides all limits in files, and muster.yaml overrides the roster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import structlog

from bot.config import sandbox_profiles
from bot.config.limits import LimitBlock
from bot.config.schema import Settings
from budget.amounts import Unit
from budget.limits.scopes import LimitKind, Policy
from budget.scope_names import EACH_AGENT
from budget.windows.window_boundaries import is_from_moment
from database.queries.spending.limits_by_command import BudgetRow
from egress.provider_endpoints import PROVIDERS
from egress.settings import (
    ROLES,
    AccountSettings,
    AgentRegistration,
    EgressSettings,
    LimitSettings,
    PaceSettings,
)
from fleet.sandbox.egress_grant import WayAsked

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldLimit:
    """A limit in effect, from any source, in its original unit."""

    kind: LimitKind
    scope: str
    """The scope for the egress: ``host`` for the allowance of each agent."""
    amount: float
    unit: Unit
    window: str | None
    """For a share: the provider's name of the window."""
    policy: Policy
    of: str | None = None
    """For a share: the account whose window it is a share of."""
    reset_at: float | None = None
    """When that window resets, according to a person."""
    set_at: float = 0.0
    """When it was set by command; 0 if it is from a file."""

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole window of an account: it limits nothing, but may set the window's reset."""
        return self.unit == "share" and self.scope == f"account:{self.of}" and self.amount >= 1


def held(settings: Settings, roster_budgets: Mapping[str, int], given: Sequence[BudgetRow]) -> tuple[HeldLimit, ...]:
    """Return every limit except those of single launches, including shares of accounts' windows.

    Args:
        settings: muster.yaml.
        roster_budgets: tokens by the name of the agent, from roster.yaml.
        given: limits set by command.
    """
    commanded = [held_of(row) for row in given]
    overruled = {(each.kind, each.scope) for each in commanded if not each.is_whole}
    written = _in_files(settings, roster_budgets)
    return (*(each for each in written if (each.kind, each.scope) not in overruled), *commanded)


def replaced_by_command(
    settings: Settings, roster_budgets: Mapping[str, int], given: Sequence[BudgetRow]
) -> tuple[HeldLimit, ...]:
    """Return the limits in files that do not hold, because a command set another for the same scope; see `held`."""
    overruled = {(each.kind, each.scope) for row in given if not (each := held_of(row)).is_whole}
    return tuple(each for each in _in_files(settings, roster_budgets) if (each.kind, each.scope) in overruled)


def _in_files(settings: Settings, roster_budgets: Mapping[str, int]) -> list[HeldLimit]:
    allowances = [*settings.budgets.allowances(), *sandbox_profiles.allowances(settings.sandboxes)]
    pools = [
        *settings.budgets.pools(),
        *((f"account:{name}", limit) for name, account in settings.accounts.items() for limit in account.limit),
        *sandbox_profiles.pools(settings.sandboxes),
    ]
    written = [*(_held("allowance", *each) for each in allowances), *(_held("pool", *each) for each in pools)]
    said = {(each.kind, each.scope) for each in written}
    for name, tokens in sorted(roster_budgets.items()):
        if ("allowance", f"agent:{name}") not in said:
            written.append(
                HeldLimit(
                    kind="allowance",
                    scope=f"agent:{name}",
                    amount=tokens,
                    unit="tokens",
                    window=None,
                    policy="cutoff",
                )
            )
    return written


def limits_of(
    settings: Settings, roster_budgets: Mapping[str, int], given: Sequence[BudgetRow]
) -> tuple[LimitSettings, ...]:
    """Return the limits in tokens or USD. Shares of a provider's window are estimated elsewhere (bot.pacing).

    Args:
        settings: muster.yaml.
        roster_budgets: tokens by the name of the agent, from roster.yaml.
        given: limits set by command.
    """
    return tuple(limit_settings(each) for each in held(settings, roster_budgets, given) if each.unit != "share")


def limit_settings(limit: HeldLimit) -> LimitSettings:
    """Convert a limit in tokens or USD to the egress's form."""
    return LimitSettings.model_validate(
        {
            "kind": limit.kind,
            "scope": limit.scope,
            "amount": limit.amount,
            "unit": limit.unit,
            "window": limit.window,
            "policy": limit.policy,
            "set_at": limit.set_at,
        }
    )


def held_of(row: BudgetRow) -> HeldLimit:
    """Convert the row of a limit set by command."""
    kind, scope = addressed(row.scope)
    return HeldLimit(
        kind=kind,
        scope=scope,
        amount=row.amount,
        unit=cast("Literal['tokens', 'usd', 'share']", row.unit),
        window=row.window or None,
        policy=cast("Policy", row.policy),
        of=row.of or (scope.removeprefix("account:") if row.unit == "share" else None),
        reset_at=row.reset_at,
        set_at=row.set_at,
    )


def understood(limits: Sequence[LimitSettings], status: Mapping[str, Any]) -> tuple[LimitSettings, ...]:
    """Drop limits that an older egress does not support, because it would refuse all settings for them.

    Args:
        limits: the limits in effect.
        status: the status that the egress reports.
    """
    if ROLES in (status.get("understands") or ()):
        return tuple(limits)
    known = [each for each in limits if not each.scope.startswith("role:") and not is_from_moment(each.window)]
    if len(known) < len(limits):
        log.warning("egress.too_old", limits=[each.scope for each in limits if each not in known])
    return tuple(known)


def addressed(scope: str) -> tuple[LimitKind, str]:
    """Return the kind of limit and the egress's scope for a scope in commands."""
    if scope == EACH_AGENT:
        return "allowance", "host"
    return ("allowance", scope) if scope.startswith("agent:") else ("pool", scope)


def egress_settings(
    settings: Settings, limits: Sequence[LimitSettings], *, host: str, paces: Sequence[PaceSettings] = ()
) -> EgressSettings:
    """Return all settings that do not belong to a single agent."""
    made = EgressSettings(
        host=host,
        accounts=tuple(
            AccountSettings(
                name=name,
                provider=account.provider,
                upstream=account.upstream or PROVIDERS[account.provider].upstream,
                credential=None if account.credential is None else str(account.credential),
                passthrough=account.passthrough,
                server_tools=account.server_tools,
                premium=account.premium,
            )
            for name, account in settings.accounts.items()
        ),
        limits=tuple(limits),
        paces=tuple(paces),
        weights=settings.budgets.weights,
    )
    revision = hashlib.sha256(made.model_dump_json().encode()).hexdigest()[:16]
    return made.model_copy(update={"revision": revision})


def registration(asked: WayAsked) -> AgentRegistration:
    """Return the registration of an agent."""
    return AgentRegistration(
        agent=asked.agent,
        launch_id=asked.launch_id,
        role=asked.role,
        accounts=dict(asked.accounts),  # type: ignore[arg-type]  # pydantic checks the providers
        profile=asked.profile,
        profiles=asked.profiles,
        routes=asked.routes,
        listener=asked.listener,
        limits=tuple(
            LimitSettings(
                kind="allowance",
                scope=each.scope,
                amount=each.amount,
                unit=each.unit,
                window=each.window,
                policy=each.policy,
                may_raise=each.may_raise,
                set_at=each.set_at,
            )
            for each in asked.allowances
        ),
        control_socket=asked.control_socket,
        marker=asked.marker,
        turn_file=asked.turn_file,
    )


def secrets_of(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets from the environment, which only this process can resolve, by their reference."""
    found: dict[str, str] = {}
    for account in settings.accounts.values():
        reference = account.credential
        if reference is not None and reference.scheme == "env" and environ.get(reference.name, "").strip():
            found[str(reference)] = environ[reference.name].strip()
    return found


def _held(kind: LimitKind, scope: str, limit: LimitBlock) -> HeldLimit:
    return HeldLimit(
        kind=kind,
        scope=scope,
        amount=limit.amount,
        unit=limit.unit,
        window=limit.window,
        policy=limit.policy,
        of=limit.of or (scope.removeprefix("account:") if limit.unit == "share" else None),
    )
