"""What makes a terminal call its person: a bell, and a notification of the desktop. Pure.

The words are Muster's own. Nothing that an agent or a person says is in them, since terminals obey what stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from connectors.terminal.transcript_file import TranscriptLine

#: Seconds after which a request that is shown again, such as after a start, calls nobody.
FRESH_S: Final = 60.0
_TITLE: Final = "Muster"
_WORDS: Final = "A request waits for your answer."
_BELL: Final = "\a"
#: iTerm2 and others take the first, rxvt and foot the second; terminals ignore what they do not know.
_NOTIFICATIONS: Final = (f"\x1b]9;{_TITLE}: {_WORDS}\x1b\\", f"\x1b]777;notify;{_TITLE};{_WORDS}\x1b\\")


def calls(line: TranscriptLine, *, now: float) -> bool:
    """Return whether a line is a request that came just now."""
    return line.calls and abs(now - line.at) < FRESH_S


def sequences(environ: Mapping[str, str]) -> str:
    """Return what to write to a terminal with this environment."""
    notifications = "".join(_NOTIFICATIONS)
    if environ.get("TERM") == "dumb":
        return _BELL
    if environ.get("TMUX"):
        # tmux passes this on where `allow-passthrough` is set, and drops it elsewhere (tmux(1)).
        escaped = notifications.replace("\x1b", "\x1b\x1b")
        notifications = f"\x1bPtmux;{escaped}\x1b\\"
    return _BELL + notifications
