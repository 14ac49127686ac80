"""What an agent host writes into its journal, and what it streams to whoever follows it.

One JSON object per entry: ``{"incarnation": 3, "seq": 17, "at": 1763690000.2, "kind": "turn_started", ...fields}``.
An entry is durable before anybody is told of it. Readers meet journals of older and of newer agent hosts: a kind that
they do not know becomes `Unknown`, a field that they do not know is dropped, a field that is missing has its default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeAlias

#: The reason of a `Closing` when the agent is to be frozen.
FREEZE: Final = "frozen"


@dataclass(frozen=True, slots=True, order=True)
class JournalPosition:
    """A place in an agent's journal: after the entry with this number. Sequence numbers begin at 1."""

    incarnation: int = 0
    seq: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """The first entry of an incarnation. `carried` is the state that earlier incarnations left (fleet.host.state)."""

    KIND: ClassVar[str] = "opened"
    agent: str
    launch_id: str
    marker: str
    pid: int
    protocol: int
    carried: Mapping[str, Any] = field(default_factory=dict)
    boot: str = ""
    """The start of the machine that it fell into (core.boot_id); empty: not known."""
    continues: bool = False
    """The same agent host goes on in a new file, since the old one or the disk was full: nothing ended or began."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeStarted:
    KIND: ClassVar[str] = "runtime_started"
    pid: int
    session: str
    loaded: bool
    """Whether the session that was there before goes on; if not although there was one, `note` says why."""
    images: bool = False
    note: str | None = None
    version: str | None = None
    """The runtime's own; None: it does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeFailed:
    """The runtime never became ready. `reason` is a sentence for the operator, `stderr` the runtime's last lines."""

    KIND: ClassVar[str] = "runtime_failed"
    reason: str
    stderr: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeDied:
    KIND: ClassVar[str] = "runtime_died"
    reason: str
    stderr: str = ""
    turn: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageQueued:
    """A message is in the agent host's durable queue."""

    KIND: ClassVar[str] = "message_queued"
    id: str
    text: str
    mode: str = "queue"
    sender: str = ""
    images: tuple[str, ...] = ()
    """Paths of files in the agent's folder."""
    note: str = ""
    """What Muster itself says before it, in a block of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageWithdrawn:
    KIND: ClassVar[str] = "message_withdrawn"
    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageEdited:
    """A message that waits has another text."""

    KIND: ClassVar[str] = "message_edited"
    id: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MessagePutFirst:
    """A message that waits has the next turn."""

    KIND: ClassVar[str] = "message_put_first"
    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnStarted:
    """Durable before the prompt is written to the runtime."""

    KIND: ClassVar[str] = "turn_started"
    turn: str
    message: str
    session: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnAccepted:
    """The runtime's first message, thought, plan, tool or permission event of the turn."""

    KIND: ClassVar[str] = "turn_accepted"
    turn: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TextChunk:
    KIND: ClassVar[str] = "text"
    turn: str | None
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ThoughtChunk:
    KIND: ClassVar[str] = "thought"
    turn: str | None
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """A tool call began or changed. Of an update only what changed is not None."""

    KIND: ClassVar[str] = "tool"
    turn: str | None
    call: str
    title: str | None = None
    tool_kind: str | None = None
    status: str | None = None
    """pending, in_progress, completed or failed (Agent Client Protocol, tool call status)."""
    detail: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanUpdated:
    KIND: ClassVar[str] = "plan"
    turn: str | None
    entries: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PermissionAsked:
    KIND: ClassVar[str] = "permission_asked"
    request: str
    turn: str | None
    session: str
    digest: str
    """SHA-256 over what is to be allowed: the tool's kind, title, raw input and options' kinds."""
    title: str
    detail: str
    """The whole command or input, never shortened."""
    options: tuple[Mapping[str, str], ...]
    """As the runtime offers them: ``id``, ``name``, ``kind``."""
    expires_at: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What approval rules see of it (fleet.approval_rules.requests); empty: they can tell nothing."""
    sandboxed: bool = False
    """Whether the agent runs in a sandbox, where more rules can be offered."""
    why: str = ""
    """Why the rules did not answer it, in a sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PermissionAnswered:
    KIND: ClassVar[str] = "permission_answered"
    request: str
    outcome: str
    """selected, granted (by an earlier "always": it was never asked), denied, expired, cancelled (with the turn),
    lost (with the runtime)."""
    option: str | None = None
    by: str | None = None
    asked_in: int = 0
    """The incarnation in which it was asked; 0 where it never was (`granted`, or answered by a rule)."""
    rule: str | None = None
    """The id of the approval rule that answered it; None: no rule did. What follows is empty then."""
    why: str = ""
    """The rule in a sentence."""
    title: str = ""
    detail: str = ""
    """What was allowed or denied by the rule, whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GrantAdded:
    KIND: ClassVar[str] = "grant_added"
    digest: str
    title: str
    by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GrantRevoked:
    KIND: ClassVar[str] = "grant_revoked"
    digest: str
    by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolAsked:
    """The agent called one of Muster's own tools (`fleet.tools`). No other call in its journal has this name."""

    KIND: ClassVar[str] = "tool_asked"
    call: str
    turn: str | None
    tool: str
    arguments: Mapping[str, Any]
    queued: bool = False
    """It is to be done even if nobody waits for the answer any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolAnswered:
    """What the agent was told of its call."""

    KIND: ClassVar[str] = "tool_answered"
    call: str
    outcome: str
    """done, refused; lapsed (the orchestrator did not come: a call that is not `queued` must not be done any more), or
    unknown (it was begun, and nothing was heard of its end)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageReported:
    """What the runtime itself says of its spending: for show, never for accounting."""

    KIND: ClassVar[str] = "usage"
    turn: str | None
    fields: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnEnded:
    """`stop_reason` is the runtime's own (end_turn, cancelled, ...), ``error`` when the prompt failed, or ``cut``
    when the agent host or the runtime died in the middle of it."""

    KIND: ClassVar[str] = "turn_ended"
    turn: str
    message: str
    stop_reason: str
    accepted: bool = True
    """False: nothing shows that the runtime ever got the prompt."""
    detail: str | None = None
    steered: bool = False
    """A message that steers cancelled it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AsideAsked:
    """A question on the side. Durable before anything of it goes to the runtime."""

    KIND: ClassVar[str] = "aside_asked"
    id: str
    text: str
    sender: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AsideEnded:
    """Nothing more comes of a question on the side."""

    KIND: ClassVar[str] = "aside_ended"
    id: str
    outcome: str
    """answered; failed (`detail` says why); lost (the runtime or the agent host ended before the answer)."""
    text: str = ""
    """The answer, or the part of it that came."""
    forked: bool = False
    """Whether a fork of the conversation answered; otherwise a new session that was given a summary."""
    refused: tuple[str, ...] = ()
    """Titles of what the answering session asked to do and was not allowed."""
    changed: tuple[str, ...] = ()
    """Titles of changes to files that it made without asking."""
    detail: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HandedOver:
    """The runtime ended, and its own terminal program goes on with the session, for a person at a terminal."""

    KIND: ClassVar[str] = "handed_over"
    by: str
    session: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HandedBack:
    """That terminal program is gone. A `RuntimeStarted` with the same session follows, unless the agent ends."""

    KIND: ClassVar[str] = "handed_back"
    by: str
    """Who had it."""
    reason: str
    """A sentence: how it ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """The runtime printed what is no protocol; counted, with a sample."""

    KIND: ClassVar[str] = "noise"
    lines: int
    sample: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """A sentence of the agent host's own for the operator."""

    KIND: ClassVar[str] = "notice"
    text: str
    turn: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Closing:
    """The last entry of an orderly end."""

    KIND: ClassVar[str] = "closing"
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unknown:
    """An entry of a kind that this version does not know."""

    KIND: ClassVar[str] = "unknown"
    kind: str
    fields: Mapping[str, Any]


