"""The fleet's room: made by the operator, with the bot in it."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace

from conduit.account_registration import HomeserverSession
from conduit.errors import ProvisionError
from conduit.homeserver_api import HomeserverRefusal, Json, shown, text_of
from conduit.setup_context import SetupContext, SetupOptions
from conduit.setup_record import SetupRecord
from conduit.steps.operator_and_bot_users import Users
from core import crash_points

ROOM = crash_points.declare("provision.room")
JOIN = crash_points.declare("provision.join")

#: A key in the content of the event that begins a room.
MARK = "fleet.muster.provision"
#: Times that a room was upgraded which are followed in one run; no one does it more often, and rooms could go round.
_UPGRADES = 10
_ROOM = re.compile(r"![!-~]{1,254}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetRoom:
    """The room, as far as one run has to do with it."""

    work: SetupContext
    users: Users

    async def ensure(self, record: SetupRecord, bot: HomeserverSession) -> SetupRecord:
        if record.room is None:
            record = await self._make_room(record)
        record = await self._follow(record, bot)
        assert record.room is not None
        if not await self._is_in(record, bot):
            try:
                await self._bring_in(record, bot)
            except _Lost:
                self.work.say(f"The room {record.room} is out of reach of both; making another.")
                record = self.work.kept.write(replace(record, room=None, former_room=record.room, room_begun=False))
                record = await self._make_room(record)
                await self._bring_in(record, bot)
        await self._ask_operator_in(record, bot)
        if self.work.wanted.encrypted:
            await self._encrypt(record, bot)
        if self.work.changed:
            await self._tell_of_others(record, bot)
        return record

    async def _follow(self, record: SetupRecord, bot: HomeserverSession) -> SetupRecord:
        """Where someone upgraded the room (Client-Server API v1.11, "Room upgrades"), the newest is the fleet's."""
        former = record.room
        for _ in range(_UPGRADES):
            assert record.room is not None
            place = ("rooms", record.room, "state", "m.room.tombstone", "")
            try:
                found = (await self.work.homeserver.call("GET", *place, token=bot.token)).get("replacement_room")
            except HomeserverRefusal:
                # It was not upgraded, or the bot is not in it to be told.
                break
            if not isinstance(found, str) or not _ROOM.fullmatch(found):
                break
            new = replace(record, room=found, former_room=former)
            if not await self._is_in(new, bot):
                try:
                    await self._bring_in(new, bot)
                except _Lost:
                    raise ProvisionError(
                        f"The room {record.room} was upgraded to {found}, and neither you nor the bot are in it. Have "
                        f"somebody there invite {record.operator_id} and {bot.user}, then run the same command again."
                    ) from None
            self.work.changed.append(f"followed the room {record.room}, which was upgraded, to {found}")
            record = self.work.kept.write(new)
        return record

    async def _is_in(self, record: SetupRecord, bot: HomeserverSession) -> bool:
        return record.room in await self._rooms_of(bot)

    async def _rooms_of(self, somebody: HomeserverSession) -> list[str]:
        joined = await self.work.homeserver.call("GET", "joined_rooms", token=somebody.token)
        return _texts(joined.get("joined_rooms"))

    async def _tell_of_others(self, record: SetupRecord, bot: HomeserverSession) -> None:
        """A bot that another fleet has as well would do there what this one is told, and the other way round."""
        others = [room for room in await self._rooms_of(bot) if room not in (record.room, record.former_room)]
        if others:
            self.work.say(
                f"{bot.user} is in other rooms as well. If another fleet uses it, both hear all of them: write `rooms` "
                f"into the connector's block of each, here {record.room}, or give this one a bot of its own with --bot."
            )

    async def _make_room(self, record: SetupRecord) -> SetupRecord:
        operator = await self.users.as_operator(record, "There is no room yet. Run it again")
        room = await self._find_room(record, operator) if record.room_begun else None
        if room is None:
            record = self.work.kept.write(replace(record, room_begun=True))
            assert record.bot_id is not None
            with crash_points.around(ROOM):
                answer = await self._answered(
                    "POST", "createRoom", token=operator.token, body=_room(self.work.wanted, record), what="make a room"
                )
            room = text_of(answer, "room_id")
            self.work.say(f"Made the room {room}.")
            self.work.changed.append(f"made the room {room}")
        return self.work.kept.write(replace(record, room=room))

    async def _find_room(self, record: SetupRecord, operator: HomeserverSession) -> str | None:
        """Return the room that was asked for when we were interrupted."""
        for room in await self._rooms_of(operator):
            with contextlib.suppress(HomeserverRefusal):
                begun = await self.work.homeserver.call(
                    "GET", "rooms", room, "state", "m.room.create", "", token=operator.token
                )
                if begun.get(MARK) == record.mark:
                    return room
        return None

    async def _bring_in(self, record: SetupRecord, bot: HomeserverSession) -> None:
        """Have the bot in the room.

        Raises:
            _Lost: the operator is not in it, so no one can ask the bot in.
        """
        assert record.room is not None
        with crash_points.around(JOIN):
            try:
                await self.work.homeserver.call("POST", "join", record.room, token=bot.token, body={})
            except HomeserverRefusal:
                why = f"The bot is not in {record.room}. Invite {bot.user} there and run the same command again"
                operator = await self.users.as_operator(record, why)
                try:
                    await self.work.homeserver.call(
                        "POST", "rooms", record.room, "invite", token=operator.token, body={"user_id": bot.user}
                    )
                except HomeserverRefusal as error:
                    if error.status in (403, 404):
                        raise _Lost from None
                    raise
                await self._answered(
                    "POST", "join", record.room, token=bot.token, body={}, what=f"let {bot.user} into the room"
                )
        self.work.changed.append(f"brought {bot.user} into {record.room}")

    async def _ask_operator_in(self, record: SetupRecord, bot: HomeserverSession) -> None:
        assert record.room is not None
        assert record.operator_id is not None
        place = ("rooms", record.room, "state", "m.room.member", record.operator_id)
        try:
            found = (await self.work.homeserver.call("GET", *place, token=bot.token)).get("membership")
        except HomeserverRefusal as error:
            if error.status != 404:
                raise
            found = None
        if found in ("join", "invite"):
            return
        try:
            await self.work.homeserver.call(
                "POST", "rooms", record.room, "invite", token=bot.token, body={"user_id": record.operator_id}
            )
        except HomeserverRefusal as error:
            raise ProvisionError(
                f"{record.operator_id} is not in {record.room}, and the bot may not invite there: {error}. Have "
                "somebody who is in it invite you, or, to have a new room, take the bot out of that one."
            ) from None
        self.work.changed.append(f"invited {record.operator_id} into {record.room}")

    async def _encrypt(self, record: SetupRecord, bot: HomeserverSession) -> None:
        assert record.room is not None
        place = ("rooms", record.room, "state", "m.room.encryption", "")
        try:
            await self.work.homeserver.call("GET", *place, token=bot.token)
        except HomeserverRefusal as error:
            if error.status != 404:
                raise
        else:
            return
        operator = await self.users.as_operator(
            record, f"The room {record.room} is not encrypted. Switch it on in Element"
        )
        body: Json = {"algorithm": _ALGORITHM}
        await self._answered("PUT", *place, token=operator.token, body=body, what="encrypt the room")
        self.work.changed.append(f"encrypted {record.room}")

    async def _answered(self, method: str, *path: str, token: str, body: Json, what: str) -> Json:
        try:
            return await self.work.homeserver.call(method, *path, token=token, body=body)
        except HomeserverRefusal as error:
            raise ProvisionError(
                f"The homeserver {self.work.homeserver.url} does not {what}: {error}. See what it says in its log, "
                "then run the same command again."
            ) from None


class _Lost(Exception):
    """No one of ours is in the room."""


_ALGORITHM = "m.megolm.v1.aes-sha2"


def _room(wanted: SetupOptions, record: SetupRecord) -> Json:
    """Return a room for those who are invited (Client-Server API v1.11, "POST /createRoom")."""
    state: list[Json] = [{"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "forbidden"}}]
    if wanted.encrypted:
        state.append({"type": "m.room.encryption", "state_key": "", "content": {"algorithm": _ALGORITHM}})
    return {
        "preset": "private_chat",
        "visibility": "private",
        "name": wanted.room_name,
        "topic": "Muster: write !help",
        "invite": [record.bot_id],
        "creation_content": {MARK: record.mark},
        "initial_state": state,
    }


def _texts(value: object) -> list[str]:
    found = value if isinstance(value, list) else []
    return [shown(each) for each in found if isinstance(each, str)]
