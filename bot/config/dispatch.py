"""Task dispatch settings of muster.yaml.

dispatch:
  at_once: {host: 8, roles: {coder: 4}, runtimes: {claude: 3}}
  retries: 4
  queued: {person: 1000, agent: 50}
  aging: 12h
  start_agents: true
  unanswered: 30m
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from bot.config.accounts import Account
from bot.config.types import Block, Duration
from budget.dispatch import next_task
from core import durations
from core.validation_errors import suggestion
from fleet.roster import loader

#: A duration that means forever, in seconds.
NEVER = 1e12


def _patience(given: object) -> float:
    if given == "never":
        return NEVER
    if not isinstance(given, bool) and given in (0, "0"):
        return 0.0
    try:
        return durations.of_setting(given)
    except ValueError as error:
        raise ValueError(f"{error} Or write 0 for at once, or never.") from None


_Patience = Annotated[
    float,
    BeforeValidator(_patience),
    WithJsonSchema({"type": ["string", "number"], "description": "A length of time such as 30m; 0; or never."}),
]
_Count = Annotated[int, Field(ge=0, le=10_000)]
_Many = Annotated[int, Field(ge=0, le=100_000)]


class AtOnce(Block):
    """The number of tasks that may run at once. An absent key sets no limit; 0 holds all tasks."""

    host: _Count | None = Field(default=None, description="On this machine in total.")
    roles: dict[str, _Count] = Field(default={}, description="By role.")
    runtimes: dict[str, _Count] = Field(default={}, description="By runtime.")

    @field_validator("runtimes")
    @classmethod
    def _known(cls, given: dict[str, int]) -> dict[str, int]:
        for name in given:
            if name not in loader.RUNTIMES:
                near = suggestion(name, loader.RUNTIMES)
                raise ValueError(f"no runtime is called {name[:40]!r}; there are {', '.join(loader.RUNTIMES)}.{near}")
        return given


class Queued(Block):
    """The number of tasks that one requester may have in the queue. A lower setting removes no queued task."""

    person: _Many = Field(default=1000, description="Per person; 0: people cannot queue tasks.")
    agent: _Many = Field(default=50, description="Of one agent; 0: agents queue none.")


class Dispatch(Block):
    """The assignment of tasks to agents."""

    at_once: AtOnce = AtOnce()
    queued: Queued = Queued()
    retries: int = Field(
        default=4,
        ge=0,
        le=20,
        description=(
            "How often a task is tried again when its agent crashes or its turn fails, after 30 seconds, "
            "then 1, 2, 4 minutes and so on. A task can override it."
        ),
    )
    aging: Duration = Field(
        default=12 * 3600.0,
        description="Has no effect any more: tasks take turns by weight, and none waits forever.",
    )
    start_agents: bool = Field(default=True, description="Whether a task may start a stopped agent of the roster.")

    unanswered: _Patience = Field(
        default=1800.0,
        description=(
            "How long an agent gets no other task while one of its tasks waits for a person. 0: no time; "
            "never: until somebody answers."
        ),
    )

    @field_validator("aging")
    @classmethod
    def _some_time(cls, given: float) -> float:
        if given < 60:
            raise ValueError("expected at least one minute, like 12h.")
        return given

    def policy(self) -> next_task.DispatchPolicy:
        """Return the settings that dispatch decisions use."""
        return next_task.DispatchPolicy(start_agents=self.start_agents)

    def limits(self, accounts: Mapping[str, Account]) -> next_task.DispatchLimits:
        """Return the limits on tasks that run at once, including those of `accounts`."""
        return next_task.DispatchLimits(
            host=self.at_once.host,
            roles=self.at_once.roles,
            runtimes=self.at_once.runtimes,
            accounts={name: account.at_once for name, account in accounts.items() if account.at_once is not None},
        )
