"""The text of an agent's tmux window: its input, output and actions, as plain text. Pure.

The rules are those of chat (`core.redaction`, `bot.text.markdown`): secrets are masked, and control sequences for the
terminal are made visible. The end of text that still grows is held back as long as it could be part of a secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from bot.text.growing_text import GrowingText
from bot.text.markdown import one_line, shown
from core.redaction import SecretMasker
from fleet.journal import events
from fleet.journal.events import JournalEntry

#: The indentation of all text that is not Muster's own, so that it cannot imitate Muster.
_MARGIN: Final = "    "
_MARKS: Final = {"completed": "✓", "failed": "✗"}


@dataclass(slots=True)
class Pane:
    """A view that takes the entries of one agent's journal in order, and returns the text to append."""

    redact: SecretMasker
    _text: GrowingText = field(init=False)
    """The agent's unfinished text."""
    _within: bool = False
    """Whether the written text ends within a line."""
    _titles: dict[str, str] = field(default_factory=dict)
    """The titles of the turn's tool calls."""

    def __post_init__(self) -> None:
        self._text = GrowingText(self.redact, spelled=shown)

    def after(self, entry: JournalEntry) -> str:
        """Return the text that `entry` adds."""
        if isinstance(entry.event, events.TextChunk):
            return self._set_off(self._text.grow(entry.event.text))
        lines = list(self._lines(entry))
        if not lines:
            return ""
        return self.flush() + "".join(f"{line}\n" for line in lines)

    def flush(self) -> str:
        """Return the rest of the text that was held back, because it no longer grows."""
        rest = self._set_off(self._text.rest())
        self._text = GrowingText(self.redact, spelled=shown)
        if not self._within:
            return rest
        self._within = False
        return f"{rest}\n"

    def _set_off(self, added: str) -> str:
        """Return the text with a margin at the beginning of each line."""
        lines = []
        for line in added.splitlines(keepends=True):
            lines.append(line if self._within else f"{_MARGIN}{line}")
            self._within = not line.endswith("\n")
        return "".join(lines)

    def _lines(self, entry: JournalEntry) -> Iterator[str]:
        event = entry.event
        match event:
            case events.MessageQueued(sender=sender, text=text):
                yield self._head(entry.at, f"▷ {sender or 'somebody'}:")
                yield from self._indented(text)
            case events.TurnStarted():
                self._titles.clear()
                yield self._head(entry.at, "▶ begins a turn")
            case events.TurnEnded(stop_reason=reason, detail=detail):
                yield self._head(entry.at, f"■ ended its turn: {reason}" + (f". {detail}" if detail else ""))
            case events.ToolCall():
                yield from self._tool(entry.at, event)
            case events.PlanUpdated(entries=steps):
                yield self._head(entry.at, "☰ plans")
                for step in steps:
                    mark = "✓" if step.get("status") == "completed" else "·"
                    yield f"    {mark} {self._line(str(step.get('content', '')))}"
            case events.PermissionAsked(title=title, detail=detail):
                yield self._head(entry.at, f"? asks for permission: {title}")
                yield from self._indented(detail)
            case events.PermissionAnswered(rule=str(rule), outcome=outcome, title=title, detail=detail):
                word = "denied" if outcome == "denied" else "allowed"
                yield self._head(entry.at, f"? {word} by rule {rule}: {title}")
                yield from self._indented(detail)
            case events.PermissionAnswered(outcome=outcome, by=by):
                yield self._head(entry.at, f"? permission: {outcome}" + (f" by {by}" if by else ""))
            case events.ToolAsked(tool=tool):
                yield self._head(entry.at, f"⚙ asks Muster: {tool}")
            case events.RuntimeStarted(loaded=loaded, note=note):
                words = "is ready, going on with its conversation" if loaded else "is ready, in a new conversation"
                yield self._head(entry.at, f"● {words}." + (f" {note}" if note else ""))
            case events.RuntimeFailed(reason=reason, stderr=stderr) | events.RuntimeDied(reason=reason, stderr=stderr):
                yield self._head(entry.at, f"✗ {reason}")
                yield from self._indented(stderr)
            case events.Notice(text=text):
                yield self._head(entry.at, f"! {text}")
            case events.AsideAsked(text=text):
                yield self._head(entry.at, "? asked on the side:")
                yield from self._indented(text)
            case events.AsideEnded(outcome=outcome, text=text, detail=detail):
                yield self._head(entry.at, f"? on the side, {outcome}:" + (f" {detail}" if detail else ""))
                yield from self._indented(text)
            case events.HandedOver(by=by):
                yield self._head(entry.at, f"● handed over to a terminal by {by}.")
            case events.HandedBack(by=by, reason=reason):
                yield self._head(entry.at, f"● given back by the terminal of {by}. {reason}")
            case events.Closing(reason=reason):
                yield self._head(entry.at, f"● ends: {reason}.")

    def _tool(self, at: float, event: events.ToolCall) -> Iterator[str]:
        if event.title is not None and self._titles.get(event.call) != event.title:
            self._titles[event.call] = event.title
            yield self._head(at, f"⚙ {event.title}")
            if event.detail:
                yield from self._indented(event.detail)
        if event.status in _MARKS:
            yield self._head(at, f"{_MARKS[event.status]} {self._titles.get(event.call, event.call)}")

    def _head(self, at: float, words: str) -> str:
        return f"{datetime.fromtimestamp(at).astimezone():%H:%M:%S} {self._line(words)}"

    def _line(self, words: str) -> str:
        return one_line(self.redact(words), 2000)

    def _indented(self, text: str) -> Iterator[str]:
        for line in shown(self.redact(text)).splitlines():
            yield f"{_MARGIN}{line}"
