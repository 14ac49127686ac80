"""Making a room in the space of another one (Client-Server API v1.11, "Room creation", "Spaces")."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import structlog

from connectors.matrix.homeserver_client import CLIENT, HomeserverClient, HomeserverRequestError, MatrixRefusal

Json: TypeAlias = dict[str, Any]

#: Parents of a room that count; there is hardly more than one.
_PARENTS = 5
#: The power level of those who may change everything (Client-Server API v1.11, "m.room.power_levels").
_OWNER = 100
#: Bytes of a room's state that are read to find them.
_LARGEST_STATE = 8 * 1024 * 1024

_log = structlog.get_logger(__name__)


async def create(
    wire: HomeserverClient,
    *,
    user: str,
    name: str,
    address: str,
    beside: str | None,
    people: Sequence[str],
    owners: Collection[str],
    encrypted: bool,
) -> str:
    """Make a private room, and invite people into it; once per address.

    Args:
        wire: the connection.
        user: the bot.
        name: what the room is called.
        address: the part of its address before the colon, by which a room that was made already is found again.
        beside: a room; the new one is put into its spaces, as far as the bot may. None: into none.
        people: who is invited.
        owners: those of them who may change everything in the room.
        encrypted: whether it is encrypted.

    Returns:
        The room's id.

    Raises:
        HomeserverRequestError: the homeserver did not do it.
    """
    server = user.partition(":")[2]
    spaces = [] if beside is None else await _spaces(wire, beside)
    state: list[Json] = [
        {"type": "m.space.parent", "state_key": space, "content": {"via": [server], "canonical": True}}
        for space in spaces
    ]
    if encrypted:
        state.append({"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}})
    body: Json = {
        "preset": "private_chat",
        "name": name,
        "room_alias_name": address,
        "invite": [each for each in people if each != user],
        "initial_state": state,
    }
    try:
        room = str((await wire.call("POST", "createRoom", body=body))["room_id"])
    except MatrixRefusal as error:
        if error.code != "M_ROOM_IN_USE":
            raise
        room = str((await wire.call("GET", "directory", "room", f"#{address}:{server}"))["room_id"])
    await _raise(wire, room, user, owners)
    for space in spaces:
        try:
            await wire.call("PUT", "rooms", space, "state", "m.space.child", room, body={"via": [server]})
        except MatrixRefusal as error:
            # A space lists only the rooms that its own moderators put there.
            _log.info("matrix_space", space=space, room=room, error=str(error))
    return room


async def _raise(wire: HomeserverClient, room: str, user: str, owners: Collection[str]) -> None:
    """Let people change everything in the room.

    The levels cannot be part of the request that makes the room: from room version 12 on they must not name the
    creator, and before they must.
    """
    place = ("rooms", room, "state", "m.room.power_levels", "")
    levels = await wire.call("GET", *place)
    users = levels.get("users") if isinstance(levels.get("users"), dict) else {}
    raised = {**(users or {}), **{each: _OWNER for each in owners if each != user}}
    if raised != users:
        await wire.call("PUT", *place, body={**levels, "users": raised})


async def _spaces(wire: HomeserverClient, room: str) -> list[str]:
    """Return the spaces that a room says it is in."""
    try:
        raw = await wire.read("rooms", room, "state", base=f"{CLIENT}/v3", limit=_LARGEST_STATE)
        answer: object = json.loads(raw or b"[]")
    except (HomeserverRequestError, ValueError, RecursionError) as error:
        _log.info("matrix_spaces", room=room, error=str(error))
        return []
    events = answer if isinstance(answer, list) else []
    found = [
        str(event.get("state_key"))
        for event in events
        if isinstance(event, dict) and event.get("type") == "m.space.parent" and (event.get("content") or {}).get("via")
    ]
    return [space for space in found if space.startswith("!")][:_PARENTS]
