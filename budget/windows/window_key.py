"""The keys of windows, which are unique and stable: the register stores them, and `pace --json` shows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: In a key, the window of a limit that never resets.
ENDLESS = "all"
_ACCOUNT = "account:"
_SHARE = "share/account:"


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowKey:
    """What a window's key says."""

    scope: str
    """The scope that is counted, such as ``role:coder``."""
    unit: str
    """What is counted: ``tokens``, ``usd``, or the ``share`` of an account's window."""
    window: str
    """The window's name, such as ``day`` or ``7d``, or `ENDLESS`."""
    account: str = ""
    """The account whose window is counted; empty if it is a window of Muster's own."""
    is_share: bool = False
    """Whether it is a share of an account's window, and not that window itself."""

    @classmethod
    def parse(cls, key: str) -> WindowKey:
        """Return what a key says. No scope has a slash in it."""
        scope, _, rest = key.partition("/")
        if rest.startswith(_SHARE):
            account, _, window = rest.removeprefix(_SHARE).partition("/")
            return cls(scope=scope, unit="share", window=window, account=account, is_share=True)
        unit, counted, window = rest.partition("/")
        if counted:
            return cls(scope=scope, unit=unit, window=window)
        return cls(scope=scope, unit="share", window=rest, account=scope.removeprefix(_ACCOUNT))


def of_limit(scope: str, unit: str, window: str | None) -> str:
    """Return the key of a limit in tokens or US dollars, such as ``host/tokens/day``."""
    return f"{scope}/{unit}/{window or ENDLESS}"


def of_quota(account: str, window: str) -> str:
    """Return the key of a provider's window of an account, such as ``account:main/7d``."""
    return f"{_ACCOUNT}{account}/{window}"


def of_share(scope: str, account: str | None, window: str | None) -> str:
    """Return the key of a share of an account's window, such as ``role:coder/share/account:main/7d``.

    Every share has both, though the types of limits allow None.
    """
    return f"{scope}/{_SHARE}{account}/{window}"
