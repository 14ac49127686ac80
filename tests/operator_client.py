"""A person in a Matrix room, for tests: a small client on plain HTTP that shares no code with the product.

async with Operator(account) as ana:
    room = await ana.create_room(invite=[bot.user_id])
    asked = await ana.say(room, "!ps")
    answer = await ana.wait_for(room, lambda event: event["sender"] == bot.user_id and "coder0" in body(event))
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeAlias
from urllib.parse import quote

import aiohttp

from tests.synapse import Account

Event: TypeAlias = dict[str, Any]

#: Seconds for which anything is waited for; generous, since a busy machine is slow.
LIMIT = 40.0


class Operator:
    """One person's client. `seen` holds the events of each room, oldest first, as they came."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.user_id = account.user_id
        self.seen: dict[str, list[Event]] = {}
        self.typing: dict[str, list[str]] = {}
        self.invitations: set[str] = set()
        self._since: str | None = None
        self._numbers = itertools.count()
        self._run = secrets.token_hex(4)
        self._syncing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self.account.access_token}"}
        self._http = aiohttp.ClientSession(headers=headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    # --- rooms ---------------------------------------------------------------------------------------------------

    async def create_room(
        self,
        name: str = "room",
        *,
        invite: Iterable[str] = (),
        encrypted: bool = False,
        public: bool = False,
        version: str | None = None,
        space: bool = False,
    ) -> str:
        """A room of their own, or a space."""
        encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        answer = await self.call(
            "POST",
            "createRoom",
            {
                "name": name,
                "invite": list(invite),
                "preset": "public_chat" if public else "private_chat",
                "initial_state": [encryption] if encrypted else [],
            }
            | ({} if version is None else {"room_version": version})
            | ({"creation_content": {"type": "m.space"}} if space else {}),
        )
        room: str = answer["room_id"]
        return room

    async def invite(self, room: str, user_id: str) -> None:
        await self.call("POST", f"rooms/{quote(room)}/invite", {"user_id": user_id})

    async def kick(self, room: str, user_id: str) -> None:
        await self.call("POST", f"rooms/{quote(room)}/kick", {"user_id": user_id})

    async def ban(self, room: str, user_id: str) -> None:
        await self.call("POST", f"rooms/{quote(room)}/ban", {"user_id": user_id})

    async def join(self, room: str) -> None:
        await self.call("POST", f"join/{quote(room)}", {})

    async def rooms(self) -> list[str]:
        """The rooms that they are in."""
        found: list[str] = (await self.call("GET", "joined_rooms"))["joined_rooms"]
        return found

    async def membership(self, room: str, user_id: str) -> str | None:
        """`join`, `invite`, `leave` ..., or None when there never was one."""
        try:
            answer = await self.call("GET", f"rooms/{quote(room)}/state/m.room.member/{quote(user_id)}")
        except MatrixRefusal:
            return None
        membership: str = answer["membership"]
        return membership

    async def set_power(self, room: str, user_id: str, level: int) -> None:
        path = f"rooms/{quote(room)}/state/m.room.power_levels/"
        levels = await self.call("GET", path)
        levels.setdefault("users", {})[user_id] = level
        await self.call("PUT", path, levels)

    async def set_state(self, room: str, kind: str, content: Event, *, key: str = "") -> None:
        await self.call("PUT", f"rooms/{quote(room)}/state/{kind}/{quote(key)}", content)

    async def state(self, room: str, kind: str, key: str = "") -> Event | None:
        """The content of a state event, or None when there is none."""
        try:
            return await self.call("GET", f"rooms/{quote(room)}/state/{kind}/{quote(key)}")
        except MatrixRefusal:
            return None

    async def set_alias(self, room: str, alias: str) -> None:
        """Have an address lead to a room, whatever it led to."""
        with contextlib.suppress(MatrixRefusal):
            await self.call("DELETE", f"directory/room/{quote(alias)}")
        await self.call("PUT", f"directory/room/{quote(alias)}", {"room_id": room})

    async def upgrade(self, room: str, version: str) -> str:
        """Replace a room by one of another version, whose id is returned."""
        answer = await self.call("POST", f"rooms/{quote(room)}/upgrade", {"new_version": version})
        replacement: str = answer["replacement_room"]
        return replacement

    async def log_out(self) -> None:
        """End this log-in; whoever shares its token is out as well."""
        await self.call("POST", "logout", {})

    # --- saying --------------------------------------------------------------------------------------------------

    async def send(self, room: str, content: Event, kind: str = "m.room.message") -> str:
        """Any event, as it is. Returns its id."""
        transaction = f"{self._run}-{next(self._numbers)}"
        answer = await self.call("PUT", f"rooms/{quote(room)}/send/{kind}/{transaction}", content)
        event_id: str = answer["event_id"]
        return event_id

    async def say(self, room: str, text: str, *, thread: str | None = None, **more: Any) -> str:
        """A message, in the thread below the event `thread` if that is given."""
        content: Event = {"msgtype": "m.text", "body": text, **more}
        if thread is not None:
            content["m.relates_to"] = {
                "rel_type": "m.thread",
                "event_id": thread,
                "is_falling_back": True,
                "m.in_reply_to": {"event_id": thread},
            }
        return await self.send(room, content)

    async def edit(self, room: str, event_id: str, text: str) -> str:
        content = {
            "msgtype": "m.text",
            "body": f"* {text}",
            "m.new_content": {"msgtype": "m.text", "body": text},
            "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
        }
        return await self.send(room, content)

    async def react(self, room: str, event_id: str, key: str) -> str:
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        return await self.send(room, {"m.relates_to": relation}, "m.reaction")

    async def redact(self, room: str, event_id: str) -> str:
        transaction = f"{self._run}-{next(self._numbers)}"
        answer = await self.call("PUT", f"rooms/{quote(room)}/redact/{quote(event_id)}/{transaction}", {})
        redaction: str = answer["event_id"]
        return redaction

    async def upload(self, content: bytes, name: str, media_type: str) -> str:
        """Put a file into the media repository; its ``mxc://`` address."""
        url = f"{self.account.homeserver}/_matrix/media/v3/upload"
        headers = {"Content-Type": media_type}
        async with self._http.post(url, params={"filename": name}, data=content, headers=headers) as response:
            answer = await response.json()
            assert response.status == 200, answer
            address: str = answer["content_uri"]
            return address

    async def send_file(
        self, room: str, content: bytes, name: str, media_type: str, *, thread: str | None = None, caption: str = ""
    ) -> str:
        """A file, or a picture, as a message."""
        return await self.say(
            room,
            caption or name,
            thread=thread,
            msgtype="m.image" if media_type.startswith("image/") else "m.file",
            url=await self.upload(content, name, media_type),
            filename=name,
            info={"mimetype": media_type, "size": len(content)},
        )

    # --- seeing --------------------------------------------------------------------------------------------------

    async def wait_for(self, room: str, wanted: Callable[[Event], bool], *, limit: float = LIMIT) -> Event:
        """The first event of the room, old or new, that `wanted` says yes to.

        Raises:
            AssertionError: none came within `limit` seconds; the message tells what did.
        """
        checked = 0
        try:
            async with asyncio.timeout(limit):
                while True:
                    events = self.seen.get(room, [])
                    for event in events[checked:]:
                        if wanted(event):
                            return event
                    checked = len(events)
                    await self.sync(known=checked, room=room)
        except TimeoutError:
            told = "\n".join(f"  {event['sender']}: {body(event)!r}" for event in self.seen.get(room, [])[-15:])
            raise AssertionError(f"not seen in {limit:.0f} s; the last of {room}:\n{told}") from None

    async def wait_for_typing(self, room: str, user_id: str, *, limit: float = LIMIT) -> None:
        """Wait until somebody is shown as typing."""
        async with asyncio.timeout(limit):
            while user_id not in self.typing.get(room, []):
                await self.sync(timeout=1)

    async def sync(self, *, timeout: float = 10.0, room: str | None = None, known: int = 0) -> None:
        """One long poll, of at most `timeout` seconds; none when another one has brought news of `room` meanwhile."""
        async with self._syncing:
            if room is not None and len(self.seen.get(room, [])) > known:
                return
            wanted = {"room": {"timeline": {"limit": 5000}}}
            parameters = {"filter": json.dumps(wanted), "timeout": str(int(timeout * 1000))}
            if self._since is not None:
                parameters["since"] = self._since
            answer = await self.call("GET", "sync", parameters=parameters)
            self._since = answer["next_batch"]
            rooms = answer.get("rooms", {})
            self.invitations |= set(rooms.get("invite", {}))
            for room_id, joined in rooms.get("join", {}).items():
                self.seen.setdefault(room_id, []).extend(joined["timeline"]["events"])
                for event in joined.get("ephemeral", {}).get("events", []):
                    if event["type"] == "m.typing":
                        self.typing[room_id] = event["content"]["user_ids"]

    async def events(self, room: str) -> list[Event]:
        """Everything that the server has of the room now, oldest first, relations included."""
        found: list[Event] = []
        page: str | None = None
        while True:
            parameters = {"dir": "b", "limit": "500"} | ({"from": page} if page else {})
            answer = await self.call("GET", f"rooms/{quote(room)}/messages", parameters=parameters)
            found.extend(answer["chunk"])
            page = answer.get("end")
            if page is None:
                return found[::-1]

    async def messages(self, room: str, sender: str) -> list[Event]:
        """The messages of one person that stand in the room: no edits, nothing that was taken back."""
        return [
            event
            for event in await self.events(room)
            if event["sender"] == sender
            and event["type"] == "m.room.message"
            and event["content"]
            and relation(event).get("rel_type") != "m.replace"
        ]

    async def download(self, address: str) -> bytes:
        """The content behind an ``mxc://`` address."""
        path = address.removeprefix("mxc://")
        url = f"{self.account.homeserver}/_matrix/client/v1/media/download/{path}"
        async with self._http.get(url) as response:
            assert response.status == 200, await response.text()
            return await response.read()

    async def attachment(self, event: Event) -> bytes:
        """The content of the file that came with a message."""
        return await self.download(event["content"]["url"])

    async def call(
        self, method: str, path: str, body: Event | None = None, *, parameters: dict[str, str] | None = None
    ) -> Event:
        url = f"{self.account.homeserver}/_matrix/client/v3/{path}"
        async with self._http.request(method, url, json=body, params=parameters) as response:
            answer: Event = await response.json()
            if response.status != 200:
                raise MatrixRefusal(f"{method} {path}: {response.status} {answer}")
            return answer


class MatrixRefusal(Exception):
    """The homeserver said no."""


def body(event: Event) -> str:
    """The plain text of a message; of an edit, the new one."""
    content = event.get("content", {})
    text: str = content.get("m.new_content", content).get("body", "")
    return text


def relation(event: Event) -> Event:
    """What the event says that it relates to."""
    found: Event = event.get("content", {}).get("m.relates_to", {})
    return found


def thread_root(event: Event) -> str | None:
    """The event that opens the thread in which this one stands."""
    found = relation(event)
    return found["event_id"] if found.get("rel_type") == "m.thread" else None
