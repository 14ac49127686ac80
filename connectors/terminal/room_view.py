"""The room as a person at a terminal sees it: who speaks and when, Markdown, and receipts beside what they are about.

Below the name of an agent or a person, each row of its words begins with a bar in its color. Muster's own words begin
with its sign. Rows are broken here and never by the terminal, so no words reach the first column: they can imitate
neither a name, nor Muster, nor the prompt.

A receipt is added to the row of the message that it is about while that row is surely on the screen, and otherwise
printed as a line.
"""

from __future__ import annotations

import shutil
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from connectors.terminal.markdown_rows import MarkdownRows
from connectors.terminal.transcript_file import TranscriptLine
from connectors.terminal.transcript_view import ScreenView, is_musters
from connectors.terminal.untrusted_text import SIGN, plain, unsigned
from core.text_columns import widest, width

#: Columns that stay free at the end of a row: terminals do not agree on the width of every sign.
_MARGIN: Final = 2
#: Rows that the prompt, its menu and its status line may take at the bottom.
_PROMPT_ROWS: Final = 12
#: Columns for the receipts of a message.
_RECEIPTS: Final = 16
#: Messages whose rows or Markdown are remembered.
_REMEMBERED: Final = 500
_TODAY_S: Final = 20 * 3600.0
_LONGEST_NAME: Final = 40
#: Who speaks in the main room where it is not known.
_SOMEBODY: Final = "agent"
#: What stands below the sign and the time, whose columns would not be its own: tables, code, lists.
_BLOCKS: Final = ("|", "```", "~~~", "- ")
_BAR: Final = "│ "
_BELOW: Final = "  "
_DIM, _SIGNED = "2", "1;35"
#: Colors of speakers: none that Muster's sign has, and none that means an error.
_SPEAKERS: Final = ("36", "32", "33", "34", "96", "92", "93", "94")

Size = Callable[[], tuple[int, int]]


def screen_size() -> tuple[int, int]:
    """Return the columns and rows of the terminal."""
    size = shutil.get_terminal_size()
    return size.columns, size.lines


@dataclass(slots=True)
class _Anchor:
    """The row of a message, to which its receipts are added."""

    row: int
    """Counted from the first one that was printed."""
    column: int
    marks: list[str] = field(default_factory=list)


