"""What one agent does, turn by turn. Times are seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from bot.read_models.fleet import FleetAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidItem:
    """A piece of the answer, up to the next action."""

    kind: Literal["said"] = "said"
    text: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtItem:
    kind: Literal["thought"] = "thought"
    text: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolItem:
    """The use of a tool. What its runtime did not say is None."""

    kind: Literal["tool"] = "tool"
    call: str
    title: str | None = None
    tool_kind: str | None = None
    """read, edit, execute, ... (Agent Client Protocol, tool kind)."""
    status: str | None = None
    """pending, in_progress, completed or failed (Agent Client Protocol, tool call status)."""
    detail: str | None = None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionItem:
    """A permission request, or what a rule or an earlier answer decided without one."""

    kind: Literal["permission"] = "permission"
    incarnation: int
    """Of the agent's journal, when it was asked. `request` is unique in it."""
    request: str
    title: str = ""
    detail: str = ""
    """The whole command or input, never shortened."""
    why: str = ""
    """Why the rules did not answer it, or the rule that did, in a sentence."""
    outcome: str | None = None
    """As in `fleet.journal.events.PermissionAnswered`. None: it waits for an answer."""
    option: str | None = None
    by: str | None = None
    rule: str | None = None
    """The id of the rule that answered it."""
    expires_at: float | None = None
    answered_at: float | None = None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeItem:
    """A sentence of the agent host, or why the runtime or the host ended."""

    kind: Literal["notice"] = "notice"
    text: str
    at: float


TurnItem: TypeAlias = SaidItem | ThoughtItem | ToolItem | PermissionItem | NoticeItem


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnModel:
    """One turn, with what happened after it and before the next one."""

    turn: str | None
    """None: the items come before the first known turn."""
    message: str | None = None
    """The id of the message that began it."""
    asked: str | None = None
    """The message's text."""
    asked_by: str | None = None
    began_at: float | None = None
    ended_at: float | None = None
    """None: it goes on, as far as known."""
    stop_reason: str | None = None
    """As in `fleet.journal.events.TurnEnded`."""
    detail: str | None = None
    """Why it failed."""
    items: tuple[TurnItem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentModel:
    """One agent, and the end of its conversation."""

    agent: FleetAgent
    turns: tuple[TurnModel, ...] = ()
    """The last ones, oldest first."""
    before: str | None = None
    """The page with older turns is the one before this place; None: there are none."""
