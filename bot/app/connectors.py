"""The connectors as the orchestrator has them: made from the settings, which room is the fleet's, and "typing"."""

from __future__ import annotations

import asyncio
import getpass
from typing import TYPE_CHECKING, Any

import structlog

from bot.app import pane_commands
from bot.auth.owner import owner_identity
from bot.config import connector_checks
from bot.config.schema import OWN_ROOMS
from bot.maintenance.update import versions
from bot.messaging.bridge import Bridge
from bot.messaging.composer import MessagePlace
from bot.text.errors import UserError
from connectors.contract import connector_registry
from connectors.contract.connector_protocol import NamesRooms
from connectors.contract.messages import Health
from core.errors import MusterError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from bot.commands.context import Origin
    from bot.config.loader import Settings
    from bot.config.paths import Paths
    from connectors.contract.agent_count_feed import Headcount
    from connectors.contract.connector_protocol import Connector
    from connectors.contract.slash_command_forms import Commands

log = structlog.get_logger(__name__)

#: Seconds that showing "typing" may take; it is a courtesy.
TYPING_LIMIT = 5.0


def make(
    paths: Paths,
    settings: Settings,
    may_invite: Callable[[str, str, Sequence[str]], Any],
    may_read: Callable[[str, str, Sequence[str]], Any],
    menu: Callable[[str], Commands],
    headcount: Headcount | None = None,
) -> tuple[dict[str, Connector], dict[str, Health]]:
    """Return the connectors that are configured, and of those that cannot be made the reason, by their names.

    Args:
        paths: the installation.
        settings: what is configured.
        may_invite: whether the person of that name, on the connector named first, may ask Muster into a room; the third
            argument is the groups that they are in there.
        may_read: whether that person may read what Muster says in encrypted rooms: everybody with a permission.
        menu: the commands, as the connector of that name offers them.
        headcount: how many agents are at what.
    """
    made: dict[str, Connector] = {}
    broken = {
        name: Health(kind=name, reachable=None, authenticated=None, last_seen=None, detail=reason)
        for name, reason in settings.broken.items()
    }
    for each in settings.connectors:

        async def invited(sender: str, groups: Sequence[str] = (), name: str = each.name) -> bool:
            allowed: bool = await may_invite(name, sender, groups)
            return allowed

        async def reads(person: str, groups: Sequence[str] = (), name: str = each.name) -> bool:
            allowed: bool = await may_read(name, person, groups)
            return allowed

        try:
            folder = paths.connector_folder(each.name)
            folder.mkdir(mode=0o700, exist_ok=True)
            made[each.name] = connector_registry.make(
                each.kind,
                each.name,
                each.settings,
                folder,
                may_invite=invited,
                headcount=headcount,
                pane_program=pane_commands.room(paths, each.name),
                pane_version=versions.of_this(),
                may_read=reads,
                keys=paths.keys_folder(each.name),
                commands=menu(each.name),
                fleet_rooms=() if each.fleet_room is None else (each.fleet_room,),
            )
        except MusterError as error:
            broken[each.name] = Health(
                kind=each.kind, reachable=None, authenticated=None, last_seen=None, detail=str(error)
            )
    return made, broken


def main_rooms(settings: Settings) -> tuple[MessagePlace, ...]:
    """Return the main rooms of all connectors that have one; the first is the fleet's."""
    those = connector_checks.with_main_rooms(settings.connectors)
    return tuple(MessagePlace(each.name, conversation=each.main_room) for each in those)


def bridge(settings: Settings, connectors: Mapping[str, Connector] | None = None) -> Bridge:
    """Return the main rooms that mirror each other: the fleet's, and those of which it is said.

    Args:
        settings: what is configured.
        connectors: by their names, where it matters which conversations those rooms are.
    """
    names = tuple(each.name for each in settings.connectors)
    joined = connector_checks.joined(settings.connectors)
    named = {identity: name for name, identities in settings.people.items() for identity in identities}
    return Bridge(
        rooms=tuple(MessagePlace(each.name, conversation=each.main_room) for each in joined),
        connectors=names,
        people=named,
        locate=located(connectors or {}),
    )


def located(connectors: Mapping[str, Connector]) -> Callable[[str, str], str]:
    """Return what tells, of a connector's name and what a room is called in the settings, the conversation that
    it is."""

    def locate(name: str, room: str) -> str:
        connector = connectors.get(name)
        found = connector.room_of(room) if isinstance(connector, NamesRooms) else None
        return room if found is None else found

    return locate


def main_room(
    settings: Settings, connectors: Mapping[str, Connector] | None = None
) -> Callable[[Origin | None], tuple[str, str]]:
    """Return what says in which connector and room an agent's thread is opened, by where its launch was asked for."""
    locate = located(connectors or {})

    def choose(origin: Origin | None) -> tuple[str, str]:
        if origin is not None:
            return origin.connector, origin.parent or origin.conversation
        for place in main_rooms(settings):
            assert place.conversation is not None
            return place.connector, locate(place.connector, place.conversation)
        raise UserError(
            "there is no room for the agent's thread: set connectors.NAME.fleet_room in muster.yaml, or launch it from "
            "the chat room.",
            code="room.missing",
        )

    return choose


def owners(settings: Settings) -> set[str]:
    """Return the identities of whoever runs Muster: at the gateway, and in each place that is this user's alone."""
    names = {each.name for each in settings.connectors if each.kind in OWN_ROOMS}
    return {owner_identity(), *(f"{name}:{getpass.getuser()}" for name in names)}


def typing(connectors: Mapping[str, Connector]) -> Callable[[str, str, bool], Awaitable[None]]:
    """Return what shows, or stops showing, in a connector's conversation that someone is at work."""

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
            # No one's work is to end over it.
            log.info("typing.not_shown", connector=name, reason=repr(error))

    return show
