"""The journal entries of one agent as observers get them, without the secrets that a runtime split over entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from bot.text.growing_text import GrowingText
from core.redaction import SecretMasker
from fleet.journal import events
from fleet.journal.events import JournalEntry, TextChunk, ThoughtChunk

#: Entries after which no earlier text goes on.
_ENDS: Final = (
    events.Opened,
    events.RuntimeStarted,
    events.RuntimeFailed,
    events.RuntimeDied,
    events.TurnStarted,
    events.TurnEnded,
    events.Closing,
)
#: Entries before which observers get the whole text, as a person reads it. Others come while a text grows.
_BREAKS: Final = (*_ENDS, events.ToolCall, events.PermissionAsked)


@dataclass(slots=True)
class EntryStream:
    """A filter that takes an agent's entries in order. It moves the end of a text that grows to a later entry."""

    redact: SecretMasker
    _texts: dict[type[TextChunk | ThoughtChunk], GrowingText] = field(default_factory=dict)
    """What the runtime said and thought in this turn."""
    _last: JournalEntry | None = None
    """The last entry of a text, of which something may be held back."""

    def after(self, entry: JournalEntry) -> Iterator[JournalEntry]:
        """Yield what observers get once `entry` is there."""
        event = entry.event
        if isinstance(event, TextChunk | ThoughtChunk):
            if self._last is not None and type(self._last.event) is not type(event):
                yield from self.rest()
            self._last = entry
            yield replace(entry, event=replace(event, text=self._of(event).grow(event.text)))
            return
        if isinstance(event, _BREAKS):
            yield from self.rest()
        if isinstance(event, _ENDS):
            self._texts.clear()
        yield entry

    def rest(self) -> Iterator[JournalEntry]:
        """Yield the last entry of a text once more, with the rest that was held back, if there is one."""
        last, self._last = self._last, None
        event = last.event if last is not None else None
        if last is None or not isinstance(event, TextChunk | ThoughtChunk):
            return
        if rest := self._of(event).rest():
            yield replace(last, event=replace(event, text=rest))

    def skip(self, entry: JournalEntry) -> None:
        """Note an entry that no one gets. A secret that began in it is still recognized."""
        event = entry.event
        self._last = None
        if isinstance(event, TextChunk | ThoughtChunk):
            self._of(event).skip(event.text)
        elif isinstance(event, _ENDS):
            self._texts.clear()

    def _of(self, event: TextChunk | ThoughtChunk) -> GrowingText:
        return self._texts.setdefault(type(event), GrowingText(self.redact))
