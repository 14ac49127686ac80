"""The programs that show a room or an agent in a pane of tmux, as command lines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.config.paths import Paths


def room(paths: Paths, connector: str) -> list[str]:
    """Return the command line that shows the room of the connector of that name."""
    return _program("tmux_room_pane", paths, connector)


def agent(paths: Paths, name: str) -> list[str]:
    """Return the command line that shows the agent of that name."""
    return _program("tmux_agent_pane", paths, name)


def _program(module: str, paths: Paths, name: str) -> list[str]:
    places = (paths.config, paths.state, paths.sockets)
    return [sys.executable, "-P", "-m", f"bot.interfaces.cli.{module}", name, *map(str, places)]
