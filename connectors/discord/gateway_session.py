"""The session with the gateway: discord.py speaks its protocol, and this says when it is over.

discord.py identifies, sends heartbeats, resumes and decompresses. Its own loop around that reconnects for ever without
a word; the one here says each time how things stand, and ends where only a person can help.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import discord
import structlog
import yarl
from discord.gateway import DiscordWebSocket, ReconnectWebSocket
from discord.http import HTTPClient, Route

from connectors.contract.connector_protocol import NeedsPerson, NotReady
from connectors.discord.json_values import Json
from connectors.discord.rest_client import DiscordClient, DiscordRefusal, DiscordRequestError

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
#: Seconds after which a session counts as one that lasts.
SETTLED = 60.0
#: Failures in a row after which a session is begun again.
RESUMES = 3
#: Seconds without a word, after which a connection is given up.
SILENCE_S = 60.0
_DISALLOWED_INTENTS = 4014
_CONNECT_TIMEOUT = 60.0

#: The permissions that the bot needs in its channel, as discord.py and as Discord's settings call them.
NEEDED = {
    "view_channel": "View Channel",
    "send_messages": "Send Messages",
    "create_public_threads": "Create Public Threads",
    "send_messages_in_threads": "Send Messages in Threads",
    "read_message_history": "Read Message History",
    "add_reactions": "Add Reactions",
    "attach_files": "Attach Files",
}

# No one here misses voice.
discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False

_log = structlog.get_logger(__name__)


class GatewaySession(discord.Client):
    """discord.py's client over our wire. Every event goes to `heard`, in order, as Discord sent it."""

    def __init__(self, wire: DiscordClient, *, message_content: bool, heard: Callable[[str, Json], None]) -> None:
        intents = discord.Intents.none()
        intents.guilds = intents.guild_messages = intents.dm_messages = True
        intents.guild_reactions = intents.dm_reactions = True
        intents.message_content = message_content
        super().__init__(
            intents=intents,
            max_messages=None,
            heartbeat_timeout=SILENCE_S,
            chunk_guilds_at_startup=False,
            member_cache_flags=discord.MemberCacheFlags.none(),
            allowed_mentions=discord.AllowedMentions.none(),
            enable_debug_events=True,
        )
        self.http = self._connection.http = _Requests(wire)
        # What discord.py makes of an event is needed of the server and its channels alone, and nothing that it cannot
        # read (a kind of message that is newer than it) is to end the session.
        self._connection.parsers = {
            event: _forgiving(event, parse)
            for event, parse in self._connection.parsers.items()
            if event == "READY" or event.startswith(("GUILD_", "CHANNEL_"))
        }
        self.reads_content = message_content
        """Whether Discord shows what is written in the server, and not only what mentions us."""
        self.trouble: str | None = "Not connected yet."
        """Why nothing is heard just now; None while it is."""
        self._wire = wire
        self._heard = heard
        self._steady = time.monotonic
        self._entered: float | None = None
        """Since when the connection has a session."""

    def dispatch(self, event: str, /, *args: Any, **kwargs: Any) -> None:
        """Take what the gateway sends. discord.py calls this for everything; its own listeners are not used."""
        if event != "socket_raw_receive":
            return
        payload = json.loads(args[0])
        if payload.get("op") == DiscordWebSocket.DISPATCH and isinstance(payload.get("d"), dict):
            if payload["t"] in ("READY", "RESUMED"):
                self.trouble, self._entered = None, self._steady()
            self._heard(payload["t"], payload["d"])

    async def enter(self, token: str, *, reference: str) -> str:
        """Log in. Returns the gateway's address.

        Raises:
            NeedsPerson: the token is not valid.
            NotReady: Discord cannot say now.
        """
        return await self._way_in(self.login(token), reference=reference)

    async def _way_in(self, before: Awaitable[None] | None = None, *, reference: str) -> str:
        """Return the gateway's address. To be asked before each new session: of who starts more than Discord lets it in
        a day, the token is reset (Gateway documentation, "Session Start Limit Object").
        """
        try:
            if before is not None:
                await before
            answer = await self._wire.call("GET", "/gateway/bot")
        except DiscordRefusal as error:
            if error.status == 401:
                raise NeedsPerson(bad_token(reference)) from error
            raise NotReady(f"Discord does not let the bot in now: {error}.") from error
        except DiscordRequestError as error:
            raise NotReady(f"Discord cannot be reached: {error}.") from error
        left = answer.get("session_start_limit", {}).get("remaining", 1)
        if left < 1:
            raise NotReady("Discord lets the bot start no more sessions today. It is tried again.")
        return str(answer["url"])

    async def listen(self, gateway: str, *, reference: str) -> None:
        """Hear the gateway, until cancelled.

        Raises:
            NeedsPerson: it closed the connection for a reason that only a person can take away.
            NotReady: it closed it for one that we do not know how to mend.
        """
        first = yarl.URL(gateway)
        parameters: Json = {"initial": True, "gateway": first}
        failures = 0
        while True:
            self._entered = None
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT):
                    self.ws = await DiscordWebSocket.from_client(self, **parameters)
                parameters["initial"] = False
                while True:
                    await self.ws.poll_event()
            except ReconnectWebSocket as again:
                self.trouble = "The connection to Discord was lost; reconnecting."
                parameters |= self._where_we_were(first, resume=again.resume)
            except discord.ConnectionClosed as error:
                if error.code != _DISALLOWED_INTENTS or not self.reads_content:
                    raise _closed(error.code, reference) from error
                # The bot works without: by slash commands, and by what mentions it.
                self._connection._intents.message_content = self.reads_content = False
                parameters |= self._where_we_were(first, resume=False)
            except (OSError, aiohttp.ClientError, TimeoutError) as error:
                self.trouble = f"Discord cannot be reached ({type(error).__name__}); reconnecting."
                parameters |= self._where_we_were(first, resume=True)
            if self._entered is not None and self._steady() - self._entered >= SETTLED:
                failures = 0
            if failures >= RESUMES:
                # Where the session is to be resumed, no one may be any more.
                parameters |= self._where_we_were(first, resume=False)
            _log.info("discord_reconnecting", resume=parameters["resume"], failures=failures)
            if failures:
                await asyncio.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 30)))
            failures += 1
            if not parameters["resume"]:
                first = yarl.URL(await self._way_in(reference=reference))
                parameters["gateway"] = first

    def _where_we_were(self, first: yarl.URL, *, resume: bool) -> Json:
        socket = self.ws
        if not resume or socket is None or socket.session_id is None:
            return {"resume": False, "session": None, "sequence": None, "gateway": first}
        return {"resume": True, "session": socket.session_id, "sequence": socket.sequence, "gateway": socket.gateway}

    def has_channel(self, guild: str, channel: str) -> bool | None:
        """Return whether the server has this channel, and it is one for text; None while that cannot be said."""
        found = self.get_guild(int(guild))
        if found is None or found.unavailable:
            return None
        return isinstance(found.get_channel(int(channel)), discord.TextChannel)

    def missing(self, guild: str, channel: str) -> list[str] | None:
        """Return the permissions that the bot lacks in a channel; None while that cannot be said."""
        found = self.get_guild(int(guild))
        place = None if found is None else found.get_channel(int(channel))
        if found is None or place is None or found.me is None:
            return None
        granted = place.permissions_for(found.me)
        return [words for name, words in NEEDED.items() if not getattr(granted, name)]


