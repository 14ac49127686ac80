"""The main room in a tmux pane: ``python -P -m bot.interfaces.cli.tmux_room_pane NAME CONFIG STATE SOCKETS``.

It shows the messages of a connector and sends the input. It lives as long as the pane. While Muster does not run, it
stores the input and says so in its status line.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bot.config.paths import Paths

HINT: Final = (
    "This is your fleet's room. Write !help for the commands. Other words go to the orchestrator agent.\n"
    "/switch NAME talks in an agent's thread, /switch goes back, Tab completes.\n"
    "/quit closes the pane; muster tmux open brings it back."
)


def main(arguments: Sequence[str]) -> int:
    """Return 0 if the person left or the connector is gone. With another status, the program is to be started again."""
    if len(arguments) != 4:
        print("usage: python -P -m bot.interfaces.cli.tmux_room_pane NAME CONFIG STATE SOCKETS", file=sys.stderr)
        return 2
    name, config, state, sockets = arguments
    paths = Paths(config=Path(config), state=Path(state), sockets=Path(sockets))
    return asyncio.run(_show(paths, name))


async def _show(paths: Paths, name: str) -> int:
    from bot.interfaces.cli.terminal.chat_client import NoSuchConnector, RemoteTerminal
    from connectors.terminal.draft import Draft
    from connectors.terminal.pending_input import Unsaid
    from connectors.terminal.prompt import converse
    from connectors.tmux.status_line import Sign

    paths.unsaid.mkdir(mode=0o700, exist_ok=True)
    terminal = RemoteTerminal(
        paths.gateway_socket,
        retry_for=math.inf,
        connector=name,
        unsaid=Unsaid(paths.unsaid / name),
    )
    sign = Sign.here(os.environ)
    if sign is not None:
        sign.start()

    def standing() -> str:
        words = terminal.standing()
        if sign is not None:
            # This prompt shows the text even if tmux's own status line cannot.
            with contextlib.suppress(ValueError):
                sign.show(words)
        return words

    try:
        await converse(
            terminal,
            complete=terminal.complete,
            history=paths.prompt_history,
            hint=HINT,
            standing=standing,
            draft=Draft(paths.unsaid / f"{name}.draft"),
            titled=sign is None,
        )
    finally:
        if sign is not None:
            sign.end()
    if terminal.lost is not None:
        print(terminal.lost, file=sys.stderr)
    return 0 if terminal.lost is None or isinstance(terminal.lost, NoSuchConnector) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
