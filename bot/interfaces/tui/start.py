"""Start of the dashboard: its parts for one installation."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bot.commands import sections
from bot.config.instance_lock import holder
from bot.config.paths import Paths
from bot.gateway_feed.feed import GatewayFeed
from bot.gateway_feed.requests import GatewayRequests
from bot.interfaces.tui.app import Dashboard
from bot.interfaces.tui.feeds.offline_feed import OfflineFeed
from bot.interfaces.tui.feeds.orders import DOOR, CommandOrders
from bot.interfaces.tui.feeds.switching_source import SwitchingSource
from bot.read_models.limits import LimitsModel
from bot.setup import offline_fleet

#: Seconds for which a command is tried again after its connection broke. A person waits for it.
_RETRY_S = 10.0
#: Seconds for the gateway to accept a connection while it is looked for.
_LOOK_S = 0.2
#: Seconds after which a thread lets another one run.
_SWITCH_S = 0.001
#: New objects after which Python looks for garbage; a document of a large fleet is 30,000.
_GARBAGE = 100_000


def made(
    paths: Paths, *, light: bool = False, limits: Callable[[Paths], LimitsModel | None] = lambda paths: None
) -> Dashboard:
    """Return the dashboard of an installation.

    Args:
        paths: the installation.
        light: whether to begin with the light theme.
        limits: reads the limits while Muster is down; None: no egress ever ran here.
    """
    source = SwitchingSource(
        lambda tell: GatewayFeed(path=paths.gateway_socket, tell=tell),
        OfflineFeed(load=partial(offline_fleet.load, paths), limits=partial(limits, paths)),
        listens=partial(listens, paths.gateway_socket),
        standby=partial(standby_of, paths),
    )
    orders = CommandOrders(paths, GatewayRequests(paths.gateway_socket, door=DOOR, retry_for=_RETRY_S))
    return Dashboard(source, orders, sections.load(), light=light)


def run(paths: Paths, *, light: bool, limits: Callable[[Paths], LimitsModel | None]) -> None:
    """Show the dashboard until a person quits; the arguments are those of `made`."""
    answer_keys_first()
    made(paths, light=light, limits=limits).run()


def standby_of(paths: Paths) -> str | None:
    """Return what to say of the standby of this installation, or None if it has none."""
    waiting = holder(paths.standby_lock)
    return None if waiting is None else f"process {waiting.pid} waits here. {waiting.note}".strip()


def answer_keys_first() -> None:
    """Let neither the thread that reads documents nor the search for garbage hold up keys."""
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()
    gc.set_threshold(_GARBAGE)


def listens(path: Path) -> bool:
    """Return whether something listens on a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_LOOK_S)
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True