Event: TypeAlias = (
    Opened
    | RuntimeStarted
    | RuntimeFailed
    | RuntimeDied
    | MessageQueued
    | MessageWithdrawn
    | MessageEdited
    | MessagePutFirst
    | TurnStarted
    | TurnAccepted
    | TextChunk
    | ThoughtChunk
    | ToolCall
    | PlanUpdated
    | PermissionAsked
    | PermissionAnswered
    | GrantAdded
    | GrantRevoked
    | ToolAsked
    | ToolAnswered
    | UsageReported
    | TurnEnded
    | AsideAsked
    | AsideEnded
    | HandedOver
    | HandedBack
    | Noise
    | Notice
    | Closing
    | Unknown
)

_TYPES: dict[str, type[Any]] = {kind.KIND: kind for kind in Event.__args__ if kind is not Unknown}


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEntry:
    """One entry of a journal."""

    position: JournalPosition
    at: float
    event: Event

    def to_json(self) -> dict[str, Any]:
        head = {"incarnation": self.position.incarnation, "seq": self.position.seq, "at": self.at}
        if isinstance(self.event, Unknown):
            return {**head, "kind": self.event.kind, **self.event.fields}
        fields = {f.name: getattr(self.event, f.name) for f in dataclasses.fields(self.event)}
        return {**head, "kind": self.event.KIND, **fields}

    @classmethod
    def from_json(cls, source: Mapping[str, Any]) -> JournalEntry:
        """Read an entry back.

        Raises:
            ValueError: it is no entry, or lacks a field that has no default.
        """
        try:
            position = JournalPosition(int(source["incarnation"]), int(source["seq"]))
            at, kind = float(source["at"]), str(source["kind"])
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a journal entry: {error}") from None
        rest = {key: value for key, value in source.items() if key not in {"incarnation", "seq", "at", "kind"}}
        event_type = _TYPES.get(kind)
        if event_type is None:
            return cls(position=position, at=at, event=Unknown(kind=kind, fields=rest))
        names = {f.name for f in dataclasses.fields(event_type)}
        known = {name: tuple(v) if isinstance(v, list) else v for name, v in rest.items() if name in names}
        try:
            return cls(position=position, at=at, event=event_type(**known))
        except TypeError as error:
            raise ValueError(f"entry {position} of kind {kind}: {error}") from None
