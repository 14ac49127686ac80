"""From something to say to the outbound messages that say it, within what the connector at the other end can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot import rendering
from connectors.messages import Emphasis, File, Outbound, Priority, Replace

if TYPE_CHECKING:
    from pathlib import Path

    from connectors.messages import Capabilities, OutboundContent

#: Room for HTML beside the text: of what a connector takes, this share is used for text.
_TEXT_SHARE = 0.4
_HEAD_LINES = 12


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is said: in a conversation, or in the thread that a message opens."""

    connector: str
    conversation: str | None = None
    thread_of: str | None = None

    def outbound(self, key: str, content: OutboundContent, priority: Priority) -> Outbound:
        return Outbound(
            key=key,
            connector=self.connector,
            conversation=self.conversation,
            thread_of=self.thread_of,
            content=content,
            priority=priority,
        )


@dataclass(frozen=True, slots=True)
class Speaker:
    """Turns Markdown into outbound messages. Text too long for one message goes into a file in `files`, with its
    beginning as the message; a connector that takes no files gets it in pieces."""

    files: Path

    def say(
        self,
        key: str,
        markdown: str,
        place: Place,
        can: Capabilities,
        *,
        priority: Priority = Priority.REPLY,
        emphasis: Emphasis = Emphasis.NOTICE,
        reply_to: str | None = None,
    ) -> list[Outbound]:
        """The messages that say `markdown`."""
        limit = int(can.max_text * _TEXT_SHARE)
        if len(markdown) <= limit:
            content = rendering.message(markdown, emphasis=emphasis, reply_to=reply_to)
            return [place.outbound(key, content, priority)]
        if not can.files:
            return [
                place.outbound(
                    key if index == 0 else f"{key}/{index}", rendering.message(piece, emphasis=emphasis), priority
                )
                for index, piece in enumerate(pieces(markdown, limit))
            ]
        head = rendering.message(beginning(markdown, limit), emphasis=emphasis, reply_to=reply_to)
        return [place.outbound(key, head, priority), self.attach(f"{key}/file", markdown, place, priority)]

    def attach(self, key: str, markdown: str, place: Place, priority: Priority) -> Outbound:
        """`markdown` as a file."""
        self.files.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{key.replace('/', '-')}.md"
        path = self.files / name
        part = path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(rendering.shown(markdown), encoding="utf-8")
        part.replace(path)
        caption = f"The whole text, {len(markdown):,} characters."
        return place.outbound(
            key, File(path=str(path), name=name, media_type="text/markdown", caption=caption), priority
        )

    def replace(
        self,
        key: str,
        target: str,
        markdown: str,
        place: Place,
        can: Capabilities,
        *,
        priority: Priority,
        final: bool,
        emphasis: Emphasis = Emphasis.TEXT,
    ) -> list[Outbound]:
        """New words for the message under `target`. While text grows, its end is what shows."""
        limit = int(can.max_text * _TEXT_SHARE)
        long = len(markdown) > limit
        shown = markdown if not long else (beginning(markdown, limit) if final else f"…{markdown[-limit:]}")
        replacement = Replace(target=target, message=rendering.message(shown, emphasis=emphasis), final=final)
        result = [place.outbound(key, replacement, priority)]
        if long and final and can.files:
            result.append(self.attach(f"{target}/file", markdown, place, priority))
        elif long and final:
            rest = list(pieces(markdown, limit))
            result[0] = place.outbound(
                key, Replace(target=target, message=rendering.message(rest[0], emphasis=emphasis), final=True), priority
            )
            result += [
                place.outbound(f"{target}/{index}", rendering.message(piece, emphasis=emphasis), priority)
                for index, piece in enumerate(rest[1:], start=1)
            ]
        return result


def beginning(markdown: str, limit: int) -> str:
    """The first lines of a long text, and how much more there is."""
    head = "\n".join(markdown[: min(limit, 2000)].splitlines()[:_HEAD_LINES])
    if head.count("```") % 2:
        head += "\n```"
    return f"{head}\n\n… the whole text is in the file."


def pieces(markdown: str, limit: int) -> list[str]:
    """`markdown` cut at line ends into pieces of at most `limit` characters; a fence that is cut is closed and
    opened again."""
    result: list[str] = []
    current: list[str] = []
    size, fence = 0, ""
    room = max(1, limit - 16)
    for line in (part for whole in markdown.split("\n") for part in _chunks(whole, room)):
        if current and size + len(line) + 1 > room:
            result.append("\n".join([*current, "```"] if fence else current))
            current = [fence] if fence else []
            size = sum(len(kept) + 1 for kept in current)
        current.append(line)
        size += len(line) + 1
        if line.lstrip().startswith("```"):
            fence = "" if fence else line.strip()[:12]
    result.append("\n".join(current))
    return result


def _chunks(line: str, width: int) -> list[str]:
    return [line[start : start + width] for start in range(0, len(line), width)] or [""]
