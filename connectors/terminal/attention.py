"""What makes a person look at a terminal in which something waits: its bell, a notification, its title. Pure.

Only numbers and words of Muster's own are in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from connectors.terminal.transcript_file import TranscriptLine

#: Minimum seconds between two bells.
_PAUSE_S: Final = 10.0
#: Terminals that show the notification of OSC 9, by their variable TERM_PROGRAM.
_OSC_9: Final = frozenset({"iTerm.app", "WezTerm", "ghostty"})
#: The beginnings of TERM of terminals that show only the notification of OSC 777.
_OSC_777: Final = ("rxvt", "foot", "vte")


class AttentionCalls:
    """What one terminal is told of the number of waiting requests."""

    def __init__(self, environ: Mapping[str, str], *, titled: bool, clock: Callable[[], float]) -> None:
        """Start with nothing waiting.

        Args:
            environ: the environment, which names the terminal.
            titled: whether the title of the window is shown here.
            clock: returns seconds since any moment.
        """
        self._environ = environ
        self._clock = clock
        self._simple = environ.get("TERM", "") in ("", "dumb", "linux")
        self._titled = titled and not self._simple
        self._waiting = 0
        self._rang: float | None = None

    def begin(self) -> str:
        """Return what keeps the window's title and sets ours (XTWINOPS 22)."""
        return f"\x1b[22;2t{self._title()}" if self._titled else ""

    def end(self) -> str:
        """Return what brings the window's own title back."""
        return "\x1b[23;2t" if self._titled else ""

    def heard(self, line: TranscriptLine) -> str:
        """Return what to write for the news of how much waits."""
        if line.waiting is None or line.waiting == self._waiting:
            return ""
        more = line.waiting > self._waiting
        self._waiting = max(0, line.waiting)
        title = self._title() if self._titled else ""
        now = self._clock()
        if not more or line.attention == "off" or (self._rang is not None and now - self._rang < _PAUSE_S):
            return title
        self._rang = now
        return f"{title}\a{self._notification() if line.attention == 'desktop' else ''}"

    def _title(self) -> str:
        return f"\x1b]2;{f'({self._waiting}) ' if self._waiting else ''}Muster\a"

    def _notification(self) -> str:
        if self._simple:
            return ""
        words = f"{self._waiting} waiting for you"
        osc_9, osc_777 = f"\x1b]9;Muster: {words}\a", f"\x1b]777;notify;Muster;{words}\a"
        if self._environ.get("TERM_PROGRAM") in _OSC_9 or self._environ.get("TERM", "") == "xterm-kitty":
            sent = [osc_9]
        elif self._environ.get("VTE_VERSION") or self._environ.get("TERM", "").startswith(_OSC_777):
            sent = [osc_777]
        else:
            sent = [osc_9, osc_777]
        # tmux passes on what is wrapped so, where its option allow-passthrough is on.
        in_tmux = bool(self._environ.get("TMUX"))
        return "".join(f"\x1bPtmux;{each.replace(chr(27), chr(27) * 2)}\x1b\\" if in_tmux else each for each in sent)
