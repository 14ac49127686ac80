"""A homeserver that behaves as Conduit does, as far as a fleet meets it: users, rooms, and what is said in them.

Registration goes by a token through user-interactive authentication, the first user is the administrator, a timeline
holds ten events whatever a filter says, a long poll ends after thirty seconds (`poll`, to have them shorter), and the
tokens of a sync are bare numbers. Everything is in memory.

    homeserver = StandIn()
    async with homeserver.running() as url: ...

`faults` is asked before each request and may answer in its place; where `lost` says so, a request is done and its
answer never arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

Json: TypeAlias = dict[str, Any]

SERVER = "conduit.test"
TIMELINE = 10
POLL = 30.0
REGISTRATION_TOKEN = "let-me-in"
#: Events that a page of the history holds at most.
PAGE = 100


@dataclass
class User:
    """Somebody with a password; for each device its token."""

    password: str
    admin: bool = False
    devices: dict[str, str] = field(default_factory=dict)


class No(Exception):
    """A refusal in Matrix's form."""

    def __init__(self, status: int, code: str, error: str, **more: object) -> None:
        super().__init__(error)
        self.response = web.json_response({"errcode": code, "error": error} | more, status=status)


class StandIn:
    """The homeserver."""

    def __init__(
        self,
        *,
        registration_token: str | None = REGISTRATION_TOKEN,
        allow_registration: bool = True,
        shared_secret: str | None = None,
        poll: float = POLL,
    ) -> None:
        self.registration_token = registration_token
        self.allow_registration = allow_registration
        self.shared_secret = shared_secret
        self.poll = poll
        self.url = ""
        self.users: dict[str, User] = {}
        self.events: list[tuple[str, Json]] = []
        """(room, event) in the order in which they were said."""
        self.requests: list[str] = []
        """Method and path of each, in order."""
        self.polls: list[float] = []
        """For how long each sync was held, at most."""
        self.faults: Callable[[web.Request], web.StreamResponse | None] = lambda request: None
        self.lost: Callable[[web.Request], bool] = lambda request: False
        self._sessions: dict[str, list[str]] = {}
        self._sent: dict[tuple[str, str, str], str] = {}
        self._said = 0
        self._news = asyncio.Condition()
        self._waking: asyncio.Task[None] | None = None
        self._nonces: set[str] = set()

    # --- what a test does ----------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[str]:
        """Serve on loopback; yields the address."""
        application = web.Application(middlewares=[self._around])
        client, room = "/_matrix/client/v3", "/_matrix/client/v3/rooms/{room}"
        application.add_routes(
            [
                web.get("/_matrix/client/versions", self._versions),
                web.post(f"{client}/register", self._register),
                web.get("/_synapse/admin/v1/register", self._nonce),
                web.post("/_synapse/admin/v1/register", self._register_by_secret),
                web.post(f"{client}/login", self._login),
                web.post(f"{client}/logout", self._logout),
                web.get(f"{client}/account/whoami", self._whoami),
                web.get(f"{client}/profile/{{user}}/displayname", self._displayname),
                web.get(f"{client}/joined_rooms", self._joined_rooms),
                web.post(f"{client}/createRoom", self._create),
                web.post(f"{room}/invite", self._invite),
                web.post(f"{client}/join/{{room}}", self._join),
                web.get(f"{room}/state/{{kind}}/{{key:.*}}", self._state),
                web.put(f"{room}/state/{{kind}}/{{key:.*}}", self._put_state),
                web.put(f"{room}/send/{{kind}}/{{transaction}}", self._send),
                web.put(f"{room}/typing/{{user}}", self._typing),
                web.get(f"{room}/messages", self._messages),
                web.get(f"{client}/sync", self._sync),
                web.route("*", "/{path:.*}", self._unrecognized),
            ]
        )
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self.url
        finally:
            await self.hurry()
            await runner.cleanup()

    async def hurry(self) -> None:
        """End the long polls."""
        async with self._news:
            self._news.notify_all()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so, looking after each thing that is said through a request."""
        async with self._news:
            await self._news.wait_for(true)

    def add_user(self, name: str, password: str) -> str:
        """Make a user as if somebody had registered it; the id."""
        user = f"@{name}:{SERVER}"
        # Conduit makes the first user of all its administrator.
        self.users[user] = User(password, admin=not self.users)
        return user

    def log_in(self, user: str, device: str) -> str:
        """A new token on a device, whose older one is over."""
        token = secrets.token_hex(8)
        self.users[user].devices[device] = token
        return token

    def say(self, room: str, sender: str, kind: str, content: Json, **more: str) -> str:
        """Put an event into a room; its id. Long polls end, and tell of all that is said until the test waits next."""
        # Never a second time, even where the homeserver goes back to an older state.
        self._said += 1
        event_id, stamp = f"$event{self._said}", 1_700_000_000_000 + self._said
        event = {"type": kind, "event_id": event_id, "sender": sender, "content": content, "origin_server_ts": stamp}
        self.events.append((room, event | more))
        with contextlib.suppress(RuntimeError):
            # Without a loop nobody polls.
            self._waking = asyncio.get_running_loop().create_task(self.hurry())
        return event_id

    def state(self, room: str) -> dict[tuple[str, str], Json]:
        """By type and key, the events that hold."""
        return {
            (each["type"], each["state_key"]): each for at, each in self.events if at == room and "state_key" in each
        }

    def membership(self, room: str, user: str) -> str | None:
        """``join``, ``invite``, ``leave`` or None."""
        event = self.state(room).get(("m.room.member", user))
        return None if event is None else event["content"]["membership"]

    @property
    def rooms(self) -> list[str]:
        """All there are."""
        return list(dict.fromkeys(room for room, _ in self.events))

    # --- users ---------------------------------------------------------------------------------------------------

    async def _register(self, request: web.Request) -> web.Response:
        body = await request.json()
        if not self.allow_registration:
            raise No(403, "M_FORBIDDEN", "Registration has been disabled.")
        user = f"@{body['username']}:{SERVER}"
        if user in self.users:
            raise No(400, "M_USER_IN_USE", "Desired user ID is already taken.")
        stage = "m.login.dummy" if self.registration_token is None else "m.login.registration_token"
        flows = {"flows": [{"stages": [stage]}], "params": {}}
        auth = body.get("auth")
        if auth is None:
            session = secrets.token_hex(8)
            self._sessions[session] = []
            return web.json_response(flows | {"session": session, "completed": []}, status=401)
        session = auth.get("session")
        if session not in self._sessions or auth.get("type") != stage:
            raise No(400, "M_BAD_JSON", "Unknown session.")
        if self.registration_token is not None and auth.get("token") != self.registration_token:
            raise No(401, "M_FORBIDDEN", "Invalid registration token.", **flows, session=session, completed=[])
        self.add_user(body["username"], body["password"])
        return web.json_response(self._let_in(user, body.get("device_id")))

    async def _nonce(self, request: web.Request) -> web.Response:
        if self.shared_secret is None:
            raise _unrecognized()
        nonce = secrets.token_hex(8)
        self._nonces.add(nonce)
        return web.json_response({"nonce": nonce})

    async def _register_by_secret(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.shared_secret is None or body["nonce"] not in self._nonces:
            raise _unrecognized()
        parts = (body["nonce"], body["username"], body["password"], "admin" if body["admin"] else "notadmin")
        mac = hmac.new(self.shared_secret.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()
        if body["mac"] != mac:
            raise No(403, "M_UNKNOWN", "HMAC incorrect")
        user = f"@{body['username']}:{SERVER}"
        if user in self.users:
            raise No(400, "M_USER_IN_USE", "User ID already taken.")
        self.add_user(body["username"], body["password"])
        self.users[user].admin = body["admin"]
        return web.json_response(self._let_in(user, None))

    async def _login(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body["identifier"]["user"]
        user = name if name.startswith("@") else f"@{name}:{SERVER}"
        if user not in self.users or self.users[user].password != body["password"]:
            raise No(403, "M_FORBIDDEN", "Wrong username or password.")
        return web.json_response(self._let_in(user, body.get("device_id")))

    def _let_in(self, user: str, device: str | None) -> Json:
        device = device or secrets.token_hex(5).upper()
        return {"user_id": user, "device_id": device, "access_token": self.log_in(user, device), "home_server": SERVER}

    async def _logout(self, request: web.Request) -> web.Response:
        user, device = self._who(request)
        del self.users[user].devices[device]
        return web.json_response({})

    async def _whoami(self, request: web.Request) -> web.Response:
        user, device = self._who(request)
        return web.json_response({"user_id": user, "device_id": device, "is_guest": False})

    async def _displayname(self, request: web.Request) -> web.Response:
        name = request.match_info["user"].partition(":")[0].removeprefix("@")
        return web.json_response({"displayname": name})

    def _who(self, request: web.Request) -> tuple[str, str]:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            raise No(401, "M_MISSING_TOKEN", "Missing access token.")
        for user, known in self.users.items():
            for device, held in known.devices.items():
                if held == token:
                    return user, device
        raise No(401, "M_UNKNOWN_TOKEN", "Unknown access token.", soft_logout=False)

    # --- rooms ---------------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request) -> web.Response:
        user, _ = self._who(request)
        body = await request.json()
        room = f"!{secrets.token_hex(6)}:{SERVER}"

        def put(kind: str, content: Json, key: str = "") -> None:
            self.say(room, user, kind, content, state_key=key)

        put("m.room.create", {"room_version": "10", "creator": user} | body.get("creation_content", {}))
        put("m.room.member", {"membership": "join"}, user)
        put("m.room.power_levels", {"users": {user: 100}, "invite": 0, "state_default": 50})
        put("m.room.join_rules", {"join_rule": "invite" if body["preset"] == "private_chat" else "public"})
        for event in body.get("initial_state", []):
            put(event["type"], event["content"], event["state_key"])
        put("m.room.name", {"name": body["name"]})
        for invited in body.get("invite", []):
            put("m.room.member", {"membership": "invite"}, invited)
        await self.hurry()
        return web.json_response({"room_id": room})

    async def _invite(self, request: web.Request) -> web.Response:
        user, room = self._inside(request)
        invited = (await request.json())["user_id"]
        if self.membership(room, invited) == "join":
            raise No(403, "M_FORBIDDEN", "User is already in the room.")
        self.say(room, user, "m.room.member", {"membership": "invite"}, state_key=invited)
        await self.hurry()
        return web.json_response({})

    async def _join(self, request: web.Request) -> web.Response:
        user, _ = self._who(request)
        room = request.match_info["room"]
        if room not in self.rooms:
            raise No(404, "M_NOT_FOUND", "No server available to assist in joining.")
        if self.membership(room, user) not in ("invite", "join"):
            raise No(403, "M_FORBIDDEN", "You are not invited to this room.")
        self.say(room, user, "m.room.member", {"membership": "join"}, state_key=user)
        await self.hurry()
        return web.json_response({"room_id": room})

    async def _joined_rooms(self, request: web.Request) -> web.Response:
        user, _ = self._who(request)
        return web.json_response(
            {"joined_rooms": [each for each in self.rooms if self.membership(each, user) == "join"]}
        )

    async def _state(self, request: web.Request) -> web.Response:
        _, room = self._inside(request)
        event = self.state(room).get((request.match_info["kind"], request.match_info["key"]))
        if event is None:
            raise No(404, "M_NOT_FOUND", "State event not found.")
        return web.json_response(event["content"])

    async def _put_state(self, request: web.Request) -> web.Response:
        user, room = self._inside(request)
        if self.state(room)["m.room.power_levels", ""]["content"]["users"].get(user, 0) < 50:
            raise No(403, "M_FORBIDDEN", "You don't have permission to send this state event.")
        key, content = request.match_info["key"], await request.json()
        event_id = self.say(room, user, request.match_info["kind"], content, state_key=key)
        return web.json_response({"event_id": event_id})

    async def _send(self, request: web.Request) -> web.Response:
        user, room = self._inside(request)
        _, device = self._who(request)
        key = (user, device, request.match_info["transaction"])
        if key not in self._sent:
            self._sent[key] = self.say(room, user, request.match_info["kind"], await request.json())
            await self.hurry()
        return web.json_response({"event_id": self._sent[key]})

    async def _typing(self, request: web.Request) -> web.Response:
        return web.json_response({})

    def _inside(self, request: web.Request) -> tuple[str, str]:
        user, _ = self._who(request)
        room = request.match_info["room"]
        if room not in self.rooms or self.membership(room, user) != "join":
            raise No(403, "M_FORBIDDEN", "You are not in this room.")
        return user, room

    # --- reading -------------------------------------------------------------------------------------------------

    async def _sync(self, request: web.Request) -> web.Response:
        user, _ = self._who(request)
        since = int(request.query.get("since", "0"))
        wait = min(int(request.query.get("timeout", "0")) / 1000, self.poll)
        self.polls.append(wait)
        # What concerns others wakes this one, too, as it does there.
        if "since" in request.query and wait:
            async with self._news:
                if since >= len(self.events):
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._news.wait(), wait)
        # Whatever a filter asks for is read and not followed.
        joined: Json = {}
        invited: Json = {}
        left: Json = {}
        for room in self.rooms:
            fresh = [event for at, event in self.events[since:] if at == room]
            membership = self.membership(room, user)
            if not fresh or membership is None:
                continue
            if membership == "invite":
                seen = self.state(room)["m.room.member", user]
                invited[room] = {"invite_state": {"events": [seen]}}
                continue
            shown = fresh[-TIMELINE:]
            timeline = {"events": shown, "limited": len(fresh) > TIMELINE, "prev_batch": self._before(shown[0])}
            begins = "since" not in request.query or not self._was_inside(room, user, since)
            state = list(self.state(room).values()) if begins else []
            news = {"timeline": timeline, "state": {"events": state}, "unread_notifications": {"highlight_count": 0}}
            (joined if membership == "join" else left)[room] = news
        return web.json_response(
            {
                "next_batch": str(len(self.events)),
                "rooms": {"join": joined, "invite": invited, "leave": left},
                "device_one_time_keys_count": {},
            }
        )

    def _before(self, event: Json) -> str:
        return str(next(place for place, (_, each) in enumerate(self.events) if each is event))

    def _was_inside(self, room: str, user: str, at: int) -> bool:
        found = [
            each["content"]["membership"]
            for where, each in self.events[:at]
            if where == room and each["type"] == "m.room.member" and each.get("state_key") == user
        ]
        return bool(found) and found[-1] == "join"

    async def _messages(self, request: web.Request) -> web.Response:
        _, room = self._inside(request)
        limit = min(int(request.query.get("limit", "10")), PAGE)
        forward = request.query["dir"] == "f"
        start = int(request.query.get("from", "0" if forward else str(len(self.events))))
        if forward:
            found = [place for place in range(start, len(self.events)) if self.events[place][0] == room][:limit]
            end = found[-1] + 1 if found else None
        else:
            found = [place for place in range(start - 1, -1, -1) if self.events[place][0] == room][:limit]
            end = found[-1] if found else None
        answer = {"start": str(start), "chunk": [self.events[place][1] for place in found], "state": []}
        return web.json_response(answer | ({} if end is None else {"end": str(end)}))

    # --- all of them ---------------------------------------------------------------------------------------------

    @web.middleware
    async def _around(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        fault = self.faults(request)
        if fault is not None:
            return fault
        try:
            response: web.StreamResponse = await handler(request)
        except No as error:
            response = error.response
        if self.lost(request):
            assert request.transport is not None
            request.transport.close()
        return response

    async def _versions(self, request: web.Request) -> web.Response:
        return web.json_response({"versions": ["r0.5.0", "r0.6.0", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5"]})

    async def _unrecognized(self, request: web.Request) -> web.Response:
        raise _unrecognized()


def _unrecognized() -> No:
    return No(404, "M_UNRECOGNIZED", "Unrecognized request")
