"""What tmux itself shows of the fleet, put there by the program in the pane: it is where the pane is, however it moved.

The words are numbers and Muster's own; nothing that an agent, a person or a file says is in them, since tmux runs
what it finds in ``#(...)``. They go into the pane's title, which tmux's own status line shows while one is in the pane,
and into an option of the session, which a status line can show anywhere in it.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import libtmux

#: The option of the session with the pane; `connectors.tmux.pane_finder` has new sessions show it.
FLEET: Final = "@muster_fleet"
_WORDS: Final = re.compile(r"[A-Za-z0-9 ,.;]{0,120}")


class Sign:
    """Tells tmux on a thread of its own; only the newest words matter."""

    def __init__(self, socket: Path, pane: str) -> None:
        self._socket = socket
        self._pane = pane
        self._session = ""
        self._wanted = ""
        self._words: str | None = None
        """What tmux was not told yet."""
        self._news = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="tmux's status line", daemon=True)

    @classmethod
    def here(cls, environ: Mapping[str, str]) -> Sign | None:
        """For the pane that this process is in; None outside of tmux."""
        from pathlib import Path

        socket, pane = environ.get("TMUX", "").split(",")[0], environ.get("TMUX_PANE", "")
        return cls(Path(socket), pane) if socket.startswith("/") and re.fullmatch(r"%\d+", pane) else None

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def show(self, words: str) -> None:
        """Have tmux show these; returns at once.

        Raises:
            ValueError: tmux could read more in them than words.
        """
        if not _WORDS.fullmatch(words):
            raise ValueError(f"not for a status line: {words!r}")
        with self._news:
            if words != self._wanted:
                self._words = self._wanted = words
                self._news.notify()

    def end(self, within: float = 2.0) -> None:
        """Take it away again; a tmux that takes longer is left."""
        with self._news:
            self._words, self._ended = "", True
            self._news.notify()
        if self._thread.is_alive():
            self._thread.join(within)

    def _run(self) -> None:
        import libtmux
        from libtmux.exc import LibTmuxException

        server = libtmux.Server(socket_path=self._socket)
        while True:
            with self._news:
                while self._words is None:
                    self._news.wait()
                words, self._words, ended = self._words, None, self._ended
            # A server that is gone takes this process along in a moment.
            with contextlib.suppress(LibTmuxException, OSError):
                self._tell(server, words)
            if ended:
                return

    def _tell(self, server: libtmux.Server, words: str) -> None:
        asked = server.cmd("display-message", "-p", "-t", self._pane, "#{session_id}")
        session = asked.stdout[0] if asked.stdout else ""
        if self._session not in ("", session):
            server.cmd("set-option", "-u", "-t", self._session, FLEET)
        self._session = session
        title = f"Muster: {words}" if words else "Muster"
        option = [FLEET, words] if words else ["-u", FLEET]
        server.cmd("set-option", "-t", self._pane, *option, ";", "select-pane", "-t", self._pane, "-T", title)