class RoomView(ScreenView):
    """The screen of a person."""

    def __init__(
        self,
        *,
        conversation: str = "fleet",
        colour: bool = False,
        in_place: bool = True,
        size: Size = screen_size,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create a view.

        Args:
            conversation: where the person is.
            colour: whether styles are used.
            in_place: whether the terminal can write into an earlier row.
            size: returns the columns and rows of the terminal.
            clock: returns seconds since the epoch.
        """
        super().__init__(conversation=conversation, progressive=True, colour=colour)
        self._in_place = in_place
        self._size = size
        self._clock = clock
        self._rows = 0
        self._columns = size()[0]
        self._anchors: OrderedDict[str, _Anchor] = OrderedDict()
        self._growing: OrderedDict[str, MarkdownRows] = OrderedDict()
        self._typed: _Anchor | None = None

    # --- where things are on the screen -------------------------------------------------------------------------

    def accepted(self, shown: str) -> None:
        """The prompt was left with this on its row, which stays on the screen."""
        columns = self._size()[0]
        rows = max(1, -(-width(shown) // columns))
        whole = rows == 1 and "\n" not in shown and width(shown) + _RECEIPTS < columns
        self._typed = _Anchor(self._rows, width(shown) + 1) if whole else None
        self._rows += rows + shown.count("\n")

    def typed(self, event_id: str) -> None:
        super().typed(event_id)
        if self._typed is not None:
            self._anchor(event_id, self._typed)
            self._typed = None

    def forget_rows(self) -> None:
        """The screen was cleared."""
        self._anchors.clear()
        self._typed = None

    def printed(self, text: str) -> str:
        """Count the rows of what the prompt itself prints, and return it."""
        columns = max(1, self._size()[0])
        self._rows += sum(max(1, -(-width(row) // columns)) for row in text.split("\n"))
        return text

    def output(self, line: TranscriptLine) -> str:
        """Return what to write to the terminal for one line of the transcript; the cursor ends in the first column."""
        columns = self._size()[0]
        if columns != self._columns:
            # Terminals break rows anew.
            self._columns = columns
            self.forget_rows()
        if line.kind == "reaction" and (beside := self._beside(line)) is not None:
            return beside
        before, rows = self._rows, self.show(line)
        self._rows = before + len(rows)
        return "".join(f"{row}\n" for row in rows)

    def _beside(self, line: TranscriptLine) -> str | None:
        """Return what adds a receipt to its message, or None if the message is not surely on the screen."""
        anchor = self._anchors.get(str(line.target))
        up = self._rows - anchor.row if anchor is not None else 0
        mark = unsigned(plain(line.text)).replace("\n", " ")
        if anchor is None or not self._in_place or not 0 < up <= self._size()[1] - _PROMPT_ROWS:
            return None
        if mark in anchor.marks:
            return ""
        marks = " ".join([*anchor.marks, mark])
        if width(marks) + 2 > _RECEIPTS or anchor.column + width(marks) + _MARGIN > self._columns:
            return None
        anchor.marks.append(mark)
        # Save the cursor, go there, and come back (DECSC, CUU, CHA, DECRC).
        return f"\x1b7\x1b[{up}A\x1b[{anchor.column + 1}G{self._in(_DIM, marks)}\x1b8"

    def _anchor(self, event_id: str, anchor: _Anchor) -> None:
        self._anchors[event_id] = anchor
        while len(self._anchors) > _REMEMBERED:
            self._anchors.popitem(last=False)

    # --- how it looks -------------------------------------------------------------------------------------------

    def _input(self, line: TranscriptLine) -> list[str]:
        self._last = None
        return self._said(line, MarkdownRows(colour=self._colour), line.text.split("\n"), end=True, head=True)

    def _whole(self, line: TranscriptLine, *, edited: bool = False) -> list[str]:
        self._growing.pop(line.target or line.id, None)
        markdown, lines = MarkdownRows(colour=self._colour), line.text.rstrip("\n").split("\n")
        if is_musters(line):
            return self._notice(line, markdown, lines, end=True, note="✎ " if edited else "")
        return self._said(line, markdown, lines, end=True, head=True, note=" ✎" if edited else "")

    def _piece(self, line: TranscriptLine, fresh: str, key: str, *, begins: bool, interrupted: bool) -> list[str]:
        markdown = self._growing.get(key) or MarkdownRows(colour=self._colour)
        self._growing[key] = markdown
        self._growing.move_to_end(key)
        while len(self._growing) > _REMEMBERED:
            self._growing.popitem(last=False)
        if line.final:
            del self._growing[key]
        lines = (fresh.rstrip("\n") if line.final else fresh.removesuffix("\n")).split("\n")
        head = begins or interrupted
        if is_musters(line):
            note = "… " if interrupted else ""
            return self._notice(line, markdown, lines, end=line.final, note=note, below=not head)
        return self._said(line, markdown, lines, end=line.final, head=head, note=" …" if interrupted else "")

    def _block(self, line: TranscriptLine, text: str, *, style: str = "") -> list[str]:
        """What Muster adds itself: receipts, threads and files."""
        if line.kind not in ("message", "edit"):
            self._last = None
        if line.kind == "thread":
            return self._notice(line, MarkdownRows(colour=self._colour), text.split("\n"), end=True)
        columns = self._inner(width(self._lead(line, "")))
        rows = [row for each in text.split("\n") for row in _cut(unsigned(plain(each)), columns)]
        return self._signed(line, [self._in(_DIM, row) if style else row for row in rows], "")

    def _notice(
        self,
        line: TranscriptLine,
        markdown: MarkdownRows,
        lines: list[str],
        *,
        end: bool,
        note: str = "",
        below: bool = False,
    ) -> list[str]:
        if below:
            return [f"{_BELOW}{row}" for row in markdown.feed(lines, self._inner(len(_BELOW)), end=end)]
        first: list[str] = []
        if not lines[0].startswith(_BLOCKS):
            alone = len(lines) == 1
            first = markdown.feed(lines[:1], self._inner(width(self._lead(line, note))), end=end and alone)
            lines = lines[1:]
        rest = markdown.feed(lines, self._inner(len(_BELOW)), end=end) if lines else []
        return self._signed(line, [*(first or [""]), *rest], note)

    def _signed(self, line: TranscriptLine, rows: list[str], note: str) -> list[str]:
        first = f"{self._in(_SIGNED, SIGN)} {self._in(_DIM, self._when(line))} {note}{self._place(line)}{rows[0]}"
        return [first.rstrip(" "), *(f"{_BELOW}{row}" for row in rows[1:])]

    def _lead(self, line: TranscriptLine, note: str) -> str:
        place = "" if line.conversation == self.conversation else f"[{_name(line.conversation)}] "
        return f"{SIGN} {self._when(line)} {note}{place}"

    def _place(self, line: TranscriptLine) -> str:
        elsewhere = line.conversation != self.conversation
        return f"{self._in('1', f'[{_name(line.conversation)}]')} " if elsewhere else ""

    def _said(
        self,
        line: TranscriptLine,
        markdown: MarkdownRows,
        lines: list[str],
        *,
        end: bool,
        head: bool,
        note: str = "",
    ) -> list[str]:
        speaker = _name(line.author or line.conversation.partition("/")[2] or _SOMEBODY)
        colour = _SPEAKERS[zlib.crc32(speaker.encode()) % len(_SPEAKERS)]
        bar = self._in(colour, _BAR.rstrip()) + " "
        rows = [f"{bar}{row}" for row in markdown.feed(lines, self._inner(len(_BAR)), end=end)]
        if not head:
            return rows
        elsewhere = line.conversation != self.conversation
        place = f" [{_name(line.conversation)}]" if elsewhere else ""
        when = f"{self._when(line)}{place}{note}"
        anchor = _Anchor(self._rows, len(speaker) + 1 + width(when) + 1)
        self._anchor(line.target or line.id, anchor)
        return [f"{self._in(f'1;{colour}', speaker)} {self._in(_DIM, when)}", *rows]

    def _inner(self, taken: int) -> int:
        return max(8, self._size()[0] - taken - _MARGIN)

    def _when(self, line: TranscriptLine) -> str:
        form = "%H:%M" if abs(self._clock() - line.at) < _TODAY_S else "%b %d %H:%M"
        return time.strftime(form, time.localtime(line.at))

    def _in(self, style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._colour and text else text


def _name(text: str) -> str:
    """Return a name on one line, which nobody can make look like a row of something else."""
    return " ".join(unsigned(plain(text)).split())[:_LONGEST_NAME] or "?"


def _cut(text: str, columns: int) -> list[str]:
    rows, row, used = [], "", 0
    for sign in text:
        size = widest(sign)
        if used + size > columns:
            rows.append(row)
            row, used = "", 0
        row += sign
        used += size
    return [*rows, row]
