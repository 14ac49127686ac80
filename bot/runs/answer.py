"""The answer to one message, read from its agent's journal as it grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bot.agents.journal.turn_view import ToolLine, TurnView
from core.redaction import SecretMasker
from fleet.journal import events, reader
from fleet.journal.events import JournalPosition
from fleet.journal.reader import JournalCursor

#: Bytes of a journal that are read at once.
_STEP: Final = 2**20


@dataclass(slots=True)
class AnswerReader:
    """Reads on in a journal until the turn of a message is over."""

    folder: Path
    message: str
    redact: SecretMasker
    is_over: bool = False
    """Whether the turn has ended."""
    _cursor: JournalCursor = field(init=False)
    _view: TurnView | None = None
    _shown: tuple[int, bool, str] = (0, False, "")
    """How much of the text was masked last, whether as a whole, and to what."""

    def __post_init__(self) -> None:
        self._cursor = JournalCursor(self.folder, JournalPosition())

    def read(self) -> None:
        """Take up what is new in the journal. Blocking.

        Raises:
            OSError: the journal cannot be read.
        """
        sign = os.fsencode(self.message)
        while not self.is_over and (lines := self._cursor.read(_STEP)):
            if self._view is None:
                # Most of an old journal is about other messages.
                lines = lines[next((at for at, line in enumerate(lines) if sign in line), len(lines)) :]
            for entry in reader.decode(lines):
                self._take(entry.event, entry.at)

    def _take(self, event: events.Event, at: float) -> None:
        match event:
            case events.TurnStarted(turn=turn, message=message) if message == self.message:
                self._view = TurnView(turn, message)
            case events.TurnEnded(turn=turn) if self._view is not None and turn == self._view.turn:
                self.is_over = True
            case _ if self._view is not None and not self.is_over:
                self._view = self._view.after(event, at)

    def text_so_far(self, *, ended: bool = False) -> str:
        """Return the answer so far, without secrets.

        Args:
            ended: whether nothing follows. Otherwise the end is held back, as far as it may become a secret.
        """
        if self._view is None:
            return ""
        whole, length = ended or self.is_over, len(self._view.text)
        if self._shown[:2] != (length, whole):
            text = self._view.said(self.redact) if whole else self.redact.of_growing(self._view.text)
            self._shown = length, whole, text
        return self._shown[2]

    @property
    def tools(self) -> Sequence[ToolLine]:
        """The tool calls of the turn, the last ones of many."""
        return () if self._view is None else self._view.tools