class _Requests(HTTPClient):
    """What discord.py asks of the REST API, over our wire."""

    def __init__(self, wire: DiscordClient) -> None:
        super().__init__(asyncio.get_running_loop())
        self._wire = wire

    async def static_login(self, token: str) -> Any:
        self.token = self._wire.token = token
        return await self.request(Route("GET", "/users/@me"))

    async def request(self, route: Route, **details: Any) -> Any:
        path = route.url.removeprefix(Route.BASE)
        return await self._wire.call(route.method, path, body=details.get("json"), query=details.get("params"))

    async def ws_connect(self, url: str, *, compress: int = 0) -> aiohttp.ClientWebSocketResponse:
        return await self._wire.session.ws_connect(url, max_msg_size=0, autoclose=False, compress=compress)

    async def close(self) -> None:
        """Nothing: the wire is closed by who made it."""


def _forgiving(event: str, parse: Callable[[Any], None]) -> Callable[[Any], None]:
    def attempt(told: Any) -> None:
        try:
            parse(told)
        except Exception as error:
            _log.warning("discord_event_not_understood", event_type=event, error=repr(error))

    return attempt


def bad_token(reference: str) -> str:
    """Return what a person does about a token that is not valid."""
    return (
        "Discord does not know the bot's token; it was reset, or never right. Make a new one in the developer portal "
        f"(your application, Bot, Reset Token), put it where {reference} points, then restart Muster."
    )


def _closed(code: int | None, reference: str) -> NeedsPerson | NotReady:
    # Gateway documentation, "Gateway Close Event Codes".
    match code:
        case 4004:
            return NeedsPerson(bad_token(reference))
        case 4010 | 4011 | 4012 | 4013 | 4014:
            return NeedsPerson(
                f"Discord does not take the way in which this version of Muster connects (close code {code}). Update "
                "Muster."
            )
    return NotReady(f"Discord closed the connection (close code {code}).")
