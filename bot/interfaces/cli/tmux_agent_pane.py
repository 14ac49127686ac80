"""The window of an agent's tmux session: ``python -P -m bot.interfaces.cli.tmux_agent_pane NAME CONFIG STATE SOCKETS``.

It only reads: it takes no keys, and its end affects no other process. It ends with the window, or with the agent host.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bot.config.paths import Paths
from bot.interfaces.cli.agent_pane_view import Pane
from core.errors import MusterError
from core.redaction import SecretMasker
from fleet.control.agent_host_client import AgentLink
from fleet.control.host_spec import AgentSpec
from fleet.errors import AgentUnreachable, FleetError
from fleet.journal import reader
from fleet.journal.events import JournalEntry, JournalPosition
from fleet.supervision import host_lifecycle

#: Earlier entries to show.
_BEFORE: Final = 200
#: Seconds for a starting agent host to listen, and between two attempts.
_START_S: Final = 60.0
_AGAIN_S: Final = 0.2


def redaction(paths: Paths, spec: AgentSpec) -> SecretMasker:
    """Return the masker of secret patterns, the settings' secrets and the agent's secrets.

    Secrets that the settings take from the environment are not known here, but agents do not get them.
    """
    from bot.config.loader import load
    from bot.config.secrets import redaction_of

    known = spec.secrets()
    with contextlib.suppress(MusterError):
        found = redaction_of(load(paths), os.environ)
        return SecretMasker(known=found.known | known, extra=found.extra)
    return SecretMasker(known=known)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 4:
        print("usage: python -P -m bot.interfaces.cli.tmux_agent_pane NAME CONFIG STATE SOCKETS", file=sys.stderr)
        return 2
    name, config, state, sockets = arguments
    paths = Paths(config=Path(config), state=Path(state), sockets=Path(sockets))
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    _show_no_keys()
    spec = AgentSpec.read(paths.agent_folder(name) / host_lifecycle.SPEC)
    _write(f"You are watching {name} at work. To leave, press the prefix key (Ctrl-b), then d.\n\n")
    asyncio.run(_follow(paths.agent_folder(name), Path(spec.socket), Pane(redaction(paths, spec))))
    return 0


async def _follow(folder: Path, socket: Path, pane: Pane) -> None:
    """Write the journal and its new entries, until the agent host is gone."""
    at = JournalPosition()
    last = await asyncio.to_thread(reader.read_last, folder, _BEFORE)
    for entry in last:
        _write(pane.after(entry))
        at = entry.position
    loop = asyncio.get_running_loop()
    until = loop.time() + _START_S
    while True:
        try:
            async with await AgentLink.connect(socket) as link:
                async for item in link.follow(at):
                    if isinstance(item, JournalEntry):
                        _write(pane.after(item))
                        at = item.position
            until = loop.time() + _AGAIN_S
        except AgentUnreachable:
            pass
        except FleetError as error:
            _write(f"{error}\n")
            return
        if not host_lifecycle.is_running(folder) and loop.time() >= until:
            break
        await asyncio.sleep(_AGAIN_S)
    for entry in await asyncio.to_thread(reader.read, folder, at):
        _write(pane.after(entry))
    _write(pane.flush())


def _write(text: str) -> None:
    """Write text as UTF-8, whatever the locale, and flush even incomplete lines."""
    if text:
        sys.stdout.buffer.write(text.encode("utf-8", "replace"))
        sys.stdout.buffer.flush()


def _show_no_keys() -> None:
    """Disable the echo of keys, and the keys that pause or end the window's program."""
    import termios

    with contextlib.suppress(termios.error, OSError):
        terminal = sys.stdin.fileno()
        settings = termios.tcgetattr(terminal)
        settings[0] &= ~termios.IXON
        settings[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
        termios.tcsetattr(terminal, termios.TCSANOW, settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
