"""What a client asked of the model, in one shape for every API."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Api = Literal["anthropic", "responses", "chat"]


class BadRequest(Exception):
    """The request is not what the API takes; the message says where and why."""


@dataclass(frozen=True, slots=True)
class UserText:
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    media_type: str
    size: int
    """Bytes, after base64; 0 where only an address was given."""


@dataclass(frozen=True, slots=True)
class AssistantText:
    text: str


@dataclass(frozen=True, slots=True)
class RequestedCall:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a tool gave back."""

    call: str
    text: str


Item: TypeAlias = UserText | Picture | AssistantText | RequestedCall | ToolOutcome


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the prompt, as it is counted and cached. `mark`: the client asks to cache up to its end."""

    source: str
    tokens: int
    mark: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class NormalizedRequest:
    api: Api
    model: str
    items: tuple[Item, ...]
    segments: tuple[Segment, ...]
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The JSON schema of each tool's input, by name."""
    stream: bool = False
    max_tokens: int | None = None
    include_usage: bool = True

    @property
    def digest(self) -> str:
        """The same for the same question, whatever the transport; SHA-256, hexadecimal."""
        source = json.dumps([self.api, self.model, [s.source for s in self.segments]])
        return hashlib.sha256(source.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ConversationTurn:
    """Where the conversation stands: what the person last said, and what tools have answered since."""

    text: str
    pictures: tuple[Picture, ...]
    results: tuple[tuple[str, str], ...]
    """The tool's name and its output, in order."""
    spoken: int = 0
    """How many times the person has spoken, from the beginning of the conversation on."""


# What runtimes, and Muster itself, add to the person's words.
_ADDED = re.compile(
    r"<(system-reminder|environment_context|user_instructions|turn_aborted|permissions instructions|collaboration_mode"
    r"|skills_instructions|apps_instructions|plugins_instructions|INSTRUCTIONS|command-name|command-message|command-args"
    r"|local-command-stdout|local-command-caveat)>.*?</\1>|\[Request interrupted by user[^\]]*\]"
    r'|<role name="[^"]*">.*?</role>|<fleet>.*?</fleet>|<issue-run>.*?</issue-run>'
    r"|^# AGENTS\.md instructions[^\n]*$",
    re.DOTALL | re.MULTILINE,
)


def turn_of(items: tuple[Item, ...]) -> ConversationTurn:
    """Return the running turn: from the last words of the person on. Words that were added do not count."""
    start, text, spoken = 0, "", 0
    for index, item in enumerate(items):
        if isinstance(item, UserText) and (words := _ADDED.sub("", item.text).strip()):
            start, text, spoken = index, words, spoken + 1
    first = start
    while first > 0 and isinstance(items[first - 1], Picture | UserText):
        first -= 1
    pictures = tuple(item for item in items[first:] if isinstance(item, Picture))
    names = {item.id: item.name for item in items if isinstance(item, RequestedCall)}
    results = tuple((names.get(i.call, "The tool"), i.text) for i in items[start:] if isinstance(i, ToolOutcome))
    return ConversationTurn(text=text, pictures=pictures, results=results, spoken=spoken)
