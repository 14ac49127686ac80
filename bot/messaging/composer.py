"""Composer of outbound messages from Markdown, within the capabilities of the connector."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from bot.messaging import private_files
from bot.text import markdown as rendering
from connectors.contract.messages import (
    Button,
    Capabilities,
    Emphasis,
    File,
    Message,
    Outbound,
    OutboundContent,
    Priority,
    Replace,
)

#: Share of a connector's limit for text if HTML is sent as well.
_TEXT_SHARE = 0.4
_HEAD_LINES = 12


@dataclass(frozen=True, slots=True)
class MessagePlace:
    """The place of a message: a conversation, or the thread that another message opens."""

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
class Composer:
    """Composer of outbound messages from Markdown.

    A text that is too long for one message goes into a file in `files`, with its beginning as the message. A connector
    without files gets the text in pieces.
    """

    files: Path

    def say(
        self,
        key: str,
        markdown: str,
        place: MessagePlace,
        can: Capabilities,
        *,
        priority: Priority = Priority.REPLY,
        emphasis: Emphasis = Emphasis.NOTICE,
        reply_to: str | None = None,
        buttons: tuple[Button, ...] = (),
        private: bool = False,
    ) -> list[Outbound]:
        """Return the messages for `markdown`. The buttons belong to the first one; `private` applies to all of them."""
        markdown = rendering.shown(markdown)
        limit = _room(can)
        if _size(markdown) <= limit:
            content = _message(markdown, can, emphasis, reply_to)
            content = dataclasses.replace(content, buttons=buttons, private=private)
            return [place.outbound(key, content, priority)]
        if not can.files:
            to = reply_to if private else None
            contents = [
                dataclasses.replace(_message(piece, can, emphasis, to), private=private)
                for piece in pieces(markdown, limit)
            ]
            contents[0] = dataclasses.replace(contents[0], buttons=buttons)
            return [
                place.outbound(key if index == 0 else f"{key}/{index}", content, priority)
                for index, content in enumerate(contents)
            ]
        head = _message(beginning(markdown, limit), can, emphasis, reply_to)
        head = dataclasses.replace(head, buttons=buttons, private=private)
        to = reply_to if private else None
        return [
            place.outbound(key, head, priority),
            self.attach(f"{key}/file", markdown, place, priority, private_to=to),
        ]

    def begin(self, key: str, markdown: str, place: MessagePlace, can: Capabilities, *, emphasis: Emphasis) -> Outbound:
        """Return the first message of a text that still grows."""
        markdown = rendering.shown(markdown)
        limit = _room(can)
        shown = markdown if _size(markdown) <= limit else latest(markdown, limit)
        return place.outbound(key, _message(shown, can, emphasis), Priority.PROGRESS)

    def attach(
        self, key: str, markdown: str, place: MessagePlace, priority: Priority, *, private_to: str | None = None
    ) -> Outbound:
        """Return `markdown` as a file, shown only to the author of event `private_to` if the connector can do that."""
        # No agent's name has an underscore: what is between slashes stays apart.
        name = f"{key.replace('/', '_')}.md"
        path = self.files / name
        private_files.put(path, rendering.shown(markdown).encode())
        caption = f"The whole text, {len(markdown):,} characters."
        content = File(
            path=str(path),
            name=name,
            media_type="text/markdown",
            caption=caption,
            reply_to=private_to,
            private=private_to is not None,
        )
        return place.outbound(key, content, priority)

    def replace(
        self,
        key: str,
        target: str,
        markdown: str,
        place: MessagePlace,
        can: Capabilities,
        *,
        priority: Priority,
        final: bool,
        emphasis: Emphasis = Emphasis.TEXT,
    ) -> list[Outbound]:
        """Return the messages that replace the text under `target`. A growing text shows its end."""
        markdown = rendering.shown(markdown)
        limit = _room(can)
        long = _size(markdown) > limit
        shown = markdown if not long else (beginning(markdown, limit) if final else latest(markdown, limit))
        replacement = Replace(target=target, message=_message(shown, can, emphasis), final=final)
        result = [place.outbound(key, replacement, priority)]
        if long and final and can.files:
            result.append(self.attach(f"{target}/file", markdown, place, priority))
        elif long and final:
            rest = list(pieces(markdown, limit))
            first = Replace(target=target, message=_message(rest[0], can, emphasis), final=True)
            result[0] = place.outbound(key, first, priority)
            result += [
                place.outbound(f"{target}/{index}", _message(piece, can, emphasis), priority)
                for index, piece in enumerate(rest[1:], start=1)
            ]
        return result


def latest(markdown: str, limit: int) -> str:
    """Return the end of a growing text that is too long for a message."""
    return f"…{markdown[-limit // 4 :]}"


def _size(text: str) -> int:
    # Servers count bytes, and Chinese characters or emoji have several each.
    return len(text.encode("utf-8"))


def _room(can: Capabilities) -> int:
    """Return the maximum length of the text of one message."""
    return int(can.max_text * _TEXT_SHARE) if can.html else can.max_text


def _message(markdown: str, can: Capabilities, emphasis: Emphasis, reply_to: str | None = None) -> Message:
    """Return the message, without HTML if the connector shows none or both together are too long."""
    if not can.html:
        return Message(text=rendering.shown(markdown), emphasis=emphasis, reply_to=reply_to)
    message = rendering.message(markdown, emphasis=emphasis, reply_to=reply_to)
    if len(message.text) + len(message.html or "") > can.max_text:
        return dataclasses.replace(message, html=None)
    return message


# --- cutting -----------------------------------------------------------------------------------------------------

_FENCE = re.compile(r"\s*(?P<marks>`{3,}|~{3,})(?P<info>.*)", re.S)


@dataclass(frozen=True, slots=True)
class _Fence:
    """An open fenced block (CommonMark 0.31, section 4.5)."""

    marks: str
    info: str

    @property
    def opening(self) -> str:
        return self.marks + self.info

    @property
    def closing(self) -> str:
        return "\n" + self.marks


def _fence_after(fence: _Fence | None, line: str, limit: int) -> _Fence | None:
    """Return the fenced block that is open after `line`. Marks that would fill an eighth of `limit` count as text."""
    found = _FENCE.fullmatch(line)
    if found is None:
        return fence
    marks, info = found["marks"], found["info"].strip()
    if fence is not None:
        return None if marks.startswith(fence.marks) and not info else fence
    if (marks[0] in info and marks[0] == "`") or len(marks) > limit // 8:
        return None
    return _Fence(marks, info if len(info) <= limit // 8 else "")


def beginning(markdown: str, limit: int) -> str:
    """Return the first lines of a long text, with a note about the file."""
    lines = markdown.lstrip("\n")[: max(1, min(limit, 2000) * 3 // 4 - 40)].splitlines()[:_HEAD_LINES]
    fence: _Fence | None = None
    for line in lines:
        fence = _fence_after(fence, line, limit)
    head = "\n".join(lines) + (fence.closing if fence is not None else "")
    return f"{head}\n\n… the whole text is in the file."


def pieces(markdown: str, limit: int) -> list[str]:
    """Split `markdown` at line ends into pieces of at most `limit` characters.

    A fenced block that is split is closed and opened again. A line is split only if it is longer than a piece. A piece
    of only white space is dropped.
    """
    result: list[str] = []
    fence: _Fence | None = None
    current: str | None = None
    """The piece that grows; None, or the fence opened again, while nothing of the text is in it."""
    begun = False
    for line in markdown.split("\n"):
        rest, following = line, _fence_after(fence, line, limit)
        while True:
            head = "" if current is None else f"{current}\n"
            reserve = max(len(each.closing) if each else 0 for each in (fence, following))
            if len(head) + len(rest) + reserve <= limit:
                opened = following if not begun and following is not fence else None
                current = opened.opening if opened is not None else head + rest
                begun, fence = opened is None, following
                break
            if begun:
                result.append(_closed(current or "", fence))
            else:
                following = fence
                room = _cut(rest, max(1, limit - len(head) - reserve))
                result.append(_closed(head + rest[:room], fence))
                rest = rest[room:]
            current, begun = (fence.opening if fence else None), False
    if begun:
        result.append(_closed(current or "", fence))
    return [piece for piece in result if piece.strip()] or [""]


def _closed(piece: str, fence: _Fence | None) -> str:
    return piece + fence.closing if fence is not None else piece


def _cut(line: str, room: int) -> int:
    """Return where to split a long line: at `room`, or earlier if the rest would begin like a fence."""
    if line[room] not in "`~ \t":
        return room
    earlier = len(line[:room].rstrip("`~ \t")) - 1
    return earlier if earlier > room // 2 else room
