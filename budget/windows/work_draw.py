"""The windows that some work counts on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from budget.windows.even_spread_line import Window
from budget.windows.window_key import WindowKey


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkDraw:
    """What work is done with, and who pays for it. What is None matches no window, except for `model`."""

    agent: str | None = None
    role: str | None = None
    model: str | None = None
    """The model; windows of other model families do not count. None: windows of every family count."""
    profiles: Sequence[str] = ()
    """The agent's sandbox profile and those that it extends."""
    provider: str | None = None
    account: str | None = None
    """The account that pays."""
    host: bool = True
    """Whether the work runs on this machine."""

    def counts_on(self, window: Window) -> bool:
        """Return whether such work counts on a window."""
        sort, _, name = window.scope.partition(":")
        drawn = {"agent": self.agent, "role": self.role, "provider": self.provider, "account": self.account}
        if sort == "host":
            counts = self.host
        elif sort == "profile":
            counts = name in self.profiles
        else:
            counts = drawn.get(sort) == name
        if not counts or window.unit != "share":
            return counts
        # The window of an account, or a share of it, counts only use of that account.
        key = WindowKey.parse(window.key)
        return self.account == key.account and is_of_family(key.window, self.model)


def is_of_family(window: str, model: str | None) -> bool:
    """Return whether a provider's window counts a model. A window of a model family has its name, like ``7d_opus``."""
    family = window.partition("_")[2]
    return not family or model is None or family.casefold() in model.casefold()
