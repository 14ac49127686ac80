"""Which limits govern a request: the most specific allowance, and every pool."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Literal, TypeAlias

from budget.windows import window_boundaries

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind: TypeAlias = Literal["allowance", "pool"]
Unit: TypeAlias = Literal["tokens", "usd"]
Policy: TypeAlias = Literal["cutoff", "freeze", "kill"]

#: So many make a dollar. Money is counted in whole ones, so that sums stay exact.
NANO_USD = 10**9

#: What a scope can be about. An allowance is an agent's, so that it says nothing of providers and accounts.
SORTS = ("launch", "agent", "role", "profile", "host", "provider", "account")
_OF_AGENTS = ("launch", "agent", "profile", "host")

#: More of anything is no amount.
MOST = 10**15
#: The amount of a limit that bounds nothing: what is counted has a pace alone.
BOUNDLESS = MOST * NANO_USD * 10
_SCOPES = "launch:ID, agent:NAME, role:NAME, profile:NAME, host, provider:NAME, account:NAME"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """What a limit is set on."""

    sort: str
    """One of `SORTS`."""
    name: str
    """Empty for the host, of which there is one."""

    @classmethod
    def parse(cls, text: str) -> Scope:
        """From its name, such as ``agent:coder0``.

        Raises:
            ValueError: it is none. The message says what can be written.
        """
        sort, colon, name = text.partition(":")
        if sort == "host":
            if colon:
                raise ValueError(f"{text!r}: there is one host. Write host.")
        elif sort not in SORTS:
            raise ValueError(f"{text!r} is no scope of a budget. There are {_SCOPES}.")
        elif not _NAME.fullmatch(name):
            raise ValueError(
                f"{text!r} does not say which {sort}. Write {sort}: and its name: letters, digits, . _ @ + -"
            )
        return cls(sort=sort, name=name)

    def __str__(self) -> str:
        return f"{self.sort}:{self.name}" if self.name else self.sort


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """A bound on spending. An allowance bounds each agent by itself, a pool the sum over all that draw on its scope.

    Raises:
        ValueError: a scope or a window that is none, an allowance on what is no agent's, or an amount below 1.
    """

    kind: Kind
    scope: str
    amount: int
    """Weighted tokens, or `NANO_USD`: see `amount_of`."""
    unit: Unit = "tokens"
    window: str | None = None
    """See budget.windows.window_boundaries. None: without an end, which for an allowance is the launch."""
    policy: Policy = "cutoff"
    may_raise: bool = False
    """Of an allowance of a launch: an admin's, which may be higher than what would hold without it. One that is not
    only lowers it."""
    set_at: float = 0.0
    """When an admin set it by command, or launched with it (seconds since the epoch); 0: a file says it."""
    account: str | None = None
    """Only what is used of this account counts, and only who uses it is bounded; None: of whatever account."""
    lift: int = 0
    """So much more may be used, in the same units,"""
    lift_until: float = 0.0
    """until then (seconds since the epoch)."""

    def at(self, now: float) -> Limit:
        """Return the limit as it holds now."""
        return replace(self, amount=self.amount + self.lift, lift=0) if self.lift and now < self.lift_until else self

    @property
    def bounds(self) -> bool:
        """Whether there is anything that it does not allow."""
        return self.amount < BOUNDLESS

    def __post_init__(self) -> None:
        scope = Scope.parse(self.scope)
        if self.kind == "allowance" and scope.sort not in _OF_AGENTS:
            raise ValueError(
                f"{self.scope}: an allowance is an agent's share, and is set on launch:ID, agent:NAME, profile:NAME or "
                f"host. What all spend together with a {scope.sort} is bounded by a pool."
            )
        if self.amount < 1:
            raise ValueError(f"{self.scope}: a budget of {self.amount} bounds nothing. Write an amount above 0.")
        window_boundaries.check(self.window)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """Who spends, and with whom: what a request draws on."""

    agent: str
    launch_id: str
    profiles: tuple[str, ...] = ()
    """Its sandbox profile and those that it extends, the most specific first."""
    provider: str
    account: str
    role: str = ""
    """Empty: not known, as of what was metered before roles had budgets."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """Every scope on which this spending counts."""
        return (
            f"launch:{self.launch_id}",
            f"agent:{self.agent}",
            *([f"role:{self.role}"] if self.role else []),
            *(f"profile:{profile}" for profile in self.profiles),
            "host",
            f"provider:{self.provider}",
            f"account:{self.account}",
        )

    @property
    def every_scope(self) -> tuple[str, ...]:
        """The same, and each as far as it is of this account."""
        return (*self.scopes, *(_of_account(scope, self.account) for scope in self.scopes))


def of_role(role: str, account: str) -> tuple[str, str]:
    """Return the scopes on which the spending of a role with an account counts, besides those of who spent it."""
    return f"role:{role}", _of_account(f"role:{role}", account)


def _of_account(scope: str, account: str) -> str:
    return f"{scope}/account:{account}"


def amount_of(written: str | float | Decimal, unit: Unit) -> int:
    """Return the exact amount of a limit, from what a person wrote: weighted tokens, or USD, of which nano-USD are
    made.

    What is finer than that is cut.

    Raises:
        ValueError: it is no number, less than can be counted, or more than anybody spends.
    """
    try:
        number = Decimal(str(written))
    except InvalidOperation:
        number = Decimal("NaN")
    sane = number.is_finite() and 0 < number <= MOST
    amount = int(number * NANO_USD if unit == "usd" else number) if sane else 0
    if amount < 1:
        example = "2.50" if unit == "usd" else "500000"
        raise ValueError(f"{str(written)[:40]!r} is no amount. Write a number above 0, such as {example}.")
    return amount


def governing(limits: Iterable[Limit], draw: Draw) -> tuple[Limit, ...]:
    """Return the limits that a request must fit under, allowances first, each in the order in which they stand.

    Of the scopes launch, agent, profile, the profiles that it extends in their order, and host, the first on which any
    allowance is set governs, with all that are set on it (of several windows or units). Allowances of a launch hold
    beside those that would govern without them, so that they only lower, unless one of them may raise. Even then an
    allowance of the agent that was set after it holds, too: an admin's later word narrows at once. A pool holds for
    whoever draws on its scope.
    """
    mine = draw.scopes
    held = [limit for limit in limits if limit.scope in mine and limit.account in (None, draw.account)]
    allowances = [limit for limit in held if limit.kind == "allowance"]
    chosen: list[Limit] = []
    for scope in mine:
        found = [limit for limit in allowances if limit.scope == scope]
        chosen += found
        if not found:
            continue
        raised_at = max((limit.set_at for limit in found if limit.may_raise), default=None)
        if not scope.startswith("launch:"):
            break
        if raised_at is not None:
            own = f"agent:{draw.agent}"
            chosen += [limit for limit in allowances if limit.scope == own and limit.set_at > raised_at]
            break
    return (*chosen, *(limit for limit in held if limit.kind == "pool"))


def overruled(limits: Iterable[Limit], draw: Draw) -> tuple[tuple[Limit, Limit], ...]:
    """Return the allowances on scopes of this agent that do not govern, each with the first one that governs
    instead."""
    given = tuple(limits)
    chosen = [limit for limit in governing(given, draw) if limit.kind == "allowance"]
    mine = [limit for limit in given if limit.kind == "allowance" and limit.scope in draw.scopes]
    return tuple((limit, chosen[0]) for limit in mine if limit.account in (None, draw.account) and limit not in chosen)


def counted_on(limit: Limit, draw: Draw) -> str:
    """Return the scope whose spending counts against a limit that governs a request.

    A pool's is its own. An allowance counts one agent: what it spent within the window, over all its launches; without
    a window, what its launch spent. One that is set on a launch never counts another launch.
    """
    if limit.kind == "pool":
        counted = limit.scope
    elif limit.window is None or limit.scope.startswith("launch:"):
        counted = f"launch:{draw.launch_id}"
    else:
        counted = f"agent:{draw.agent}"
    return counted if limit.account is None else _of_account(counted, limit.account)
