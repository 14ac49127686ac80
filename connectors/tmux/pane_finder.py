"""The pane on a tmux server: found by the option that was set on it, or made. Blocking; see
`connectors.tmux.process_client`.

A pane is ours when its option ``@muster_room`` names the connector's folder. That stays with it when it is moved to
another window or session, and when these are renamed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import libtmux
from libtmux.common import TMUX_MIN_VERSION, get_version_str, has_minimum_version, tmux_cmd
from libtmux.exc import LibTmuxException, TmuxCommandNotFound

from connectors.tmux.pane_model import PanePlace, WantedPane
from core.errors import MusterError

#: The option of a pane that says whose room it shows; its value is the connector's folder.
MARK: Final = "@muster_room"
#: The option of a pane that says which program shows it, so that another version of it is noticed.
PROGRAM: Final = "@muster_program"
#: The option of the session with the pane that holds the counts (connectors.tmux.status_line).
FLEET: Final = "@muster_fleet"
#: The option by which sessions of agent hosts are known (fleet.hosting.tmux); no room is made in one.
_AGENT: Final = "@muster"

#: The size of a session that no one looks at: columns, lines.
_SIZE: Final = ("120", "40")
_NO_SERVER: Final = ("no server running", "No such file or directory", "Connection refused", "no sessions")
_WENT: Final = ("server exited", "lost server")
#: Seconds that such a server has to be gone.
_GOING_S: Final = 0.5
_FIELDS: Final = ("pane_id", MARK, PROGRAM, "pane_dead", "session_name", "pane_start_command")

#: Runs the program again when it was killed, and not when it ended well. It has the variables that are named, and of
#: the server's own those that say where it is shown. No key that is pressed meanwhile ends it. $0 names the room.
_AGAIN: Final = (
    "trap '' INT QUIT TSTP; "
    'until /usr/bin/env -i "TERM=$TERM" "TMUX=$TMUX" "TMUX_PANE=$TMUX_PANE" "$@"; do stty sane; sleep 2; done'
)


class Trouble(MusterError):
    """There can be no pane; the message says what to do."""


class _Went(Trouble):
    """The server ended while it was asked, as one does that lost its last session."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    pane: str
    mark: str
    version: str
    dead: bool
    session: str
    ours: bool
    """What was started in it last is the program, and nothing that the person put there instead."""


def look(wanted: WantedPane) -> PanePlace | None:
    """Return the pane, where it is; None when there is none.

    Raises:
        Trouble: the server cannot be asked.
    """
    row = _found(reach(wanted.socket), wanted.mark)
    return None if row is None else PanePlace(pane=row.pane, session=row.session)


def stand(wanted: WantedPane, *, anew: bool = False) -> PanePlace:
    """Find the pane or make it, with the program in it.

    Args:
        wanted: which.
        anew: start the program in it again although something runs there.

    Raises:
        Trouble: it cannot be found or made.
    """
    if not wanted.mark.isprintable():
        raise Trouble(f"tmux cannot name {wanted.mark!r}. Choose another place for Muster's state.")
    try:
        return _stand(wanted, anew)
    except _Went:
        time.sleep(_GOING_S)
        return _stand(wanted, anew)


def _stand(wanted: WantedPane, anew: bool) -> PanePlace:
    server = reach(wanted.socket)
    row = _found(server, wanted.mark)
    if row is not None and anew and not row.ours:
        # The person has put something else there, which stays.
        _done(server.cmd("set-option", "-p", "-u", "-t", row.pane, MARK))
        row = None
    if row is None:
        return _made(server, wanted)
    if row.dead or (row.ours and (anew or row.version != wanted.version)):
        _done(server.cmd("respawn-pane", "-k", "-t", row.pane, "--", *_command(wanted), *_marks(row.pane, wanted)))
    return PanePlace(pane=row.pane, session=row.session)


def reach(socket: str | None) -> libtmux.Server:
    """Return the server, which need not run.

    Raises:
        Trouble: tmux is not there or too old, or the socket is not this user's.
    """
    try:
        if not has_minimum_version(raises=False):
            raise Trouble(f"This is tmux {get_version_str()}; {TMUX_MIN_VERSION} or newer is needed. Update it.")
    except TmuxCommandNotFound:
        raise Trouble("There is no tmux here. Install the package tmux, or take connectors.tmux away.") from None
    except LibTmuxException as error:
        raise Trouble(f"tmux does not say its version: {error}") from error
    path = socket_path(socket)
    try:
        found = path.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise Trouble(f"The tmux socket {path} cannot be reached: {error.strerror}.") from error
    else:
        if not stat.S_ISSOCK(found.st_mode):
            raise Trouble(f"{path} is no socket. Name another in connectors.tmux.socket, or remove it.")
        if found.st_uid != os.getuid():
            raise Trouble(
                f"The tmux socket {path} belongs to another user, who would read along and could type. Name one of "
                "your own in connectors.tmux.socket."
            )
    if socket is not None and "/" in socket:
        return libtmux.Server(socket_path=socket)
    # The default one by its name, so that a server in which Muster itself was started is not taken for it.
    return libtmux.Server(socket_name=socket or "default")


