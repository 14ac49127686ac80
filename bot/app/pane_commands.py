"""The command lines of programs that show a chat room or an agent in a tmux pane."""

from __future__ import annotations

import sys

from bot.config.paths import Paths


def room(paths: Paths, connector: str) -> list[str]:
    """Return the command line that shows the chat room of a connector."""
    return _program("tmux_room_pane", paths, connector)


def agent(paths: Paths, name: str) -> list[str]:
    """Return the command line that shows an agent."""
    return _program("tmux_agent_pane", paths, name)


def _program(module: str, paths: Paths, name: str) -> list[str]:
    places = (paths.config, paths.state, paths.sockets)
    return [sys.executable, "-P", "-m", f"bot.interfaces.cli.{module}", name, *map(str, places)]
