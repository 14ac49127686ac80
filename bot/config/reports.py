"""Report schedules of muster.yaml.

schedules:
  daily: "0 9 * * mon-fri"
  weekly: "0 9 * * mon"
  quiet: {from: "22:00", to: "07:00"}
"""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, Literal, Self, TypeAlias, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from bot.config.types import Block
from scheduler.cron import Cron, CronError

Kind: TypeAlias = Literal["daily", "weekly", "budget", "fleet"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


def _cron(value: str) -> str:
    try:
        Cron(value, ZoneInfo("UTC"))
    except CronError as error:
        raise ValueError(str(error)) from None
    return " ".join(value.split())


def _time_of_day(value: object) -> object:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"found {str(value)[:40]!r}, but expected a time of day, like 22:00.")
    return time(int(match[1]), int(match[2]))


def _room(value: str) -> str:
    connector, colon, room = value.partition(":")
    if not colon or not connector or not room.strip() or not value.isprintable():
        raise ValueError(
            f"found {value[:80]!r}, but expected a connector's name, a colon and the room's ID, like "
            "matrix:!fleet:example.org."
        )
    return value


CronText = Annotated[
    str,
    AfterValidator(_cron),
    Field(max_length=200),
    WithJsonSchema({"type": "string", "description": "Minute, hour, day, month, day of the week: 0 9 * * mon-fri."}),
]
TimeOfDay = Annotated[
    time, BeforeValidator(_time_of_day), WithJsonSchema({"type": "string", "pattern": f"^{_TIME.pattern}$"})
]


class QuietHours(Block):
    """The hours, in `timezone`, during which posts that can wait are held back."""

    from_: TimeOfDay = Field(alias="from", description="When they begin, such as 22:00.")
    to: TimeOfDay = Field(description="When they end, such as 07:00. If that is before `from`, on the next day.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.from_ == self.to:
            raise ValueError("from and to are the same, which leaves open whether it is all day or never.")
        return self


class Schedules(Block):
    """The times at which reports are posted. A schedule set by command takes precedence."""

    daily: CronText | None = Field(
        default=None, description="When to post the report on yesterday, as a cron line. Default: never."
    )
    weekly: CronText | None = Field(
        default=None, description="When to post the report on the last week. Default: never."
    )
    fleet: CronText | None = Field(default=None, description="When to post the report on the agents. Default: never.")
    budget: bool = Field(
        default=True, description="Whether to post at once when 80, 90, 95 or 99 percent of a window are used."
    )
    quiet: QuietHours | None = Field(
        default=None, description="Hours in which reports wait until the end. Default: none."
    )
    room: Annotated[str, AfterValidator(_room)] | None = Field(
        default=None,
        description="Where to post: connector, colon, room id. Default: the main room.",
    )

    def cron_of(self, kind: str) -> str | None:
        """Return the cron expression of this kind, or None if it has no schedule."""
        found: str | None = getattr(self, kind) if kind != "budget" else None
        return found
