"""What is known of every window at one moment, and which of them some work draws on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from budget.pacing import Policy, Standing


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Every window as it stands at one moment."""

    now: float
    """Seconds since the epoch."""
    policy: Policy
    standings: Mapping[str, Standing] = field(default_factory=lambda: MappingProxyType({}))
    """By the key of the window."""

    def for_draw(
        self,
        *,
        agent: str | None = None,
        role: str | None = None,
        runtime: str | None = None,
        model: str | None = None,
        profiles: Sequence[str] = (),
        provider: str | None = None,
        account: str | None = None,
        host: bool = True,
    ) -> tuple[Standing, ...]:
        """Every window that such work draws on; what is not known of the work (None) draws on nothing.

        Args:
            agent: who does it.
            role: as what.
            runtime: with which runtime.
            model: with which model; a window of one family of models is another's none. None: every family's counts.
            profiles: the agent's sandbox profile and those that it extends.
            provider: of the model.
            account: by which it is paid.
            host: it is done on this machine.
        """
        del runtime
        scopes = {
            *([] if agent is None else [f"agent:{agent}"]),
            *([] if role is None else [f"role:{role}"]),
            *(f"profile:{profile}" for profile in profiles),
            *([] if provider is None else [f"provider:{provider}"]),
            *([] if account is None else [f"account:{account}"]),
            *(["host"] if host else []),
        }
        return tuple(
            standing
            for key, standing in self.standings.items()
            if standing.window.scope in scopes and concerns(key, account=account, model=model)
        )


def concerns(key: str, *, account: str | None, model: str | None) -> bool:
    """Whether work with this account and this model counts on a window whose scope it draws on.

    Providers report windows for families of models, which are called after them: ``7d_opus``. A share of an account's
    window counts only what is used of that account.
    """
    scope, _, name = key.rpartition("/")
    family = name.partition("_")[2]
    if family and ("account:" in scope) and model is not None and family.casefold() not in model.casefold():
        return False
    _, share, of = scope.partition("/share/account:")
    return not share or of == account
