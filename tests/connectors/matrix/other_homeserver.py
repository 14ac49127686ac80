"""A homeserver with the manners of Conduit and of things that stand in front of homeservers, for one bot and one room.

Its timelines hold ten events, it ignores filters, its tokens are bare numbers, it knows neither relations nor the
newer address of media, and of a room that we had to leave it tells nothing. What comes `late` from elsewhere stands at
the beginning of the room's history. Requests can be made to fail: `faults` is asked first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

ROOM = "!room:conduit.test"
BOT = "@bot:conduit.test"
ANA = "@ana:conduit.test"
TIMELINE = 10


class OtherHomeserver:
    """`events` is the room; what is appended is seen by the next sync."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.url = ""
        self.faults: Callable[[web.Request], web.StreamResponse | None] = lambda request: None
        self.invitations: dict[str, str] = {}
        self.joins: list[str] = []
        self.late: set[str] = set()
        self._inside = True
        self._news = asyncio.Condition()
        self._transactions: dict[str, str] = {}
        self.say("m.room.member", {"membership": "join"}, sender=BOT, state_key=BOT)

    def say(self, kind: str, content: dict[str, Any], *, sender: str = ANA, **more: Any) -> str:
        """Put an event into the room."""
        event_id = f"$event{len(self.events)}"
        stamp = 1_700_000_000_000 + len(self.events)
        event = {"type": kind, "event_id": event_id, "sender": sender, "content": content, "origin_server_ts": stamp}
        self.events.append(event | more)
        return event_id

    def throw_out(self) -> None:
        """Until it joins again, the bot is not in the room."""
        self.say("m.room.member", {"membership": "leave"}, state_key=BOT)
        self._inside = False

    async def hurry(self) -> None:
        """End the long polls."""
        async with self._news:
            self._news.notify_all()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve on loopback; yields the address."""
        application = web.Application(middlewares=[self._fail])
        client = "/_matrix/client"
        application.add_routes(
            [
                web.get(f"{client}/versions", self._versions),
                web.get(f"{client}/v3/account/whoami", self._whoami),
                web.get(f"{client}/v3/sync", self._sync),
                web.get(f"{client}/v3/rooms/{{room}}/messages", self._messages),
                web.put(f"{client}/v3/rooms/{{room}}/send/{{kind}}/{{transaction}}", self._send),
                web.get(f"{client}/v3/rooms/{{room}}/state/m.room.encryption/", self._no_encryption),
                web.post(f"{client}/v3/join/{{room}}", self._join),
                web.get("/_matrix/media/v3/download/{server}/{id}", self._download),
                web.route("*", "/{path:.*}", self._unrecognized),
            ]
        )
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self.url
        finally:
            await self.hurry()
            await runner.cleanup()

    @web.middleware
    async def _fail(self, request: web.Request, handler: Any) -> web.StreamResponse:
        fault = self.faults(request)
        response: web.StreamResponse = fault if fault is not None else await handler(request)
        return response

    async def _versions(self, request: web.Request) -> web.Response:
        return web.json_response({"versions": ["v1.5"]})

    async def _whoami(self, request: web.Request) -> web.Response:
        return web.json_response({"user_id": BOT, "device_id": "BOT"})

    async def _sync(self, request: web.Request) -> web.Response:
        since = int(request.query.get("since", "0"))
        if since == len(self.events) and request.query["timeout"] != "0":
            async with self._news:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 5)
        fresh = self.events[since:]
        timeline = {"events": fresh[-TIMELINE:], "limited": len(fresh) > TIMELINE, "prev_batch": str(since)}
        rooms = {"join": {ROOM: {"timeline": timeline, "state": {"events": []}}}} if fresh and self._inside else {}
        invited: dict[str, Any] = {}
        for room, inviter in self.invitations.items():
            member = {"type": "m.room.member", "state_key": BOT, "sender": inviter, "content": {}}
            invited[room] = {"invite_state": {"events": [member]}}
        self.invitations.clear()
        return web.json_response({"next_batch": str(len(self.events)), "rooms": rooms | {"invite": invited}})

    async def _join(self, request: web.Request) -> web.Response:
        self.joins.append(request.match_info["room"])
        if request.match_info["room"] == ROOM and not self._inside:
            self.say("m.room.member", {"membership": "join"}, sender=BOT, state_key=BOT)
            self._inside = True
        return web.json_response({"room_id": request.match_info["room"]})

    async def _messages(self, request: web.Request) -> web.Response:
        if not self._inside:
            return web.json_response({"errcode": "M_FORBIDDEN", "error": "not in the room"}, status=403)
        limit = min(int(request.query["limit"]), 30)
        if request.query["dir"] == "f":
            since, _, read = request.query["from"].partition("+")
            start = int(read or 0)
            fresh = sorted(self.events[int(since) :], key=lambda event: event["event_id"] not in self.late)
            page = fresh[start : start + limit]
            end = f"{since}+{start + len(page)}"
        else:
            start = int(request.query.get("from", len(self.events)))
            page = self.events[max(0, start - limit) : start][::-1]
            end = str(max(0, start - limit))
        return web.json_response({"chunk": page, "start": "0"} | ({"end": end} if page else {}))

    async def _send(self, request: web.Request) -> web.Response:
        transaction = request.match_info["transaction"]
        if transaction not in self._transactions:
            kind, content = request.match_info["kind"], await request.json()
            self._transactions[transaction] = self.say(kind, content, sender=BOT)
        return web.json_response({"event_id": self._transactions[transaction]})

    async def _no_encryption(self, request: web.Request) -> web.Response:
        return web.json_response({"errcode": "M_NOT_FOUND", "error": "no such state"}, status=404)

    async def _download(self, request: web.Request) -> web.StreamResponse:
        # Without a length: the limit must hold while reading.
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                await response.write(b"x" * 65_536)
        return response

    async def _unrecognized(self, request: web.Request) -> web.Response:
        return web.json_response({"errcode": "M_UNRECOGNIZED", "error": "unknown request"}, status=404)
