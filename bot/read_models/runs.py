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
    tokens: float | None = None
    usd: float | None = None
    """None: unknown."""
    created_at: float
    started_at: float | None = None
    deadline: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsModel:
    """The runs that have not ended, and the last that did."""

    open: tuple[RunLine, ...] = ()
    """Oldest first."""
    ended: tuple[RunLine, ...] = ()
    """Newest first."""
