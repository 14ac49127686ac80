"""What goes between a chat system and Muster, as plain frozen values.

A *conversation* is one room, channel or thread, addressed by an id that only its connector understands.
A *thread* is a conversation whose main room is its `parent`. All times are seconds since the epoch (UTC).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TypeAlias

# --- inbound -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment:
    """A file that came with a message; the connector fetches its bytes on demand (`Connector.download`)."""

    ref: str
    """The connector's own name for the content (``mxc://...``)."""
    name: str
    media_type: str
    size: int | None = None
    """Bytes, as the sender claims; None when it was not said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A message that a person wrote."""

    text: str
    attachments: tuple[Attachment, ...] = ()
    mentions_us: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Reaction:
    """A reaction to `target`, the event id of a message."""

    target: str
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Redaction:
    """`target` was taken back by its author or a moderator."""

    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """`target` now reads `text`. Never input: it is recorded, so that the operator can be told."""

    target: str
    text: str


InboundBody: TypeAlias = Text | Reaction | Redaction | Edit


@dataclass(frozen=True, kw_only=True, slots=True)
class Inbound:
    """One event from a chat system. (connector, event_id) is its identity for ever."""

    connector: str
    event_id: str
    conversation: str
    parent: str | None = None
    """The main room, when `conversation` is a thread in it."""
    sender: str
    """The author, as the connector names people (``@ana:example.org``)."""
    sent_at: float
    body: InboundBody

    @property
    def identity(self) -> str:
        """The author across connectors: ``matrix:@ana:example.org``."""
        return f"{self.connector}:{self.sender}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What one answer of the chat system brought, and the cursor that stands behind it.

    Accepting a batch writes its events and its cursor in one transaction.
    """

    events: tuple[Inbound, ...]
    cursor: str | None
    """None: this batch moves no cursor."""


# --- outbound ----------------------------------------------------------------------------------------------------


class Priority(IntEnum):
    """Who goes first when the chat system limits how much a bot may say. Lower goes first."""

    APPROVAL = 0
    REPLY = 1
    FINAL = 2
    RECEIPT = 3
    PROGRESS = 4


class Emphasis(StrEnum):
    """How a message is meant: the words of an agent or a reply (`text`), or the bot speaking aside (`notice`)."""

    TEXT = "text"
    NOTICE = "notice"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A message in Markdown. Connectors that show rich text use `html`, which is safe; others show `text`."""

    text: str
    html: str | None = None
    emphasis: Emphasis = Emphasis.NOTICE
    reply_to: str | None = None
    """The event id of the message that this answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenThread:
    """A message that opens a thread below itself, named `title`."""

    title: str
    message: Message


@dataclass(frozen=True, kw_only=True, slots=True)
class Replace:
    """New content for a message of ours: `target` is the outbox key that it was sent under."""

    target: str
    message: Message
    final: bool = False
    """Nothing replaces this one any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class React:
    """A reaction. `target` is an event id of somebody's message, or with `own` the outbox key of a message of ours."""

    target: str
    key: str
    own: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file to upload, with a caption that is complete without it. `path` is a file that Muster keeps until sent."""

    path: str
    name: str
    media_type: str
    caption: str


OutboundContent: TypeAlias = Message | OpenThread | Replace | React | File


@dataclass(frozen=True, kw_only=True, slots=True)
class Outbound:
    """One thing to say. `key` is its identity: put a second time, it changes nothing.

    Where to: `conversation`, or, for what belongs in a thread that may not exist yet, `thread_of`, the outbox key of
    the `OpenThread` that makes it.
    """

    key: str
    connector: str
    conversation: str | None = None
    thread_of: str | None = None
    content: OutboundContent
    priority: Priority = Priority.REPLY

    def __post_init__(self) -> None:
        if (self.conversation is None) == (self.thread_of is None):
            raise ValueError("an outbound message goes to a conversation or to a thread that a message opens")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """The chat system has it."""

    event_id: str
    conversation: str | None = None
    """For `OpenThread`: the id of the thread's conversation."""


# --- health ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """What a connector knows of its own connection. Unknown is None, never a guess."""

    kind: str
    reachable: bool | None
    authenticated: bool | None
    last_seen: float | None
    """When the chat system last answered."""
    detail: str
    """One sentence: what is going on, and when something is wrong, what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a connector can do. What it cannot has a fallback in Muster."""

    threads: bool = False
    edits: bool = False
    reactions: bool = False
    taps: bool = False
    """People can answer by tapping a reaction that we put on our own message."""
    files: bool = False
    typing: bool = False
    html: bool = False
    max_text: int = 100_000
    """Characters in one message, text and HTML together; longer text is sent as a file or split."""
    remembers_keys: float | None = None
    """Seconds for which the chat system recognises a key that was sent before; None: it never does."""
    rate_per_second: float | None = None
    """Messages a second that the server is assumed to allow; None: no limit known."""
    burst: int = 10
