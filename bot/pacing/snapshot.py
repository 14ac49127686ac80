"""The state of every window at one moment, and the choice of windows that some work draws on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from budget.windows.even_spread_line import PacePolicy, Window
from budget.windows.pace_admission import WindowState
from budget.windows.window_figures import CountedLimit, Figures, figures


@dataclass(frozen=True, kw_only=True, slots=True)
class PaceSnapshot:
    """The state of every window at one moment."""

    now: float
    """Seconds since the epoch."""
    policy: PacePolicy
    standings: Mapping[str, WindowState] = field(default_factory=lambda: MappingProxyType({}))
    """Window states by key."""
    policies: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Policy at the limit by window key; a provider's own windows have none."""
    gates: Mapping[str, CountedLimit] = field(default_factory=lambda: MappingProxyType({}))
    """The egress's current counts by window key; only set for views."""

    def seen_at_the_gate(self, standing: Mapping[str, Any] | None) -> PaceSnapshot:
        """Return a copy with the egress's current counts (egress.limits.view); None means that it does not answer."""
        gates = {}
        for each in () if standing is None else standing["limits"]:
            if each.get("account") is None and each["window"] is not None:
                whose = f"agent:{each['agent']}" if each["agent"] is not None else each["scope"]
                gates[f"{whose}/{each['unit']}/{each['window']}"] = CountedLimit(
                    used=each["used"], reserved=each["reserved"]
                )
        return replace(self, gates=gates)

    def figures(self, key: str) -> Figures | None:
        """Return the figures of a window as all views show them, or None if the key is unknown."""
        standing = self.standings.get(key)
        return None if standing is None else figures(standing, self.now, self.policy, self.gates.get(key))

    def every(self) -> list[Figures]:
        """Return the figures of all windows, the most used first."""
        found = [figures(each, self.now, self.policy, self.gates.get(key)) for key, each in self.standings.items()]
        return sorted(found, key=lambda each: (-(each.least / each.limit if each.limit else 0.0), each.key))

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
    ) -> tuple[WindowState, ...]:
        """Return the windows that such work draws on. A property that is None matches no window, except for `model`.

        Args:
            agent: the agent that does the work.
            role: the agent's role.
            runtime: the agent's runtime.
            model: the model; windows of other model families do not count. None: windows of every family count.
            profiles: the agent's sandbox profile and those that it extends.
            provider: the model's provider.
            account: the account that pays.
            host: whether the work runs on this machine.
        """
        del runtime
        return tuple(
            standing
            for standing in self.standings.values()
            if draws_on(
                standing.window,
                agent=agent,
                role=role,
                model=model,
                profiles=profiles,
                provider=provider,
                account=account,
                host=host,
            )
        )


def draws_on(
    window: Window,
    *,
    agent: str | None = None,
    role: str | None = None,
    model: str | None = None,
    profiles: Sequence[str] = (),
    provider: str | None = None,
    account: str | None = None,
    host: bool = True,
) -> bool:
    """Return whether such work counts on a window; see `PaceSnapshot.for_draw` for the arguments."""
    sort, _, name = window.scope.partition(":")
    drawn = {"agent": agent, "role": role, "provider": provider, "account": account}
    if sort == "host":
        counts = host
    elif sort == "profile":
        counts = name in profiles
    else:
        counts = drawn.get(sort) == name
    if not counts or window.unit != "share":
        return counts
    # The window of an account, or a share of it, counts only use of that account.
    whose, _, called = window.key.rpartition("/")
    of = whose.rpartition("account:")[2]
    return account == of and is_of_family(called, model)


def is_of_family(window: str, model: str | None) -> bool:
    """Return whether a provider's window counts a model. A window of a model family has its name, like ``7d_opus``."""
    family = window.partition("_")[2]
    return not family or model is None or family.casefold() in model.casefold()
