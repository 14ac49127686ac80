"""Which seats there are, and how one is opened."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Any, cast

import pytest

from bot.config.paths import Paths
from tests.acceptance.discord_menu_seat import DiscordMenuSeat
from tests.acceptance.discord_seat import DiscordSeat
from tests.acceptance.linechat import LineChatSeat
from tests.acceptance.matrix_seat import MatrixSeat
from tests.acceptance.seat import Seat
from tests.acceptance.terminal_seat import TerminalSeat
from tests.acceptance.tmux_seat import TmuxSeat

#: Seats of other connectors, each as MODULE:CLASS; the class method `opened` takes the installation's paths.
OTHERS = [name for name in os.environ.get("MUSTER_SEATS", "").replace(",", " ").split() if name]

EVERY: list[Any] = [
    "terminal",
    pytest.param("matrix", marks=pytest.mark.synapse),
    pytest.param("encrypted", marks=pytest.mark.synapse),
    "discord",
    # Nothing but slash commands.
    pytest.param("discord-menu", marks=pytest.mark.slow),
    "linechat",
    # A terminal, but for the pane.
    pytest.param("tmux", marks=pytest.mark.slow),
    *OTHERS,
]
#: Those where it can be read later what was said while Muster was away. Slash commands given then are gone, of which
#: Discord tells who gave them; tests/connectors/discord/interactions/test_commands_killed.py is about the others.
KEEPING = [each for each in EVERY if isinstance(each, str) or each.values[0] != "discord-menu"]
#: Those that every run tries.
QUICK = [
    each if isinstance(each, str) else str(each.values[0])
    for each in EVERY
    if isinstance(each, str) or not any(mark.name == "slow" for mark in each.marks)
]


def opened(name: str, paths: Paths, request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Seat]:
    """A new seat."""
    match name:
        case "terminal":
            return TerminalSeat.opened(paths)
        case "matrix":
            return MatrixSeat.opened(request.getfixturevalue("synapse"))
        case "encrypted":
            return MatrixSeat.opened(request.getfixturevalue("synapse"), paths.state / "operator")
        case "discord":
            return DiscordSeat.opened()
        case "discord-menu":
            return DiscordMenuSeat.opened()
        case "linechat":
            return LineChatSeat.opened(paths)
        case "tmux":
            return TmuxSeat.opened(paths)
        case _:
            module, _, attribute = name.partition(":")
            made = getattr(import_module(module), attribute)
            return cast("AbstractAsyncContextManager[Seat]", made.opened(paths))
