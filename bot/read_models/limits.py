"""Limits, their pace, and what was used. `budget`, `pace`, `accounts`, reports and dashboards show this value.

Times are seconds since the epoch. Amounts are in the unit beside them: weighted tokens, US dollars, or shares of a
provider's window (1.0 is all of it). None is an unknown amount, and never 0. Scopes are written as commands store them
(`budget.scope_names`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from bot.read_models.fleet import GateClosure
from bot.read_models.provenance import Provenance

AmountUnit: TypeAlias = Literal["tokens", "usd", "share"]
ResetSource: TypeAlias = Literal["certain", "provider", "user", "estimated", "unknown"]
"""How a reset is known. ``certain``: the calendar defines it. ``user``: an operator set it."""
UsageKey: TypeAlias = Literal["agent", "sandbox", "provider", "account", "model", "task", "day", "project", "all"]
Curve: TypeAlias = tuple[tuple[float, float], ...]
"""Points of a plot: a time, and an amount. Ascending, at most `MOST_POINTS`."""

#: The maximum number of points of a curve; a phone's screen cannot show more.
MOST_POINTS = 64
#: The maximum number of entries of the log.
MOST_ENFORCEMENTS = 200
#: The maximum number of agents and tasks that are listed for one window.
MOST_HOLDS = 20
#: The scope of the budget of one launch (`launch --budget`), where a governing scope is named.
LAUNCH_SCOPE = "launch"


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernedBy:
    """Another limit that governs some agents of a limit's scope instead of it."""

    scope: str
    """The scope that governs them; `LAUNCH_SCOPE`: the `--budget` of their launch."""
    agents: tuple[str, ...]
    everybody: bool
    """Whether the overruled limit governs no agent at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverruledLimit:
    """A limit that is set but does not govern some agents of its scope, or none."""

    scope: str
    limit: float
    unit: AmountUnit
    window: str | None = None
    by: GovernedBy


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLine:
    """One limit that is set, or a provider's own window. `governed_by` says for whom it does not hold.

    Amounts of tokens are whole numbers.
    """

    scope: str
    agent: str | None
    """The owner of an allowance that counts one agent."""
    kind: Literal["pool", "allowance", "quota"]
    """``quota``: a provider's own window."""
    limit: float
    unit: AmountUnit
    used: float | None = None
    reserved: float | None = None
    remaining: float | None = None
    window: str | None = None
    """``day``, ``5h``, ...; for a share ``ACCOUNT/WINDOW``, for a quota the provider's name. None: it never resets."""
    resets_at: float | None = None
    reset_source: ResetSource | None = None
    """None: there is no reset."""
    policy: str
    """What happens at the limit: ``cutoff``, ``freeze``, ``kill``, or ``provider``, which refuses by itself."""
    state: Literal["open", "used up", "overruled"] | None = None
    """``overruled``: it governs no agent. None: unknown."""
    governed_by: tuple[GovernedBy, ...] = ()
    excess: float = 0.0
    """The amount beyond the limit that a request that ran alone caused."""
    at_least: float | None = None
    """The certain minimum of an unknown use."""
    seen_at: float | None = None
    """When a provider's window was observed last; None for limits that the egress counts."""
    pace: str | None = None
    """The key of its window in `LimitsModel.windows`; None: it has no pace."""
    known: Provenance = field(default_factory=Provenance)
    """Who says what is used; `at` None: by `LimitsModel.at`."""

    @property
    def governing_scope(self) -> str | None:
        """The scope that governs instead, if this limit governs no agent."""
        return next((each.scope for each in self.governed_by if each.everybody), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceHold:
    """Work that the pace holds, or will hold if use goes on at the present rate."""

    what: Literal["task", "run", "agent"]
    """``task``, ``run``: a queued one that does not begin. ``agent``: a running one whose requests the egress holds."""
    name: str
    """The id of the task or run, or the agent's name."""
    agent: str | None = None
    """Of a task or run: the agent that has it, or will have it."""
    text: str = ""
    """The beginning of what the task or run is about."""
    needs: float | None = None
    """The projected use in the window's unit; None: unknown."""
    since: float
    """When it is held from. After `LimitsModel.at`, this is a forecast."""
    until: float | None = None
    """When it can begin if nothing else is used; None: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowProjection:
    """Two forecasts of a window: from similar past days, and from the present rate."""

    expected: float | None = None
    """Use at the reset, from similar days (`budget.windows.usage_forecast`); `low` and `high` bound nine of ten
    cases."""
    low: float | None = None
    high: float | None = None
    by_role: tuple[tuple[str, float], ...] = ()
    """The further use of each role until the reset, the largest first; only where a report asked for it."""
    rate: float | None = None
    """Use per second in the last hours, from all that is counted here; None: unknown."""
    at_reset: float | None = None
    """Use at the reset if it goes on at `rate`. It may exceed the limit: then work will wait."""
    meets_line_at: float | None = None
    """When use meets the line at `rate`; None: not before the reset."""
    holds_at: float | None = None
    """When work of normal urgency no longer begins, at `rate`: use meets the line, the burst and what is
    authorized. None: not before the reset."""
    throttles_at: float | None = None
    """When the egress holds requests of running work, at `rate`; None: not before the reset."""
    meets_limit_at: float | None = None
    """When use meets the limit, at `rate`; None: not before the reset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPace:
    """The use of one window relative to its even-spread line."""

    key: str
    """Such as ``account:main/7d`` or ``agent:coder0/tokens/day`` (`budget.windows.even_spread_line.Window`)."""
    scope: str
    unit: AmountUnit
    limit: float
    used: float | None = None
    reserved: float | None = None
    remaining: float | None = None
    at_least: float | None = None
    """The certain minimum of an unknown use."""
    seen_at: float | None = None
    """When the window was observed last."""
    outdated_at: float | None = None
    """When an observation was made that no longer says what is used; None: there is none."""
    outdated_used: float | None = None
    """What was used then; None: it was before the window reset."""
    outdated_tokens: float = 0.0
    """The weighted tokens that went through the egress since then."""
    state: Literal["open", "used up"] | None = None
    begins_at: float | None = None
    resets_at: float | None = None
    certainty: Literal["provider", "user", "estimated", "unknown"] = "unknown"
    """How the reset is known. `reset_source` is the same for people: the calendar defines Muster's own windows."""
    line: float | None = None
    """The use that the pace allows by `LimitsModel.at`; None: all of the limit may be used at any time."""
    drawn_at: float | None = None
    """When the line was drawn; None: unknown."""
    has_end: bool = True
    """Whether there is an end up to which to spread."""
    ahead: float | None = None
    """How far use is ahead of the line; negative if behind."""
    may_use_now: float | None = None
    """The projected use with which work of normal urgency may begin; None while use is unknown: one task runs at a
    time."""
    authorized: float = 0.0
    """What is left of authorizations beyond the pace."""
    tokens: float | None = None
    """Of a share: the tokens that it is worth, which the egress enforces; None: not known yet."""
    words_ahead: int = 0
    """How often words of people began ahead of the line since the window began."""
    projection: WindowProjection | None = None
    """None: nothing is known, it was not asked for, or the window is none of the most used ones, which alone have a
    past and a future here."""
    holds: tuple[PaceHold, ...] = ()
    """What the pace holds, and what it will hold at the present rate, the earliest first."""
    use: Curve = ()
    """Cumulative use over time, as far as known."""
    even: Curve = ()
    """The current line: where it was drawn, and where it ends."""

    @property
    def share(self) -> float | None:
        """Use as a share of the limit."""
        return None if self.used is None or self.limit <= 0 else self.used / self.limit

    @property
    def least(self) -> float | None:
        """Use, or its certain minimum; None if no observation still counts."""
        return self.used if self.used is not None or self.outdated_at is None else self.at_least or 0.0

    @property
    def band(self) -> tuple[float, float, float] | None:
        """The low, the expected and the high use at the reset, from similar days; None if unknown."""
        made = self.projection
        if made is None or made.low is None or made.expected is None or made.high is None:
            return None
        return made.low, made.expected, made.high

    @property
    def reset_source(self) -> ResetSource:
        """How the reset is known, for people."""
        return self.certainty if self.unit == "share" else "certain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """A permission to spend faster than the pace."""

    id: str
    scope: str
    unit: AmountUnit
    amount: float
    left: float
    granted_at: float
    granted_by: str | None = None
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """Something that was done to a limit, or because of one."""

    at: float
    kind: Literal[
        "budget_set", "budget_cleared", "authorized", "used_up", "cut_off", "restored", "frozen", "killed", "paused",
        "refused", "held_by_pace", "ran_alone", "estop", "estop_over",
    ]  # fmt: skip
    """``used_up``: a limit is. ``paused``: the agent used too much without a result. ``refused``, ``held_by_pace``:
    requests; the same one again and again is one entry. ``ran_alone``: a request that may pass a limit was admitted."""
    by: str
    """The identity of a person, ``egress`` or ``muster``."""
    agent: str | None = None
    scope: str | None = None
    why: str | None = None
    times: int = 1
    """How often it happened since `at`, up to `last_at`."""
    last_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What one agent, task, day, ... used: in `LimitsModel` since `day_began_at`, in a report in its period."""

    by: UsageKey
    name: str
    """Empty: the requests name none, or it is all use. A task's is its id, a day's like 2026-11-20."""
    requests: int
    tokens: int
    """Tokens of all kinds, not weighted."""
    usd: float | None
    """None: the price of some of it is unknown."""
    estimated: int = 0
    """The number of requests for which the provider reported no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountWindow:
    """A window of an account as its provider last reported it. What it did not say is None."""

    name: str
    used: float | None = None
    limit: float | None = None
    remaining: float | None = None
    resets_at: float | None = None
    length_s: float | None = None
    status: str | None = None
    seen_at: float
    host: str = ""
    """The machine that saw it."""
    pace: str | None = None
    """The key of its window in `LimitsModel.windows`; None: it has no pace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountModel:
    """An account, and what its provider reported of it."""

    name: str
    provider: str
    kind: str | None = None
    """``subscription``, ``api_key``, ...; None: muster.yaml does not have it any more."""
    state: Literal["open", "used up"] | None = None
    """``used up``: the provider refuses, or a window of it is used up. None: unknown."""
    windows: tuple[AccountWindow, ...] = ()
    """Empty: its provider has not reported any yet."""
    warning: str | None = None
    """Why its credential is not safe, as a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsModel:
    """All limits, their pace and today's use."""

    at: float = field(compare=False)
    """The time for which lines, `ahead` and `may_use_now` hold."""
    lines: tuple[LimitLine, ...] = ()
    """In the order of `budget`: what the egress enforces, then limits of agents that do not run, then providers'
    windows and shares of them."""
    windows: tuple[WindowPace, ...] = ()
    """The most used first, as in `pace`."""
    overruled: tuple[OverruledLimit, ...] = ()
    """All limits that are set but do not govern somebody; `LimitLine.governed_by` has the same for its limit."""
    authorizations: tuple[Authorization, ...] = ()
    enforcements: tuple[Enforcement, ...] = ()
    """The newest first. Empty if the log was not loaded."""
    usage: tuple[UsageRow, ...] | None = None
    """By kind, the largest first. None: unknown, or not loaded."""
    accounts: tuple[AccountModel, ...] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)
    """The number of tasks that wait, by reason: ``pace``, ``limit``, ``unknown``, ``price``."""
    spread: bool = True
    """Whether limits are spread over their windows."""
    counted: Provenance = field(default_factory=Provenance)
    """Who counted the limits: the egress, or its ledger. Source ``none``: it does not answer, so use is unknown."""
    pace_known: bool = True
    """Whether `windows` are known. Without the orchestrator they are not."""
    problem: str | None = None
    """Why limits are missing here, as a sentence."""
    behind: str | None = None
    """Why use is incomplete, as a sentence."""
    estop: GateClosure | None = None
    """The emergency stop, as far as known."""
    zone: str = "UTC"
    """The operator's time zone."""
    day_began_at: float | None = None
    """The last midnight in `zone`."""

    def pace_of(self, line: LimitLine) -> WindowPace | None:
        """Return the pace of a limit, or None if it has none."""
        return None if line.pace is None else self.window(line.pace)

    def window(self, key: str) -> WindowPace | None:
        """Return the window with this key, or None."""
        return next((each for each in self.windows if each.key == key), None)
