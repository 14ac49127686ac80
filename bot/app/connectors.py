"""The orchestrator's connectors: their creation from the settings, the main rooms, and the "typing" indicator."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from bot.app import pane_commands
from bot.auth.owner import owner_identity
from bot.auth.permission import Permission
from bot.auth.permissions import Operators
from bot.commands.context import Origin
from bot.commands.syntax import command_line
from bot.config.checks import connector_checks
from bot.config.loader import Settings
from bot.config.paths import Paths
from bot.config.schema import OWN_ROOMS
from bot.maintenance import versions
from bot.messaging.bridge import Bridge
from bot.messaging.composer import MessagePlace
from bot.projects.ports import HearRoom, NewRoom
from bot.text import markdown
from bot.text.errors import UserError
from connectors.contract import connector_registry
from connectors.contract.agent_count_feed import Headcount
from connectors.contract.connector_protocol import Connector, HearsRooms, NamesRooms, RoomMaker, SendError
from connectors.contract.messages import Health
from connectors.contract.slash_command_forms import Commands
from core.errors import MusterError

log = structlog.get_logger(__name__)

#: Seconds to wait for the "typing" indicator, which is optional.
TYPING_LIMIT = 5.0


def make(
    paths: Paths,
    settings: Settings,
    may_invite: Callable[[str, str, Sequence[str]], Any],
    may_read: Callable[[str, str, Sequence[str]], Any],
    menu: Callable[[str], Commands],
    headcount: Headcount | None = None,
) -> tuple[dict[str, Connector], dict[str, Health]]:
    """Return the configured connectors, and the failures of those that cannot be created, by name.

    Args:
        paths: the installation.
        settings: the configuration.
        may_invite: returns whether a person may invite Muster into a room. The arguments are the connector, the person,
            and the person's groups there.
        may_read: returns whether a person may read Muster's messages in encrypted rooms: everyone with a permission
            may.
        menu: returns the commands that the connector of that name offers.
        headcount: the number of agents by activity.
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
                fleet_rooms=(
                    *(() if each.fleet_room is None else (each.fleet_room,)),
                    *settings.project_rooms(each.name),
                ),
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
    """Return the main rooms that mirror each other: the fleet's, and those configured to join it.

    Args:
        settings: the configuration.
        connectors: connectors by name, if the conversations of the rooms matter.
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
    """Return a function from a connector's name and a room's name in the settings to the conversation."""

    def locate(name: str, room: str) -> str:
        connector = connectors.get(name)
        found = connector.room_of(room) if isinstance(connector, NamesRooms) else None
        return room if found is None else found

    return locate


def main_room(
    settings: Settings, connectors: Mapping[str, Connector] | None = None
) -> Callable[[Origin | None], tuple[str, str]]:
    """Return a function that selects the connector and room for an agent's thread, from the origin of its launch."""
    locate = located(connectors or {})

    def choose(origin: Origin | None) -> tuple[str, str]:
        if origin is not None:
            return origin.connector, origin.parent or origin.conversation
        for place in main_rooms(settings):
            assert place.conversation is not None
            return place.connector, locate(place.connector, place.conversation)
        raise UserError(
            "There is no room for the agent's thread. Set `connectors.NAME.fleet_room` in muster.yaml, or launch from "
            "the chat room.",
            code="room.missing",
        )

    return choose


def room_maker(settings: Settings, connectors: Mapping[str, Connector], operators: Operators) -> NewRoom:
    """Return a function that makes a chat room for a project."""

    async def make_room(name: str, *, key: str, connector: str | None) -> str:
        able = {each: maker for each, maker in connectors.items() if isinstance(maker, RoomMaker)}
        chosen = connector if connector in able else next(iter(able), None)
        if chosen is None or (connector is not None and connector not in able):
            raise UserError(
                "Muster cannot make rooms on this chat system. Make one, invite Muster, and write the command there "
                "with --room here.",
                code="room.not_made",
            )
        own = settings.connector(chosen)
        begins = f"{chosen}:"
        known = [each for each in await operators.every() if each.identity.startswith(begins)]
        people = {
            each.identity.removeprefix(begins): each.permission
            for each in known
            if each.permission >= Permission.OPERATOR and not each.identity.removeprefix(begins).startswith("role:")
        }
        try:
            room = await able[chosen].make_room(
                name,
                key=key,
                beside=None if own is None else own.main_room,
                people=list(people),
                owners=[each for each, permission in people.items() if permission >= Permission.ADMIN],
            )
        except SendError as error:
            raise UserError(f"The room for {name} could not be made: {error}", code="room.not_made") from error
        return f"{begins}{room}"

    return make_room


def room_hearer(connectors: Mapping[str, Connector]) -> HearRoom:
    """Return a function that lets a connector hear a project's room from now on."""

    async def hear_room(room: str) -> None:
        name, _, conversation = room.partition(":")
        connector = connectors.get(name)
        if connector is None:
            why = command_line("health")
            raise UserError(
                f"{name} does not run, so {markdown.one_line(room)} cannot be heard. {why} says why.",
                code="room.not_heard",
            )
        if not connector.capabilities.threads:
            raise UserError(
                f"{name} has no threads, and topics need them. Take a room of another chat system, or none.",
                code="room.not_heard",
            )
        if not isinstance(connector, HearsRooms):
            return
        try:
            await connector.hear_room(conversation)
        except SendError as error:
            raise UserError(
                f"{markdown.one_line(room)} cannot be the room of a project: {error}", code="room.not_heard"
            ) from error

    return hear_room


def owners(settings: Settings) -> set[str]:
    """Return the identities of Muster's own user: at the gateway, and on connectors that no other user can reach."""
    names = {each.name for each in settings.connectors if each.kind in OWN_ROOMS}
    return {owner_identity(), *(f"{name}:{getpass.getuser()}" for name in names)}


def typing(connectors: Mapping[str, Connector]) -> Callable[[str, str, bool], Awaitable[None]]:
    """Return a function that shows or hides the "typing" indicator in a connector's conversation."""

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
            # An indicator must not end the work that it indicates.
            log.info("typing.not_shown", connector=name, reason=repr(error))

    return show