def literal(words: Iterable[str]) -> list[str]:
    """Words in which no semicolon ends a command (tmux(1), parsing syntax)."""
    return [f"{word[:-1]}\\;" if word.endswith(";") else word for word in words]


def socket_path(socket: str | None) -> Path:
    """Return where the socket of a server is (tmux(1), -L)."""
    if socket is not None and "/" in socket:
        return Path(socket)
    folder = Path(os.environ.get("TMUX_TMPDIR") or "/tmp") / f"tmux-{os.getuid()}"  # noqa: S108  tmux's own default
    return folder / (socket or "default")


def _found(server: libtmux.Server, mark: str) -> _Row | None:
    listed = server.cmd("list-panes", "-a", "-F", "\t".join(f"#{{{field}}}" for field in _FIELDS))
    if listed.stderr:
        if any(words in listed.stderr[0] for words in (*_NO_SERVER, *_WENT)):
            return None
        raise Trouble(f"tmux does not say which panes there are: {_said(listed)}")
    for line in listed.stdout:
        fields = line.split("\t", len(_FIELDS) - 1)
        if len(fields) == len(_FIELDS) and fields[1] == mark:
            pane, _, version, dead, session, started = fields
            return _Row(
                pane=pane, mark=mark, version=version, dead=dead == "1", session=session, ours=_word(mark) in started
            )
    return None


def _made(server: libtmux.Server, wanted: WantedPane) -> PanePlace:
    # One line of commands, which the server carries out to its end: no pane stays without its mark.
    session, command = f"={wanted.session}", _command(wanted)
    there = server.cmd("list-sessions", "-F", f"#{{session_name}}\t#{{{_AGENT}}}")
    sessions = dict(line.split("\t", 1) for line in there.stdout if "\t" in line)
    if wanted.session not in sessions:
        size = ("-x", _SIZE[0], "-y", _SIZE[1])
        home = ["-c", wanted.variables.get("HOME", "/").replace("#", "##")]
        words = ["-d", "-s", wanted.session, "-n", wanted.window, *home, *size, "--", *command]
        words += _marks(f"{session}:", wanted)
        for option, value in (
            # Whoever leaves must not take the session along, whatever the person's own settings say.
            ("destroy-unattached", "off"),
            ("status-right", f"#{{{FLEET}}} "),
            ("status-right-length", "80"),
        ):
            words += [";", "set-option", "-t", f"{session}:", option, value]
        words += [";", "display-message", "-p", "-t", f"{session}:", "#{pane_id}"]
        done = _done(server.cmd("new-session", *words))
    elif sessions[wanted.session]:
        raise Trouble(f"The tmux session {wanted.session} is an agent's. Name another in connectors.tmux.session.")
    else:
        # A name that no other window has, until it is marked.
        name = f"muster-{secrets.token_hex(8)}"
        target = f"{session}:={name}"
        words = ["-d", "-t", f"{session}:", "-n", name, "--", *command, *_marks(target, wanted)]
        words += [";", "display-message", "-p", "-t", target, "#{pane_id}"]
        words += [";", "rename-window", "-t", target, wanted.window]
        done = _done(server.cmd("new-window", *words))
    if not done.stdout or not done.stdout[0].startswith("%"):
        raise Trouble(f"tmux did not say which pane it made: {_said(done)}")
    return PanePlace(pane=done.stdout[0], session=wanted.session)


def _marks(target: str, wanted: WantedPane) -> list[str]:
    words = []
    # What ends well goes, also where the person's panes stay.
    for option, value in ((MARK, wanted.mark), (PROGRAM, wanted.version), ("remain-on-exit", "off")):
        words += [";", "set-option", "-p", "-t", target, option, *literal([value])]
    return words


def _command(wanted: WantedPane) -> list[str]:
    variables = [f"{name}={value}" for name, value in wanted.variables.items()]
    return literal(["/bin/sh", "-c", _AGAIN, _word(wanted.mark), *variables, *wanted.program])


def _word(mark: str) -> str:
    """By which a command line is known as this room's: without a sign that tmux would print otherwise."""
    return f"muster-room-{hashlib.sha256(os.fsencode(mark)).hexdigest()[:16]}"


def _done(command: tmux_cmd) -> tmux_cmd:
    if any(words in line for line in command.stderr for words in _WENT):
        raise _Went(f"The tmux server went away: {_said(command)}")
    if command.stderr or command.returncode:
        raise Trouble(f"tmux refused: {_said(command)}")
    return command


def _said(command: tmux_cmd) -> str:
    return " ".join(command.stderr)[:300] or f"it ended with status {command.returncode}"
