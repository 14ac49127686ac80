"""What is known of every window at one moment, and which of them some work draws on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from budget.windows.window_figures import CountedLimit, Figures, figures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from budget.windows.even_spread_line import PacePolicy, Window
    from budget.windows.pace_admission import WindowState


@dataclass(frozen=True, kw_only=True, slots=True)
class PaceSnapshot:
    """Every window as it is at one moment."""

    now: float
    """Seconds since the epoch."""
    policy: PacePolicy
    standings: Mapping[str, WindowState] = field(default_factory=lambda: MappingProxyType({}))
    """By the key of the window."""
    policies: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What happens at the limit, by the key of the window; of a provider's own nothing is said."""
    gates: Mapping[str, CountedLimit] = field(default_factory=lambda: MappingProxyType({}))
    """What the egress counts at this moment, by the key of the window; only where people are shown it."""

    def seen_at_the_gate(self, standing: Mapping[str, Any] | None) -> PaceSnapshot:
        """Return the same with what the egress counts (egress.limits.view); None: it does not answer."""
        gates = {}
        for each in () if standing is None else standing["limits"]:
            if each.get("account") is None and each["window"] is not None:
                whose = f"agent:{each['agent']}" if each["agent"] is not None else each["scope"]
                gates[f"{whose}/{each['unit']}/{each['window']}"] = CountedLimit(
                    used=each["used"], reserved=each["reserved"]
                )
        return replace(self, gates=gates)

    def figures(self, key: str) -> Figures | None:
        """Return the figures of a window, as all views show them; None: there is none of this key."""
        standing = self.standings.get(key)
        return None if standing is None else figures(standing, self.now, self.policy, self.gates.get(key))

    def every(self) -> list[Figures]:
        """Return the figures of all windows, those first that are used up most."""
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
        """Return every window that such work draws on; what is not known of the work (None) draws on nothing.

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
    """Return whether such work counts on a window; the arguments are those of `PaceSnapshot.for_draw`."""
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
    # The window of an account, or a share of it: what it counts is used of that account.
    whose, _, called = window.key.rpartition("/")
    of = whose.rpartition("account:")[2]
    return account == of and is_of_family(called, model)


def is_of_family(window: str, model: str | None) -> bool:
    """Return whether a provider's window counts a model: those of a family of models are called after it, like
    ``7d_opus``."""
    family = window.partition("_")[2]
    return not family or model is None or family.casefold() in model.casefold()
