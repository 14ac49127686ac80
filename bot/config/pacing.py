"""Pacing settings of muster.yaml: how the rest of a window is spread over its remaining time.

pacing:
  burst: 3%
  borrow: 50%
  overrun: 100%
  ladder: [opus, sonnet, haiku, "codex:gpt-5-codex"]
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from bot.config.limits import TokenCount
from bot.config.types import Block, Duration
from budget.windows.pace_admission import PacePolicy
from core.validation_errors import suggestion
from fleet.roster import loader

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@+-]{0,99}")


def _portion(value: object) -> float:
    """Read a share from ``0%`` to ``100%`` as a fraction."""
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%", value.strip()) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError(f"found {str(value)[:40]!r}; expected a share from 0% to 100%, like 3%.")
    return float(match[1]) / 100


def _portion_or_off(value: object) -> float | None:
    """Read a share like `_portion`, or ``off`` as None."""
    if value == "off":
        return None
    try:
        return _portion(value)
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}, or off.") from None


_Portion = Annotated[
    float, BeforeValidator(_portion), WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*%$"})
]
_PortionOrOff = Annotated[
    float | None,
    BeforeValidator(_portion_or_off),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?\s*%|off)$"}),
]


class RunawayBlock(Block):
    """The most that an agent may spend between two visible results."""

    tokens: TokenCount | None = Field(default=None, description="Weighted tokens, like 5M.")
    usd: float | None = Field(default=None, gt=0, le=10**9, description="US dollars.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.tokens is None and self.usd is None:
            raise ValueError("found neither tokens nor usd; expected one of them, or both, like tokens: 5M.")
        return self


class Pacing(Block):
    """The spread of spending over the known windows."""

    spread: Literal["even", "off"] = Field(
        default="even",
        description="even: what remains of a window is spread over its remaining time. off: only limits hold.",
    )
    burst: _Portion = Field(default=0.03, description="How much of a window may be used ahead of its line.")
    borrow: _Portion = Field(
        default=0.5,
        description=(
            "How much of the next day high-urgency work may borrow. In windows under two days: of a fifth "
            "of the window."
        ),
    )
    overrun: _PortionOrOff = Field(
        default=1.0,
        description=(
            "How much of the next day running work may be ahead before it is held. In windows under two"
            " days: of a fifth of the window. off: up to the limit."
        ),
    )
    ladder: tuple[str, ...] = Field(
        default=(),
        max_length=20,
        description=(
            "Models to try, in order, when a session's own model has no room. RUNTIME:MODEL names another runtime's."
        ),
    )
    auto_continue: bool = Field(
        default=True, description="Whether agents that stopped at a limit continue when its window resets."
    )
    stagger: Duration = Field(default=30.0, description="The time between two agents that continue.")
    runaway: RunawayBlock | None = Field(
        default=None,
        description="Pause an agent that spends more than this without a visible result. Default: never.",
    )

    @field_validator("ladder")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for at, rung in enumerate(value):
            runtime, colon, model = rung.rpartition(":")
            if not _MODEL.fullmatch(model):
                raise ValueError(f"found {rung[:60]!r}; expected a model, like sonnet, or RUNTIME:MODEL.")
            if colon and runtime not in loader.RUNTIMES:
                raise ValueError(
                    f"no runtime is called {runtime[:40]!r}.{suggestion(runtime, list(loader.RUNTIMES))} There are "
                    f"{', '.join(loader.RUNTIMES)}."
                )
            if rung in value[:at]:
                raise ValueError(f"{rung[:60]!r} is listed twice; list each step once.")
        return value


def policy_of(pacing: Pacing, zone: ZoneInfo) -> PacePolicy:
    """Return the policy for `budget.windows.pace_admission`."""
    return PacePolicy(burst=pacing.burst, borrow=pacing.borrow, overrun=pacing.overrun, zone=zone)
