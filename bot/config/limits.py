"""Spending limits of muster.yaml.

budgets:
  agent: {tokens: 2M, window: day}
  host: [{tokens: 20M, window: day}, {usd: 300, window: month}]
  accounts:
    main: {usd: 100, window: week, policy: freeze}
  agents:
    coder0: {share: 20%, of: main, window: 7d}
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from bot.config.types import Block
from budget.amounts import _SHARE, _TOKENS, Unit, read_share, read_tokens
from budget.limits.scopes import Policy
from budget.tokens import Weights
from budget.windows import window_boundaries

#: Providers' names for the windows of their subscriptions: 5h, 7d, 7d_opus.
WINDOW_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def read_window(value: object) -> str:
    """Read a window: ``day``, ``week``, ``month``, or a length of time such as ``5h``.

    Raises:
        ValueError: `value` is no window.
    """
    word = value.strip() if isinstance(value, str) else str(value)
    window_boundaries.check(word)
    return word


def read_quota_window(value: object) -> str:
    """Read the provider's name of a subscription window: ``5h``, ``7d``, ``7d_opus``.

    Raises:
        ValueError: `value` is no such name.
    """
    word = str(value).strip()
    if not WINDOW_NAME.fullmatch(word):
        raise ValueError(
            f"found {word[:40]!r}; expected the name of a window of the account, such as 5h or 7d: small letters, "
            "digits, - and _."
        )
    return word


TokenCount = Annotated[
    int,
    BeforeValidator(read_tokens),
    WithJsonSchema({"type": ["integer", "string"], "pattern": f"^{_TOKENS.pattern}$"}),
]
"""Weighted tokens, written ``2M``."""
Share = Annotated[
    float, BeforeValidator(read_share), WithJsonSchema({"type": "string", "pattern": f"^{_SHARE.pattern}$"})
]
"""A fraction of a window, written ``20%``."""


class LimitBlock(Block):
    """An amount, its window, and the policy when it is used up."""

    tokens: TokenCount | None = Field(
        default=None, description="Weighted tokens, such as 500k or 2M. Instead of usd or share."
    )
    usd: float | None = Field(default=None, gt=0, le=10**9, description="US dollars. Instead of tokens or share.")
    share: Share | None = Field(
        default=None,
        description=(
            "A share of a subscription's window, such as 20%, with `of` and `window`. Instead of tokens or usd."
        ),
    )
    of: str | None = Field(default=None, description="For a share: the subscription account.")
    window: Annotated[str, WithJsonSchema({"type": "string"})] | None = Field(
        default=None,
        description=(
            "day, week or month (UTC), or a length such as 5h. For a share: the account's window, by its "
            "provider's name. Default: never resets; an agent's lasts for its launch."
        ),
    )
    policy: Policy = Field(
        default="cutoff",
        description=(
            "cutoff: no request of the agent leaves any more. freeze: the agent stops and can be resumed. "
            "kill: the agent stops, and its conversation is given up."
        ),
    )

    @field_validator("window", mode="before")
    @classmethod
    def _of_its_kind(cls, value: object, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        return read_window(value) if info.data.get("share") is None else read_quota_window(value)

    @model_validator(mode="after")
    def _one(self) -> Self:
        found = [name for name in ("tokens", "usd", "share") if getattr(self, name) is not None]
        if len(found) != 1:
            which = " and ".join(found) if found else "none"
            raise ValueError(
                f"found {which} of tokens, usd and share; expected one of them, like tokens: 2M or usd: 20."
            )
        if self.share is None and self.of is not None:
            raise ValueError(f"found of: beside {found[0]}. Only a share is of an account; leave it out.")
        if self.share is not None and self.window is None:
            raise ValueError("found a share without a window. Write which of the account's windows, like window: 7d.")
        return self

    @property
    def unit(self) -> Unit:
        """The unit of the amount."""
        return "share" if self.share is not None else "usd" if self.tokens is None else "tokens"

    @property
    def amount(self) -> float:
        """The amount in its unit; a share is a fraction."""
        return float(next(each for each in (self.tokens, self.usd, self.share) if each is not None))


def _listed(value: object) -> object:
    return [value] if isinstance(value, dict | LimitBlock) else value


Limits = Annotated[
    tuple[LimitBlock, ...],
    BeforeValidator(_listed, json_schema_input_type=LimitBlock | tuple[LimitBlock, ...]),
    Field(max_length=8),
]
"""One limit, or a list of limits that all hold."""


class Budgets(Block):
    """Spending limits. An allowance bounds each agent by itself; a pool bounds all its agents together."""

    weights: dict[str, float] = Field(
        default={},
        description=(
            "What one token counts against limits, by kind: input, output, cache_read (default 0.1), "
            "cache_write, reasoning (default 1)."
        ),
    )
    agent: Limits = Field(default=(), description="The allowance of each agent that has none of its own.")
    agents: dict[str, Limits] = Field(default={}, description="Allowances of agents, by name.")
    profiles: dict[str, Limits] = Field(default={}, description="Pools of the agents of a sandbox profile, by name.")
    roles: dict[str, Limits] = Field(default={}, description="Pools of the agents of a role, by name.")
    host: Limits = Field(default=(), description="The pool of everything on this machine.")
    providers: dict[str, Limits] = Field(default={}, description="Pools of providers: anthropic, openai.")
    accounts: dict[str, Limits] = Field(default={}, description="Pools of accounts in this file, by name.")

    @field_validator("weights")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        Weights.of(value)
        return value

    def pools(self) -> Iterator[tuple[str, LimitBlock]]:
        """Yield each pool with its scope."""
        for limit in self.host:
            yield "host", limit
        pools = {
            "role": self.roles,
            "profile": self.profiles,
            "provider": self.providers,
            "account": self.accounts,
        }
        for kind, named in pools.items():
            for name, limits in named.items():
                for limit in limits:
                    yield f"{kind}:{name}", limit

    def allowances(self) -> Iterator[tuple[str, LimitBlock]]:
        """Yield each allowance with its scope; ``host`` is the scope of agents without an allowance of their own."""
        for limit in self.agent:
            yield "host", limit
        for name, limits in self.agents.items():
            for limit in limits:
                yield f"agent:{name}", limit
