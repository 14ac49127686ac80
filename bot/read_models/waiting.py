"""What waits for somebody's answer. Times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerChoice:
    """One answer that may be given."""

    word: str
    """What it is called: allow, always, prefix, while, all or deny; of a question, a word of its own."""
    mark: str
    """The reaction in chat that means the same."""
    label: str
    """What a button says."""
    command: str
    """The command that gives it: ``approve``, ``deny`` or ``answer``."""
    arguments: Mapping[str, str | bool | float] = field(default_factory=dict)
    """The command's arguments, by name."""
    style: Literal["plain", "good", "danger"] = "plain"
    needs_admin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRequest:
    """A permission request of an agent."""

    id: str
    agent: str
    title: str
    detail: str
    """The whole command or input, or its beginning if `detail_size` is not None."""
    detail_size: int | None = None
    """Number of characters of the whole one, if `detail` is shortened. `choices` then allow nothing. The page of the
    document at the place `id` has this request alone, whole and with all choices."""
    choices: tuple[AnswerChoice, ...] = ()
    state: Literal["pending", "answering"] = "pending"
    """``answering``: somebody answered, and the agent host has not confirmed it."""
    asked_at: float
    expires_at: float
    """It is denied then."""
    together: tuple[str, ...] = ()
    """Ids of other requests of the agent that its message in chat lists as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingQuestion:
    """A question of Muster's own, for example whether a task may exceed its pace."""

    id: str
    kind: str
    """Who asks: ``runaway``, ``task`` or ``held``."""
    agent: str | None = None
    """The agent that it is about."""
    task: str | None = None
    text: str | None = None
    """The question, as Markdown; None: its message is no longer kept."""
    text_size: int | None = None
    """Number of characters of the whole text, if `text` is shortened, as with `PendingRequest.detail_size`."""
    choices: tuple[AnswerChoice, ...] = ()
    asked_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingModel:
    """All that waits for an answer, oldest first."""

    requests: tuple[PendingRequest, ...] = ()
    questions: tuple[PendingQuestion, ...] = ()

    def is_shortened(self, id: str) -> bool:
        """Return whether this has only the beginning of a request or question."""
        return any(each.id == id and each.detail_size is not None for each in self.requests) or any(
            each.id == id and each.text_size is not None for each in self.questions
        )
