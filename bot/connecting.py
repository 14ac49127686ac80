"""The connectors as the orchestrator has them: made from the settings, which room is the fleet's, and "typing"."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from bot.errors import UserError
from connectors import registry
from connectors.messages import Health
from register.errors import MusterError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from bot.commands.context import Origin
    from bot.config import Settings
    from bot.paths import Paths
    from connectors.contract import Connector

log = structlog.get_logger(__name__)

#: Seconds that showing "typing" may take; it is a courtesy.
TYPING_LIMIT = 5.0
#: The terminal's main room.
TERMINAL_ROOM = "fleet"


def make(
    paths: Paths, settings: Settings, may_invite: Callable[[str, str], Any]
) -> tuple[dict[str, Connector], dict[str, Health]]:
    """The connectors that are configured, and of those that cannot be made the reason, by their names.

    Args:
        paths: the installation.
        settings: what is configured.
        may_invite: whether the person of that name, on the connector named first, may ask Muster into a room.
    """
    made: dict[str, Connector] = {}
    broken = {
        name: Health(kind=name, reachable=None, authenticated=None, last_seen=None, detail=reason)
        for name, reason in settings.broken.items()
    }
    for each in settings.connectors:

        async def invited(sender: str, name: str = each.name) -> bool:
            allowed: bool = await may_invite(name, sender)
            return allowed

        try:
            folder = paths.connector_folder(each.name)
            folder.mkdir(mode=0o700, exist_ok=True)
            made[each.name] = registry.make(each.kind, each.name, each.settings, folder, may_invite=invited)
        except MusterError as error:
            broken[each.name] = Health(
                kind=each.kind, reachable=None, authenticated=None, last_seen=None, detail=str(error)
            )
    return made, broken


def main_room(settings: Settings) -> Callable[[Origin | None], tuple[str, str]]:
    """What says in which connector and room an agent's thread is opened, by where its launch was asked for."""

    def choose(origin: Origin | None) -> tuple[str, str]:
        if origin is not None:
            return origin.connector, origin.parent or origin.conversation
        for each in settings.connectors:
            room = each.fleet_room or (TERMINAL_ROOM if each.kind == "terminal" else None)
            if room is not None:
                return each.name, room
        raise UserError(
            "there is no room for the agent's thread: set connectors.NAME.fleet_room in muster.yaml, or launch it from "
            "the chat room."
        )

    return choose


def typing(connectors: Mapping[str, Connector]) -> Callable[[str, str, bool], Awaitable[None]]:
    """What shows, or stops showing, in a connector's conversation that somebody is at work."""

    async def show(name: str, conversation: str, active: bool) -> None:
        connector = connectors.get(name)
        if connector is None or not connector.capabilities.typing:
            return
        try:
            async with asyncio.timeout(TYPING_LIMIT):
                await connector.typing(conversation, active=active)
        except TimeoutError:
            pass
        except Exception as error:
            # Nobody's work is to end over it.
            log.info("typing.not_shown", connector=name, reason=repr(error))

    return show
