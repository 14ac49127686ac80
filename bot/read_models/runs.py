"""Runs of agents. Tokens are weighted tokens, money is US dollars, times are seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run."""

    id: str
    agent: str
    role: str
    state: str
    """queued, running, done, failed, stopped, timed_out or limit."""
    detail: str | None = None
    """Why it waits, or how it ended."""
    prompt: str
    answer: str | None = None
    """The beginning of what the agent said; None until it has ended."""
    color: str | None = None
    source: str
    """Where it was asked for: cli, chat, gateway, or a forge."""
    reference: str | None = None
    """What it is about there, such as owner/repo#17."""
    asked_by: str
    projected_tokens: float | None = None
    projected_usd: float | None = None
    """What was expected when it was about to begin; None: unknown."""
    tokens: float | None = None
    usd: float | None = None
    """What it used; None: unknown."""
    created_at: float
    started_at: float | None = None
    deadline: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueFinding:
    """What is in the way of a push."""

    sentence: str
    mark: str | None = None
    """What an operator allows it by; None: it cannot be allowed."""
    is_allowed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueRound:
    """One round of an issue's run."""

    number: int
    id: str
    """Of the run of its agent."""
    state: str
    detail: str | None = None
    projected_tokens: float | None = None
    projected_usd: float | None = None
    """What was expected when it was about to begin; None: unknown."""
    tokens: float | None = None
    usd: float | None = None
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class IssueCheck:
    """A check of the pushed commit, such as a CI job."""

    name: str
    state: str
    """success, failure or pending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuePull:
    """What the forge showed last of the open pull request of a run."""

    head: str
    """Its newest commit."""
    merge: str
    """ready, blocked, conflict or unknown."""
    is_draft: bool
    checks: tuple[IssueCheck, ...] = ()
    """Failed ones first; of very many, not all."""
    failed: int
    pending: int
    passed: int
    since: float
    """Since when it is so."""
    said: str
    """The same in sentences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueRunLine:
    """The run of one issue."""

    id: str
    reference: str
    """Such as owner/repo#17."""
    title: str
    number: int
    url: str | None = None
    """The issue at the forge; None: its forge is not configured."""
    pull_request: int | None = None
    pull_url: str | None = None
    pull_state: str | None = None
    """open, merged or closed."""
    state: str
    """queued, running, checking, frozen, failed or destroyed."""
    detail: str | None = None
    """Why it waits for an operator or failed."""
    is_held: bool = False
    """Whether an operator took it off the queue."""
    waits: str | None = None
    """Why it does not begin or go on by itself yet, as a sentence; None: it does not wait in the queue."""
    round: int
    role: str
    agent: str
    sandboxes: tuple[str, ...] = ()
    picked_by: str
    picked_how: str
    connector: str
    room: str
    """Where its thread is."""
    branch: str | None = None
    pushed_sha: str | None = None
    wakes: int = 0
    """How often something made it go on, or is to."""
    waiting_wakes: int = 0
    """Of these, those that wait for the next round."""
    checks: str | None = None
    """The checks that failed last."""
    pull: IssuePull | None = None
    """None: no pull request was seen yet, or it is closed."""
    findings: tuple[IssueFinding, ...] = ()
    more_findings: int = 0
    operations: tuple[str, ...] = ()
    """The last things that its agent did or was refused at the forge, the newest last."""
    more_operations: int = 0
    """How many earlier ones there are."""
    rounds: tuple[IssueRound, ...] = ()
    """Those that are kept, the first first."""
    projected_tokens: float | None = None
    projected_usd: float | None = None
    """What is expected of the round that waits or goes on; None: there is none, or that is unknown."""
    tokens: float | None = None
    """Of all rounds that ended."""
    usd: float | None = None
    """None: unknown."""
    created_at: float
    active_at: float
    ended_at: float | None = None

    @property
    def open_findings(self) -> tuple[IssueFinding, ...]:
        """Those that an operator may still allow, each mark once."""
        return tuple({each.mark: each for each in self.findings if each.mark and not each.is_allowed}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsModel:
    """The runs that have not ended, and the last that did. Rounds of runs in `issues` are there alone."""

    open: tuple[RunLine, ...] = ()
    """Oldest first."""
    ended: tuple[RunLine, ...] = ()
    """Newest first."""
    issues: tuple[IssueRunLine, ...] = ()
    """Runs of issues: first those that have not ended, the oldest first, then the newest that did."""
