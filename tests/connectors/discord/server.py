"""A fake of Discord's gateway and REST API v10, as its public documentation describes them.

async with serving() as (world, api):
    ...   # give `api` to a connector, and look at `world`
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeAlias

from aiohttp import BodyPartReader, web

from tests.connectors.discord import fake_menu
from tests.connectors.discord.fake_server_state import CONTENT, FORUM, TEXT, Place, World, public
from tests.connectors.discord.gateway import Gateway

Json: TypeAlias = dict[str, Any]

#: Seconds of leave for the first answer to an interaction.
INTERACTION = 3.0


class Refusal(Exception):
    """An error as the API words it (documentation, "JSON Error Codes")."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Discord:
    """Requests and connections to a `World`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.address = ""
        self.gateway = Gateway(world)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=30_000_000)
        app.on_shutdown.append(self.gateway.hang_up)
        channel = "/api/v10/channels/{channel}"
        message = channel + "/messages/{message}"
        routes: list[tuple[str, str, Any]] = [
            ("GET", "/api/v10/users/@me", self.me),
            ("GET", "/api/v10/oauth2/applications/@me", self.application),
            ("GET", "/api/v10/gateway/bot", self.gateway_address),
            ("GET", channel, self.read_channel),
            ("PATCH", channel, self.change_channel),
            ("POST", channel + "/typing", self.typing),
            ("GET", channel + "/messages", self.history),
            ("POST", channel + "/messages", self.post),
            ("GET", message, self.read_message),
            ("PATCH", message, self.change_message),
            ("DELETE", message, self.delete_message),
            ("POST", message + "/threads", self.open_thread),
            ("PUT", message + "/reactions/{emoji}/@me", self.react),
            ("GET", message + "/reactions/{emoji}", self.who_reacted),
            ("GET", channel + "/threads/archived/public", self.archived),
            ("GET", "/api/v10/guilds/{guild}/members/{user}", self.member),
            ("GET", "/api/v10/guilds/{guild}/channels", self.read_channels),
            ("POST", "/api/v10/guilds/{guild}/channels", self.make_channel),
            ("PUT", "/api/v10/applications/{app}/guilds/{guild}/commands", self.put_commands),
            ("GET", "/api/v10/applications/{app}/guilds/{guild}/commands", self.read_commands),
            ("PUT", "/api/v10/applications/{app}/commands", self.put_commands),
            ("GET", "/api/v10/applications/{app}/commands", self.read_commands),
            ("POST", "/api/v10/interactions/{id}/{token}/callback", self.callback),
            ("POST", "/api/v10/webhooks/{app}/{token}", self.followup),
            ("PATCH", "/api/v10/webhooks/{app}/{token}/messages/@original", self.original),
            ("GET", "/api/v10/webhooks/{app}/{token}/messages/@original", self.read_original),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, self._answering(handler))
        app.router.add_get("/gateway", self.gateway.connect)
        app.router.add_get("/attachments/{path:.*}", self.attachment)
        return app

    def _answering(self, handler: Any) -> Any:
        async def answer(request: web.Request) -> web.StreamResponse:
            asked = f"{request.method} {request.path.removeprefix('/api/v10')}"
            self.world.wire.append(asked)
            if self.world.on_arrival is not None:
                self.world.on_arrival(asked)
            try:
                open_to_all = request.path.startswith(("/api/v10/interactions", "/api/v10/webhooks"))
                if not open_to_all and request.headers.get("Authorization") != f"Bot {self.world.token}":
                    raise Refusal(401, 0, "401: Unauthorized")
                kind, channel = handler.__name__, request.match_info.get("channel", "")
                left: dict[str, str] = {}
                if not open_to_all:
                    left, after, everywhere = self.world.limits.take(kind, channel)
                    if after is not None:
                        return self._limited(everywhere=everywhere, after=after, headers=left)
                found = await handler(request)
                if self.world.on_request is not None:
                    self.world.on_request(asked)
            except Refusal as no:
                return web.json_response({"message": no.message, "code": no.code}, status=no.status)
            if isinstance(found, web.StreamResponse):
                return found
            headers = self.world.allowance | left | {"X-RateLimit-Bucket": handler.__name__}
            return (
                web.Response(status=204, headers=headers)
                if found is None
                else web.json_response(found, headers=headers)
            )

        return answer

    # --- who and what --------------------------------------------------------------------------------------------

    async def me(self, request: web.Request) -> Json:
        return self.world.bot.json()

    async def application(self, request: web.Request) -> Json:
        return {
            "id": str(self.world.bot.id),
            "name": "muster",
            "description": "",
            "icon": None,
            "bot_public": False,
            "bot_require_code_grant": False,
            "verify_key": "",
            "flags": 1 << 19 if self.world.granted else 0,
            "owner": self.world.ana.json(),
            "interactions_endpoint_url": self.world.endpoint,
        }

    async def gateway_address(self, request: web.Request) -> Json:
        limit = {
            "total": 1000,
            "remaining": self.world.starts_left - self.world.identifies,
            "reset_after": 0,
            "max_concurrency": 1,
        }
        return {"url": f"ws{self.address[4:]}/gateway", "shards": 1, "session_start_limit": limit}

    async def member(self, request: web.Request) -> Json:
        found = self.world.accounts.get(int(request.match_info["user"]))
        if found is None or request.match_info["guild"] != str(self.world.guild):
            raise Refusal(404, 10007, "Unknown Member")
        return self.world.member(found) | {"user": found.json()}

    # --- channels ------------------------------------------------------------------------------------------------

    async def read_channels(self, request: web.Request) -> web.Response:
        found = [each for each in self.world.places.values() if each.type in (TEXT, FORUM)]
        return web.json_response([self.world.place_json(each) for each in found])

    async def make_channel(self, request: web.Request) -> Json:
        body = await request.json()
        if not self.world.may_make_channels:
            raise Refusal(403, 50013, "Missing Permissions")
        parent = None if body["parent_id"] is None else int(body["parent_id"])
        made = Place(id=self.world.fresh(), type=TEXT, name=body["name"], category=parent, topic=body["topic"])
        return self.world.place_json(self.world.add(made))

    async def read_channel(self, request: web.Request) -> Json:
        return self.world.place_json(self._place(request))

    async def change_channel(self, request: web.Request) -> Json | web.StreamResponse:
        place, body = self._place(request), await request.json()
        if place.archived and body != {"archived": False}:
            raise Refusal(400, 50083, "Thread is archived")
        if body.get("name", place.name) != place.name:
            self._allow(place, "rename")
            # "There are stricter limits": as people have found out, and with headers that say nothing of it.
            since = time.monotonic() - self.world.rename_window
            lately = [each for each in self.world.renames if each[0] == place.id and each[2] > since]
            if len(lately) >= 2:
                return self._limited(everywhere=False, after=lately[-2][2] - since, headers=self.world.allowance)
            self.world.renames.append((place.id, body["name"], time.monotonic()))
        place.archived = body.get("archived", place.archived)
        place.name = body.get("name", place.name)
        place.archived_at = time.time()
        self.world.dispatch("THREAD_UPDATE", self.world.place_json(place), 1)
        return self.world.place_json(place)

    async def typing(self, request: web.Request) -> None:
        self.world.typing.append(self._place(request).id)
        self.world.notify()

    async def archived(self, request: web.Request) -> Json:
        place = self._place(request)
        found = [each for each in self.world.threads() if each.parent == place.id and each.archived]
        found.sort(key=lambda each: -each.archived_at)
        if "before" in request.query:
            before = datetime.fromisoformat(request.query["before"]).timestamp()
            found = [each for each in found if each.archived_at < before]
        page = found[: int(request.query.get("limit", 50))]
        threads = [self.world.place_json(each) for each in page]
        return {"threads": threads, "members": [], "has_more": len(page) < len(found)}

    # --- messages ------------------------------------------------------------------------------------------------

    async def history(self, request: web.Request) -> web.Response:
        place, query = self._place(request), request.query
        limit = int(query.get("limit", 50))
        if not 1 <= limit <= 100:
            raise Refusal(400, 50035, "Invalid Form Body")
        found = sorted(place.messages.values(), key=lambda each: int(each["id"]))
        if "after" in query:
            found = [each for each in found if int(each["id"]) > int(query["after"])][:limit]
        else:
            before = int(query.get("before", 1 << 63))
            found = [each for each in found if int(each["id"]) < before][-limit:]
        shown = [public(each) for each in reversed(found)]
        if not self.world.granted or not any(s.intents & CONTENT for s in self.world.sessions.values()):
            ours = str(self.world.bot.id)
            shown = [m if m["author"]["id"] == ours or m["mentions"] else m | {"content": ""} for m in shown]
        return web.json_response(shown)

    async def post(self, request: web.Request) -> Json | web.StreamResponse:
        place = self._place(request)
        body, files = await self._said(request)
        fault = self.world.script.popleft() if self.world.script else None
        if fault == "500":
            raise Refusal(500, 0, "internal error")
        if fault is not None and fault.startswith("429"):
            return self._limited(everywhere=fault.endswith("global"))
        if fault is not None and fault.startswith("html"):
            return web.Response(status=int(fault.split()[1]), text="<html>Are you human?</html>")
        self.world.posts.append(body)
        self._allow(place, "send")
        self._check(body, files)
        if files:
            self._allow(place, "files")
            self._weigh(files)
        body["attachments"] = [
            self.world.upload(name, kind, content, place=place) | {"title": None} for name, kind, content in files
        ]
        message = self.world.create(place, self.world.bot, body)
        if fault == "lost":
            assert request.transport is not None
            request.transport.close()
        shown = public(message)
        return shown | {"nonce": body["nonce"]} if "nonce" in body else shown

    async def read_message(self, request: web.Request) -> Json:
        return self._located(public(self._message(request)))

    async def change_message(self, request: web.Request) -> Json:
        place, message = self._place(request), self._message(request)
        if place.archived:
            raise Refusal(400, 50083, "Thread is archived")
        if message["author"]["id"] != str(self.world.bot.id):
            raise Refusal(403, 50005, "Cannot edit a message authored by another user")
        body, _ = await self._said(request)
        self._check(body, [])
        message["_edits"] = [*message.get("_edits", []), body]
        message["components"] = body.get("components", message["components"])
        self.world.edit(message["id"], body["content"])
        return public(message)

    async def delete_message(self, request: web.Request) -> None:
        self._message(request)
        self.world.delete(request.match_info["message"])

    async def open_thread(self, request: web.Request) -> Json:
        place, message, body = self._place(request), self._message(request), await request.json()
        self._allow(place, "threads")
        if place.type != TEXT:
            raise Refusal(400, 50024, "Cannot execute action on this channel type")
        if int(message["id"]) in self.world.places:
            raise Refusal(400, 160004, "A thread has already been created for this message")
        if not 1 <= len(body.get("name", "")) <= 100:
            raise Refusal(400, 50035, "Invalid Form Body")
        return self.world.place_json(self.world.open_thread(place, int(message["id"]), body["name"]))

    async def react(self, request: web.Request) -> None:
        place, message = self._place(request), self._message(request)
        if place.archived:
            raise Refusal(400, 50083, "Thread is archived")
        self._allow(place, "react")
        emoji = request.match_info["emoji"]
        if self.world.bot.id not in message["_reactions"].get(emoji, []):
            self.world.react(message["id"], emoji, by=self.world.bot)

    async def who_reacted(self, request: web.Request) -> web.Response:
        people = self._message(request)["_reactions"].get(request.match_info["emoji"], [])
        return web.json_response([self.world.accounts[each].json() for each in people])

    async def attachment(self, request: web.Request) -> web.Response:
        content = self.world.files.get(request.path)
        return web.Response(status=404) if content is None else web.Response(body=content)

    # --- interactions --------------------------------------------------------------------------------------------

    async def read_commands(self, request: web.Request) -> web.Response:
        return web.json_response(self._commands(request))

    async def put_commands(self, request: web.Request) -> web.Response:
        kept, given = self._commands(request), await request.json()
        if (problem := fake_menu.problem(given, direct="guild" not in request.match_info)) is not None:
            raise Refusal(400, 50035, f"Invalid Form Body: {problem}")
        kept[:] = [fake_menu.kept(each) | {"id": str(self.world.fresh()), "version": "1"} for each in given]
        self.world.notify()
        return web.json_response(kept)

    def _commands(self, request: web.Request) -> list[Json]:
        if "guild" not in request.match_info:
            return self.world.direct_commands
        if not self.world.scoped:
            raise Refusal(403, 50001, "Missing Access")
        return self.world.commands

    async def callback(self, request: web.Request) -> Json | web.StreamResponse | None:
        number = request.match_info["id"]
        if self.world.on_callback is not None:
            await self.world.on_callback()
        if request.match_info["token"] != f"token-{number}" or number not in self.world.interactions:
            raise Refusal(404, 10062, "Unknown interaction")
        if number in self.world.callbacks:
            raise Refusal(400, 40060, "Interaction has already been acknowledged.")
        if time.monotonic() - self.world.interactions[number][1] > INTERACTION:
            raise Refusal(404, 10062, "Unknown interaction")
        answer = await request.json()
        self._note_loud(answer.get("data") or {})
        self.world.callbacks[number] = answer
        told: Json = {"id": number, "type": 2}
        if answer["type"] in (4, 5):
            told["response_message_id"] = self.world.respond(number, answer)["id"]
        self.world.notify()
        if self.world.lose_callbacks:
            self.world.lose_callbacks -= 1
            assert request.transport is not None
            request.transport.close()
        return {"interaction": told} if request.query.get("with_response") == "true" else None

    async def followup(self, request: web.Request) -> Json:
        number = self._interaction(request)
        body, files = await self._said(request)
        if self.world.script and self.world.script.popleft() == "500":
            raise Refusal(500, 0, "internal error")
        self._check(body, files)
        self._weigh(files)
        return public(self.world.respond(number, {"type": 4, "data": body}, follows=True, files=files))

    async def original(self, request: web.Request) -> Json:
        number = self._interaction(request)
        body, _ = await self._said(request)
        self._check(body, [])
        found = self.world.responses.get(number)
        if found is None:
            raise Refusal(404, 10008, "Unknown Message")
        self.world.change(found, body)
        if self.world.lose_edits:
            self.world.lose_edits -= 1
            assert request.transport is not None
            request.transport.close()
        return public(found)

    async def read_original(self, request: web.Request) -> Json:
        found = self.world.responses.get(self._interaction(request))
        if found is None:
            raise Refusal(404, 10008, "Unknown Message")
        return public(found)

    def _interaction(self, request: web.Request) -> str:
        number = request.match_info["token"].removeprefix("token-")
        if number not in self.world.callbacks:
            raise Refusal(404, 10015, "Unknown Webhook")
        if number in self.world.expired:
            raise Refusal(401, 50027, "Invalid Webhook Token")
        return number

    # --- refusing ------------------------------------------------------------------------------------------------

    def _place(self, request: web.Request) -> Place:
        place = self.world.places.get(int(request.match_info["channel"]))
        if place is None:
            raise Refusal(404, 10003, "Unknown Channel")
        if place.recipient is None and not self.world.inside:
            raise Refusal(403, 50001, "Missing Access")
        self._allow(place, "view", code=50001)
        return place

    def _allow(self, place: Place, what: str, *, code: int = 50013) -> None:
        above = self.world.places.get(place.parent or 0, place)
        if what in place.denied | above.denied:
            raise Refusal(403, code, "Missing Access" if code == 50001 else "Missing Permissions")

    def _message(self, request: web.Request) -> Json:
        found = self._place(request).messages.get(int(request.match_info["message"]))
        if found is None:
            raise Refusal(404, 10008, "Unknown Message")
        return found

    def _check(self, body: Json, files: list[tuple[str, str, bytes]]) -> None:
        text = body.get("content") or ""
        if len(text) > 2000 or len(str(body.get("nonce", ""))) > 25:
            raise Refusal(400, 50035, "Invalid Form Body")
        if not text.strip() and not files:
            raise Refusal(400, 50006, "Cannot send an empty message")
        for row in body.get("components") or []:
            names = [each["custom_id"] for each in row["components"]]
            labels = [each["label"] for each in row["components"]]
            fits = all(len(each) <= 100 for each in names) and all(1 <= len(each) <= 80 for each in labels)
            if not 1 <= len(names) <= 5 or len(set(names)) < len(names) or not fits:
                raise Refusal(400, 50035, "Invalid Form Body")

    def _weigh(self, files: list[tuple[str, str, bytes]]) -> None:
        if any(len(raw) > self.world.largest_upload for _, _, raw in files):
            raise Refusal(413, 40005, "Request entity too large")

    async def _said(self, request: web.Request) -> tuple[Json, list[tuple[str, str, bytes]]]:
        """The body of a request that says something, and its files."""
        body, files = await _body(request)
        self._note_loud(body)
        return body, files

    def _note_loud(self, body: Json) -> None:
        if body.get("content") and (body.get("allowed_mentions") or {}).get("parse") != []:
            self.world.loud.append(body)

    def _limited(
        self, *, everywhere: bool, after: float | None = None, headers: dict[str, str] | None = None
    ) -> web.Response:
        after = self.world.retry_after if after is None else after
        headers = (headers or {}) | {
            "Via": "1.1 google",
            "Retry-After": "1",
            "X-RateLimit-Scope": "global" if everywhere else "user",
        }
        if everywhere:
            headers["X-RateLimit-Global"] = "true"
        body = {"message": "You are being rate limited.", "retry_after": after, "global": everywhere}
        return web.json_response(body, status=429, headers=headers)

    def _located(self, message: Json) -> Json:
        attachments = [each | {"url": self.address + each["url"]} for each in message["attachments"]]
        found = message | {"attachments": attachments}
        if "message_snapshots" in message:
            found["message_snapshots"] = [
                each | {"message": self._located(each["message"])} for each in message["message_snapshots"]
            ]
        return found


async def _body(request: web.Request) -> tuple[Json, list[tuple[str, str, bytes]]]:
    """The JSON of a request, and its files."""
    if not request.content_type.startswith("multipart/"):
        return await request.json(), []
    body: Json = {}
    files = []
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        content = bytes(await part.read())
        if part.name == "payload_json":
            body = json.loads(content)
        else:
            files.append((part.filename or "", part.headers.get("Content-Type", ""), content))
    return body, files


@asynccontextmanager
async def serving(world: World | None = None) -> AsyncIterator[tuple[World, str]]:
    """Serve a world on the loopback; the address of its API goes with it."""
    discord = Discord(world or World())
    runner = web.AppRunner(discord.app(), shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    discord.address = discord.gateway.address = f"http://{host}:{port}"
    try:
        yield discord.world, f"{discord.address}/api/v10"
    finally:
        await runner.cleanup()
