"""What a scrolling terminal shows of the lines of a transcript. Pure: lines in, text out.

A terminal cannot change what it has printed. So a text that is being written is printed as far as its lines are
complete, each further edit adds what is new, and what changed in another way is printed again at its end.

Everything that Muster itself says begins with `SIGN`, in a colour where there are colours. No text can contain the
sign, so an agent's words never pass for a notice of Muster's. They cannot be coloured either:
`connectors.terminal.untrusted_text.plain` shows control characters instead of passing them on.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from connectors.terminal.transcript_file import TranscriptLine
from connectors.terminal.untrusted_text import SIGN, unsigned
from core.text_columns import aligned

#: Kinds of lines that no one but Muster makes.
_MUSTERS_OWN = ("reaction", "thread", "file")
#: Messages whose edits can still be shown as additions.
_REMEMBERED = 500
_DIM, _BOLD, _CYAN, _SIGNED, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[36m", "\x1b[1;35m", "\x1b[0m"
_BELOW = "  "


def is_musters(line: TranscriptLine) -> bool:
    """Return whether Muster itself says it."""
    return line.aside or line.kind in _MUSTERS_OWN


def wants_colour(environ: Mapping[str, str] = os.environ, *, tty: bool) -> bool:
    """Return whether to colour the output (https://no-color.org)."""
    return tty and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


@dataclass(slots=True)
class ShownMessage:
    """How much of a message is on the screen."""

    text: str = ""
    mine: bool = False


class ScreenView:
    """The screen of one client."""

    def __init__(self, *, conversation: str = "fleet", progressive: bool = False, colour: bool = False) -> None:
        self.conversation = conversation
        """Where the person is: what is said elsewhere is marked with its place."""
        self.working: set[str] = set()
        """Conversations in which somebody is at work."""
        self._progressive = progressive
        self._colour = colour
        self._shown: OrderedDict[str, ShownMessage] = OrderedDict()
        self._mine: set[str] = set()
        self._last: str | None = None
        self._last_said: str | None = None

    def typed(self, event_id: str) -> None:
        """The person typed this here: it is on the screen already."""
        self._mine.add(event_id)

    def show(self, line: TranscriptLine) -> list[str]:
        """Return the lines to print for one line of the transcript."""
        match line.kind:
            case "typing":
                (self.working.add if line.active else self.working.discard)(line.conversation)
                return []
            case "fleet":
                return []
            case "input":
                self._last_said = line.id
                self._remember(line.id, ShownMessage(line.text, mine=True))
                if line.id in self._mine:
                    self._mine.discard(line.id)
                    return []
                return self._input(line)
            case "message":
                return self._message(line)
            case "edit":
                return self._edit(line)
            case "reaction":
                return self._block(line, self._reaction(line), style=_DIM)
            case "thread":
                self._remember(line.id, ShownMessage(line.text))
                name = (line.opens or "").rpartition("/")[2]
                hint = f"[{line.opens} is open: /switch {name} to talk there]"
                return [*self._block(line, line.text), *self._block(line, hint, style=_DIM)]
            case "file":
                return self._block(line, line.text)

    def _message(self, line: TranscriptLine) -> list[str]:
        if line.final:
            self._remember(line.id, ShownMessage(line.text))
            self._last = line.id
            return self._whole(line)
        shown = ShownMessage()
        self._remember(line.id, shown)
        return self._grow(line, line.id, shown) if self._progressive else []

    def _edit(self, line: TranscriptLine) -> list[str]:
        target = str(line.target)
        shown = self._shown.get(target)
        if shown is None:
            return self._whole(line, edited=True) if line.final else []
        if line.text.startswith(shown.text):
            if not line.final and (not self._progressive or (shown.text and self._last != target)):
                return []
            return self._grow(line, target, shown)
        if not line.final or line.text == shown.text.rstrip("\n"):
            return []
        shown.text = line.text
        self._last = target
        return self._whole(line, edited=True)

    def _grow(self, line: TranscriptLine, target: str, shown: ShownMessage) -> list[str]:
        """Print what is new, as far as its lines are complete."""
        fresh = line.text[len(shown.text) :]
        if not line.final:
            fresh = fresh[: fresh.rfind("\n") + 1]
        if not fresh.strip("\n"):
            return []
        interrupted = shown.text != "" and self._last != target
        begins = shown.text == ""
        shown.text += fresh
        self._last = target
        return self._piece(line, fresh, target, begins=begins, interrupted=interrupted)

    # --- how it looks -------------------------------------------------------------------------------------------

    def _input(self, line: TranscriptLine) -> list[str]:
        return self._block(line, f"{line.author}: {line.text}", style=_CYAN)

    def _whole(self, line: TranscriptLine, *, edited: bool = False) -> list[str]:
        return self._block(line, f"✎ {line.text}" if edited else line.text)

    def _piece(self, line: TranscriptLine, fresh: str, key: str, *, begins: bool, interrupted: bool) -> list[str]:
        return self._block(line, ("… " if interrupted else "") + fresh.strip("\n"))

    def _reaction(self, line: TranscriptLine) -> str:
        target = self._shown.get(str(line.target))
        if target is None:
            return f"[{line.text}]"
        gist = " ".join(target.text.split())
        gist = f" “{gist[:30].rstrip()}{'…' if len(gist) > 30 else ''}”" if line.target != self._last_said else ""
        return f"[{line.text} on {'your' if target.mine else 'the'} message{gist}]"

    def _block(self, line: TranscriptLine, text: str, *, style: str = "") -> list[str]:
        if line.kind not in ("message", "edit"):
            self._last = None
        place = "" if line.conversation == self.conversation else f"[{line.conversation}] "
        signed = is_musters(line)
        shown = []
        for number, each in enumerate(unsigned(aligned(text)).split("\n")):
            sign = "" if not signed else f"{SIGN} " if number == 0 else _BELOW
            if self._colour:
                sign = f"{_SIGNED}{sign}{_RESET}" if sign.strip() else sign
                where = f"{_BOLD}{place}{_RESET}" if place else ""
                shown.append(f"{sign}{where}{style}{each}{_RESET if style else ''}")
            else:
                shown.append(f"{sign}{place}{each}")
        return shown

    def _remember(self, event_id: str, shown: ShownMessage) -> None:
        self._shown[event_id] = shown
        while len(self._shown) > _REMEMBERED:
            self._shown.popitem(last=False)
