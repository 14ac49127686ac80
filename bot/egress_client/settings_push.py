"""What the egress is told: muster.yaml, the roster's budgets, limits given by command, and who agents are. Pure.

Of a scope, what was given by command goes before all that the files say of it; muster.yaml before the roster.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import structlog

from bot.config import sandbox_profiles
from budget.windows.window_boundaries import is_from_moment
from egress.provider_endpoints import PROVIDERS
from egress.settings import ROLES, AccountSettings, AgentRegistration, EgressSettings, LimitSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from bot.config.limits import LimitBlock
    from bot.config.schema import Settings
    from database.queries.spending.limits_by_command import BudgetRow
    from egress.settings import LimitKind, PaceSettings, Policy
    from fleet.sandbox.egress_grant import WayAsked

log = structlog.get_logger(__name__)

#: The scope of commands for the allowance of each agent that has none of its own; the egress knows it as the host's.
EACH_AGENT = "agent"


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldLimit:
    """A limit that holds, whoever said so, in what it was written in."""

    kind: LimitKind
    scope: str
    """As the egress has it: of the allowance of each agent, ``host``."""
    amount: float
    unit: Literal["tokens", "usd", "share"]
    window: str | None
    """Of a share: as the provider calls it."""
    policy: Policy
    of: str | None = None
    """Of a share: the account whose window it is a share of."""
    reset_at: float | None = None
    """When that window begins anew, as a person said."""
    set_at: float = 0.0
    """When it was set by command; 0: a file says it."""

    @property
    def is_whole(self) -> bool:
        """All of an account's own window: it bounds nothing, and may say when the window resets."""
        return self.unit == "share" and self.scope == f"account:{self.of}" and self.amount >= 1


def held(settings: Settings, roster_budgets: Mapping[str, int], given: Sequence[BudgetRow]) -> tuple[HeldLimit, ...]:
    """Return every limit that does not belong to one launch, shares of accounts' windows among them.

    Args:
        settings: of muster.yaml.
        roster_budgets: tokens by the name of the agent, from roster.yaml.
        given: by command.
    """
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
    commanded = [held_of(row) for row in given]
    overruled = {(each.kind, each.scope) for each in commanded if not each.is_whole}
    return (*(each for each in written if (each.kind, each.scope) not in overruled), *commanded)


def limits_of(
    settings: Settings, roster_budgets: Mapping[str, int], given: Sequence[BudgetRow]
) -> tuple[LimitSettings, ...]:
    """Return those of them that are in tokens or money: what a share of a provider's window comes to is learned
    (bot.pacing).

    Args:
        settings: of muster.yaml.
        roster_budgets: tokens by the name of the agent, from roster.yaml.
        given: by command.
    """
    return tuple(limit_settings(each) for each in held(settings, roster_budgets, given) if each.unit != "share")


def limit_settings(limit: HeldLimit) -> LimitSettings:
    """Return a limit in tokens or money, as the egress has it."""
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
    """Return a limit given by command."""
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
    """Without those that an egress of an older version would refuse, and all others with them.

    Args:
        limits: that hold.
        status: what the egress says of itself.
    """
    if ROLES in (status.get("understands") or ()):
        return tuple(limits)
    known = [each for each in limits if not each.scope.startswith("role:") and not is_from_moment(each.window)]
    if len(known) < len(limits):
        log.warning("egress.too_old", limits=[each.scope for each in limits if each not in known])
    return tuple(known)


def addressed(scope: str) -> tuple[LimitKind, str]:
    """Return what a scope of commands is to the egress: what kind of limit, on which of its scopes."""
    if scope == EACH_AGENT:
        return "allowance", "host"
    return ("allowance", scope) if scope.startswith("agent:") else ("pool", scope)


def scope_of(kind: str, scope: str) -> str:
    """Return the other way round: how people write the scope of a limit."""
    return EACH_AGENT if (kind, scope) == ("allowance", "host") else scope


def egress_settings(
    settings: Settings, limits: Sequence[LimitSettings], *, host: str, paces: Sequence[PaceSettings] = ()
) -> EgressSettings:
    """Everything that does not belong to one agent."""
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
    """Return what the egress is told of an agent."""
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
    """Return the secrets that only this process can look up, since it has the environment; by their reference."""
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
