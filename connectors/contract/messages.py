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


class CommandReading(StrEnum):
    """How words are to be taken."""

    PLAIN = "plain"
    """As people write: a command where they are marked as one, else words for an agent."""
    COMMAND = "command"
    """As a command's line without its mark, whatever is in it: it was chosen from a menu of commands."""
    TALK = "talk"
    """As words for an agent, also where they look like a command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A message that a person wrote."""

    text: str
    attachments: tuple[Attachment, ...] = ()
    mentions_us: bool = False
    reading: CommandReading = CommandReading.PLAIN


@dataclass(frozen=True, kw_only=True, slots=True)
class Reaction:
    """A reaction to `target`, the event id of a message."""

    target: str
    key: str
    pressed: bool = False
    """It was a button under the message (`Button.key`). What is said to `reply_to` such an event can be `private`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Redaction:
    """`target` was taken back by its author or a moderator."""

    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """`target` now reads `text`. Never input: it is recorded, so that the operator can be told."""

    target: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Remark:
    """What the connector itself has to say in the conversation. No one wrote it; whose name it bears decides nothing.

    It comes the way events do, so that it is said once for its event id, whatever happens in between. `text` is
    Markdown, with commands as a shell would have them (``muster matrix devices``).
    """

    text: str


InboundBody: TypeAlias = Text | Reaction | Redaction | Edit | Remark


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
    groups: tuple[str, ...] = ()
    """What the chat system says the author belongs to, when this was received, in words of the connector's own that no
    person there is called (``role:123``)."""

    @property
    def identity(self) -> str:
        """The author across connectors: ``matrix:@ana:example.org``."""
        return f"{self.connector}:{self.sender}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What one answer of the chat system brought, and the cursor that is behind it.

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


class ButtonStyle(StrEnum):
    """What pressing a button is like."""

    PLAIN = "plain"
    GOOD = "good"
    DANGER = "danger"


@dataclass(frozen=True, kw_only=True, slots=True)
class Button:
    """A button under a message of ours. Pressing it comes in as a `Reaction` to the message with this key."""

    key: str
    """What it means, in characters that make a reaction: it goes on working however old the message is."""
    label: str
    style: ButtonStyle = ButtonStyle.PLAIN


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A message in Markdown. Connectors that show rich text use `html`, which is safe; others show `text`."""

    text: str
    html: str | None = None
    emphasis: Emphasis = Emphasis.NOTICE
    reply_to: str | None = None
    """The event id of the message that this answers."""
    buttons: tuple[Button, ...] = ()
    """At most five. The text must be complete without them: where there are none, they are left out."""
    private: bool = False
    """Only for who caused `reply_to`, where the chat system can show it so; elsewhere everybody reads it."""
    byline: str | None = None
    """Whose words these are; shown only where no thread shows it, since none could be opened."""


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
    """A reaction. `target` is an event id of someone's message, or with `own` the outbox key of a message of ours."""

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
    reply_to: str | None = None
    """The event id of the message that this answers; only of what is private it is shown."""
    private: bool = False
    """As of a `Message`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retitle:
    """A thread's name, and whether it is put away. Only the newest one of a thread is wanted.

    It holds up nothing that is said in the thread. One that puts it away waits until nothing else waits to be said
    there. Where no thread opened, nothing is renamed.
    """

    title: str
    archived: bool = False


OutboundContent: TypeAlias = Message | OpenThread | Replace | React | File | Retitle


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
    impaired: bool = False
    """The connection stands, and part of what goes over it does not get through; `detail` says what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a connector can do. What it cannot has a fallback in Muster."""

    threads: bool = False
    edits: bool = False
    reactions: bool = False
    taps: bool = False
    """People can answer by tapping a reaction that we put on our own message."""
    buttons: bool = False
    """People can press buttons under our messages."""
    titles: bool = False
    """Threads can be renamed and put away."""
    files: bool = False
    pictures: bool = True
    """People see a file that is a picture, and need not look for it: otherwise charts are drawn in letters."""
    typing: bool = False
    html: bool = False
    """What is said goes out as HTML, too."""
    max_text: int = 100_000
    """Characters in one message, text and HTML together; longer text is sent as a file or split."""
    remembers_keys: float | None = None
    """Seconds for which the chat system recognises a key that was sent before; None: it never does."""
    rate_per_second: float | None = None
    """Messages a second that the server is assumed to allow; None: no limit known."""
    burst: int = 10
