"""An agent host in a tmux session that is named after its agent.

The session has two windows: one in which the agent host runs, silent and deaf to the keyboard, and one in which what
the agent says and does is written as it happens. The agent host never writes to a terminal, so that nothing which is
done to one (Ctrl-S, a closed window, a slow connection) can hold it up or end it.

A session is ours when its option ``@muster`` names the agent's folder. Any other of the same name stays what it is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.hosting.host_command_line import LOG, alone, environment, host_command
from fleet.hosting.kinds import Barred, NotHosted
from fleet.hosting.subprocess_runner import ask

#: The option of a session by which it is known whose it is; its value is the agent's folder.
MARK: Final = "@muster"
#: The size of a session that no one looks at: columns, lines.
_SIZE: Final = ("160", "50")
_SCROLLBACK: Final = "20000"
_PATIENCE_S: Final = 10.0
#: What runs the agent host in its window: no key that is pressed there reaches it, and what it prints goes to its log.
_DEAF: Final = 'trap \'\' INT QUIT TSTP; exec "$@" </dev/null 2>>"$0"'
#: What tmux says when no server runs where it looks.
_NO_SERVER: Final = ("no server running", "error connecting to", "no sessions")


@dataclass(frozen=True, slots=True)
class Known:
    """A session of a tmux server."""

    name: str
    folder: str
    """Whose it is, as `MARK` says; empty when it is nobody's of Muster."""


def command(socket: str | None, *words: str) -> list[str]:
    """Return a tmux command line.

    Args:
        socket: the server, as ``tmux -L`` takes it; None: the default one, which is asked for by saying nothing.
        words: the command; several, with ``;`` between them, are done in one go.
    """
    return ["tmux", *([] if socket is None else ["-L", socket]), *words]


def literal(words: Iterable[str]) -> list[str]:
    """Words in which no semicolon ends a command (tmux(1), parsing syntax)."""
    return [f"{word[:-1]}\\;" if word.endswith(";") else word for word in words]


def name_for(agent: str, folder: Path, sessions: Iterable[Known]) -> str:
    """Return what the session of an agent is called: like the agent, unless that is another installation's already.

    Raises:
        Barred: someone made a session of that name, which is nothing of Muster's.
    """
    there = {session.name: session.folder for session in sessions}
    taken = there.get(agent)
    if taken is None or taken == str(folder):
        return agent
    if taken:
        return f"{agent}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:6]}"
    raise Barred(
        f"There is a tmux session {agent} that Muster did not make, and it stays as it is. Give it another name "
        f"(tmux rename-session -t {agent} NAME), or {agent} a tmux server of its own (tmux_socket in roster.yaml)."
    )


def creation(name: str, folder: Path, viewer: Sequence[str], variables: dict[str, str]) -> list[str]:
    """Return the words that make the session of an agent; tmux prints the process id of the agent host."""
    host = ["/bin/sh", "-c", _DEAF, str(folder / LOG), *alone(host_command(folder), variables)]
    session = f"={name}:"
    width, height = _SIZE
    words = ["new-session", "-d", "-s", name, "-n", "host", "-x", width, "-y", height, "-P", "-F", "#{pane_pid}", "--"]
    words += literal(host)
    words += [";", "set-option", "-t", session, MARK, *literal([str(folder)])]
    # Whoever leaves must not take the session along, whatever the person's own settings say; and what ended is gone.
    words += [";", "set-option", "-t", session, "destroy-unattached", "off"]
    words += [";", "set-option", "-w", "-t", session, "remain-on-exit", "off"]
    if viewer:
        words += [";", "set-option", "-t", session, "history-limit", _SCROLLBACK]
        words += [";", "new-window", "-t", session, "-n", name, "--", *literal(alone(viewer, variables))]
        words += [";", "set-option", "-w", "-t", session, "remain-on-exit", "off"]
    return words


def attachment(name: str, *, control: bool) -> list[str]:
    """Return the words that show a session: only to look, unless `control`."""
    return ["attach-session", *([] if control else ["-r"]), "-t", f"={name}:"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TmuxSession:
    """The session of one agent."""

    agent: str
    folder: Path
    """The agent's."""
    socket: str | None = None
    viewer: Sequence[str] = ()
    """The command line that shows what the agent says and does; empty: nothing does."""

    def start(self, limit_s: float) -> int:
        """Make the session; the process group of the agent host in it."""
        if not str(self.folder).isprintable():
            raise Barred(f"tmux cannot name {str(self.folder)!r}. Choose another place for it, or another hosting.")
        self.end()
        name = name_for(self.agent, self.folder, self._sessions())
        done = self._run(creation(name, self.folder, self.viewer, environment()), limit_s)
        words = done.stdout.split()
        if done.returncode != 0 or not words or not words[0].isdigit():
            self.end()
            raise NotHosted(f"tmux did not make a session for {self.agent}: {_said(done)}")
        return int(words[0])

    def end(self) -> None:
        """Close the session, if there is one, with everything in it. Others stay."""
        if (name := self.name()) is None:
            return
        done = self._run(["kill-session", "-t", f"={name}"])
        if done.returncode != 0 and self.name() is not None:
            raise NotHosted(f"The tmux session {name} cannot be closed: {_said(done)}")

    def name(self) -> str | None:
        """Return what its session is called; None when there is none."""
        return next((each.name for each in self._sessions() if each.folder == str(self.folder)), None)

    def _sessions(self) -> list[Known]:
        if shutil.which("tmux") is None:
            return []
        done = self._run(["list-sessions", "-F", f"#{{session_name}}\t#{{{MARK}}}"])
        if done.returncode != 0:
            if any(words in done.stderr for words in _NO_SERVER):
                return []
            raise NotHosted(f"tmux does not say which sessions there are: {_said(done)}")
        lines = (line.partition("\t") for line in done.stdout.splitlines())
        return [Known(name, folder) for name, _, folder in lines]

    def _run(self, words: Sequence[str], limit_s: float = _PATIENCE_S) -> subprocess.CompletedProcess[str]:
        # What tmux prints for a terminal that has no UTF-8 is not what is there: even a tab is shown as another sign.
        program, *rest = command(self.socket, *words)
        try:
            return ask([program, "-u", *rest], limit_s, cwd=self.folder)
        except FileNotFoundError:
            raise NotHosted("There is no tmux here. Install the package tmux, or choose another hosting.") from None
        except subprocess.TimeoutExpired:
            where = f"tmux -L {self.socket}" if self.socket else "tmux"
            raise NotHosted(f"{where} did not answer in {limit_s:g} s. See what its server does.") from None


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip()[:500] or f"it ended with status {done.returncode}"
