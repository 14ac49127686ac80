"""The connector to Discord: its life, and what goes out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from connectors.contract.connector_protocol import MessageRefused, NeedsPerson, NotReady, Sink, TryLater
from connectors.contract.messages import Attachment, Capabilities, Health, Outbound, React, Retitle, Sent
from connectors.contract.slash_command_forms import Commands
from connectors.discord import channel_creation, message_conversion, missing_content_intent
from connectors.discord.gateway_session import GatewaySession, bad_token
from connectors.discord.interactions import open_interactions
from connectors.discord.interactions.buttons import pressed
from connectors.discord.interactions.interaction_handler import (
    COMMAND,
    COMPLETION,
    COMPONENT,
    InteractionKind,
    Interactions,
)
from connectors.discord.interactions.interaction_replies import InteractionReplies
from connectors.discord.interactions.open_interactions import OpenInteractions
from connectors.discord.interactions.slash_command_menu import DiscordCommandMenu
from connectors.discord.interactions.slash_command_registration import SlashCommandRegistration
from connectors.discord.json_values import Json, identifier
from connectors.discord.message_splitting import WANTED_PARTS
from connectors.discord.missing_content_intent import MissingContentIntent
from connectors.discord.read_cursor import ReadCursor
from connectors.discord.receiver import DiscordReceiver
from connectors.discord.rest_client import DiscordClient, DiscordRefusal, DiscordRequestError, send_error
from connectors.discord.sender import DiscordSender
from connectors.discord.sent_log import FILE, SentLog
from connectors.discord.settings import API, DiscordSettings
from connectors.discord.thread_cache import ThreadCache
from core.async_waits import first_of
from core.errors import MusterError

#: Discord says "the past few minutes" ("Create Message", `enforce_nonce`).
_REMEMBERS_KEYS = 180.0
#: Of the fifty requests a second that Discord takes of a bot ("Rate Limits", Global Rate Limit): those for what is
#: said, to which the burst is added in the first second, and those that show that someone is at work.
_RATE, _BURST, _TYPING = 40.0, 5, 3
#: As many messages; what is longer goes out as a file.
LONGEST_TEXT = WANTED_PARTS * message_conversion.LONGEST - 200
#: Where Discord keeps what was uploaded.
_CDN = frozenset({"cdn.discordapp.com", "media.discordapp.net"})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Connection:
    """What there is while the bot is logged in."""

    wire: DiscordClient
    session: GatewaySession
    receiver: DiscordReceiver
    sender: DiscordSender


class DiscordConnector:
    """One bot user in one server's channel."""

    kind = "discord"
    SettingsModel = DiscordSettings

    def __init__(
        self,
        name: str,
        settings: DiscordSettings,
        folder: Path,
        *,
        commands: Commands | None = None,
        may_read: Callable[[str, Sequence[str]], Awaitable[bool]] | None = None,
        fleet_rooms: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            threads=True,
            edits=True,
            reactions=True,
            taps=True,
            buttons=True,
            titles=True,
            files=True,
            typing=True,
            max_text=LONGEST_TEXT,
            remembers_keys=_REMEMBERS_KEYS,
            rate_per_second=_RATE,
            burst=_BURST,
        )
        self._settings = settings
        self._folder = folder
        self._commands = commands
        self._may_read = may_read
        self._clock = clock
        self._places = ThreadCache(settings.channel, (*settings.channels, *fleet_rooms))
        self._sink: Sink | None = None
        self._connection: _Connection | None = None
        self._ready = asyncio.Event()
        self._authenticated: bool | None = None
        self._answered_at: float | None = None
        self._failure: str | None = None
        self._withheld = MissingContentIntent(
            path=folder / missing_content_intent.FILE,
            connector=name,
            channel=settings.channel,
            asked_for=settings.message_content,
            clock=clock,
        )
        self._me = ""
        self._typed: deque[float] = deque(maxlen=_TYPING)
        """When it was shown lately that somebody is at work, by a clock that nobody sets."""

    # --- life ----------------------------------------------------------------------------------------------------

    def subscribe(self, sink: Sink) -> None:
        """Say where inbound batches go."""
        self._sink = sink

    async def start(self, cursor: str | None) -> None:
        """Log in and receive, until cancelled. Reconnecting is done inside."""
        assert self._sink is not None, "subscribe first"
        await self.stop()
        position = None if cursor is None else ReadCursor.decode(cursor)
        reference = str(self._settings.token)
        try:
            try:
                token = await asyncio.to_thread(self._settings.token.resolve)
            except MusterError as error:
                raise NeedsPerson(str(error)) from error
            record = await asyncio.to_thread(SentLog, self._folder / FILE)
            kept = await asyncio.to_thread(OpenInteractions, self._folder / open_interactions.FILE)
            async with DiscordClient(self._settings.api, clock=self._clock) as wire:
                kinds: dict[int, InteractionKind] = {COMPONENT: partial(pressed, connector=self.name)}
                interactions = Interactions(
                    wire=wire,
                    guild=self._settings.guild,
                    places=self._places,
                    kept=kept,
                    record=record,
                    kinds=kinds,
                    clock=self._clock,
                    hand_on=lambda inbound: receiver.take(inbound),
                )
                receiver = DiscordReceiver(
                    wire=wire,
                    connector=self.name,
                    guild=self._settings.guild,
                    places=self._places,
                    record=record,
                    sink=self._sink,
                    position=position,
                    arrived=lambda event: self._arrived(interactions, event),
                    may_read=self._may_read,
                    clock=self._clock,
                )
                registration = None
                if self._commands is not None:
                    registration = SlashCommandRegistration(
                        wire=wire, guild=self._settings.guild, places=self._places, commands=self._commands
                    )
                    menu = DiscordCommandMenu(commands=self._commands, connector=self.name, roles=receiver.roles)
                    kinds |= {COMMAND: menu.chosen, COMPLETION: menu.typed}

                def hear(event: str, data: Json) -> None:
                    if event == "INTERACTION_CREATE":
                        interactions.hear(data)
                    else:
                        receiver.hear(event, data)
                    if registration is not None:
                        registration.hear(event, data)

                session = GatewaySession(wire, message_content=self._settings.message_content, heard=hear)
                try:
                    gateway = await session.enter(token, reference=reference)
                    assert session.user is not None
                    self._me = str(session.user.id)
                    self._authenticated, self._failure = True, None
                    answers = InteractionReplies(wire=wire, kept=kept, record=record, clock=self._clock)
                    sender = DiscordSender(wire=wire, places=self._places, record=record, answers=answers, me=self._me)
                    self._connection = _Connection(wire=wire, session=session, receiver=receiver, sender=sender)
                    self._say_of_application(session)
                    _log.info("discord_connected", connector=self.name, guild=self._settings.guild)
                    await first_of(
                        session.listen(gateway, reference=reference),
                        receiver.run(),
                        receiver.pending.run(),
                        interactions.run(),
                        _unknown(wire, reference),
                        *(() if registration is None else (registration.run(),)),
                        self._withheld.tell(session, receiver),
                        self._say_when_there(receiver),
                    )
                finally:
                    self._answered_at = wire.answered_at or self._answered_at
                    await session.close()
        except NeedsPerson as error:
            self._authenticated = False if self._answered_at is not None else None
            self._failure = str(error)
            raise
        except NotReady as error:
            self._failure = str(error)
            raise
        finally:
            await self.stop()

    async def connected(self) -> None:
        """Wait until the server is there."""
        await self._ready.wait()

    async def stop(self) -> None:
        """Let go of the connection; `start` closes it."""
        self._ready.clear()
        self._connection = None

    async def health(self) -> Health:
        """Return what is known of the connection."""
        connection = self._connection
        reachable: bool | None = None
        impaired = self._places.impaired
        if connection is None:
            detail = self._failure or "Not connected yet."
            reachable = None if self._failure is None else self._authenticated is False
        elif connection.session.trouble is not None:
            detail, reachable = connection.session.trouble, False
        else:
            session, reachable = connection.session, True
            detail = f"Connected to Discord as {session.user}, in the server {self._settings.guild}."
            if session.get_guild(int(self._settings.guild)) is None:
                detail = f"Connected to Discord as {session.user}."
            elif not connection.receiver.caught_up.is_set():
                detail = "Connected to Discord; reading what was said meanwhile."
            if session.has_channel(self._settings.guild, self._settings.channel) is False:
                impaired = True
                detail += (
                    f" There is no such channel in the server as {self._settings.channel}, or the bot may not see it: "
                    "look at `channel` in muster.yaml, and at the channel's permissions."
                )
            if lacking := session.missing(self._settings.guild, self._settings.channel):
                impaired = True
                detail += (
                    f" The bot lacks permissions in its channel: {', '.join(lacking)}. Give them to its role (Server "
                    "Settings, Roles), or in the channel's own settings."
                )
            if not session.reads_content:
                way_out = missing_content_intent.way_out(asked_for=self._settings.message_content)
                detail += f" {missing_content_intent.SENTENCE} {way_out}"
        return Health(
            kind=self.kind,
            reachable=reachable,
            authenticated=self._authenticated,
            last_seen=(connection.wire.answered_at if connection is not None else None) or self._answered_at,
            detail=" ".join((detail, *self._places.notes())),
            impaired=impaired,
        )

    def scope(self) -> str:
        """Return the bot: Discord recognises nonces of one author."""
        return self._me

    async def _arrived(self, interactions: Interactions, event_id: str) -> None:
        await interactions.arrived(event_id)
        await self._withheld.arrived(event_id)

    def _say_of_application(self, session: GatewaySession) -> None:
        """What the developer portal says that keeps the bot from working."""
        self._places.forget_note("endpoint")
        if session.application is not None and session.application.interactions_endpoint_url is not None:
            self._places.note(
                "endpoint",
                "Slash commands and buttons do not reach the bot: Discord sends them to an address. Empty the field "
                "Interactions Endpoint URL in the developer portal (your application, General Information).",
            )

    async def _say_when_there(self, receiver: DiscordReceiver) -> None:
        await receiver.caught_up.wait()
        self._ready.set()
        await asyncio.Event().wait()

    # --- outbound ------------------------------------------------------------------------------------------------

    async def send(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent:
        """Say one thing."""
        sender = self._connected().sender
        try:
            sent = await sender.say(outbound, conversation=conversation, target=target)
        except DiscordRequestError as error:
            raise self._not_sent(error, outbound, conversation) from error
        self._places.forget_note(f"forbidden {conversation}")
        return sent

    async def find(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent | None:
        """Look whether it exists already."""
        sender = self._connected().sender
        try:
            return await sender.find(outbound, conversation=conversation, target=target)
        except DiscordRefusal as error:
            if error.passes or error.forbidden:
                raise self._not_sent(error, outbound, conversation) from error
            # The conversation is gone: whether it can be said there, the attempt to send it will say.
            return None
        except DiscordRequestError as error:
            raise send_error(error) from error

    async def make_room(
        self, name: str, *, key: str, beside: str | None, people: Sequence[str], owners: Sequence[str]
    ) -> str:
        """Make a channel in the category of the fleet's, which the same people see."""
        del people, owners
        connection = self._connected()
        try:
            made = await channel_creation.create(
                connection.wire, guild=self._settings.guild, name=name, key=key, beside=beside or self._settings.channel
            )
        except DiscordRefusal as error:
            if error.forbidden:
                raise MessageRefused(
                    "the bot may not make channels. Give its role Manage Channels (Server Settings, Roles)."
                ) from error
            raise send_error(error) from error
        except DiscordRequestError as error:
            raise send_error(error) from error
        await connection.receiver.hear_too(made)
        return made

    async def hear_room(self, room: str) -> None:
        """Hear a channel or forum of the server from now on."""
        connection = self._connected()
        try:
            found = await connection.wire.call("GET", f"/channels/{room}") if identifier(room) else None
        except DiscordRefusal as error:
            if error.passes:
                raise send_error(error) from error
            raise MessageRefused(
                f"the bot does not see a channel {room}. Give its role View Channel there, and look at the id."
            ) from error
        except DiscordRequestError as error:
            raise send_error(error) from error
        if (
            not isinstance(found, dict)
            or found.get("guild_id") != self._settings.guild
            or found.get("parent_id") in (self._places.channels)
        ):
            raise MessageRefused(
                f"{room} is no channel or forum of the server {self._settings.guild}. Take the id of such a one."
            )
        await connection.receiver.hear_too(room)

    async def typing(self, conversation: str, *, active: bool) -> None:
        """Show that someone is at work, for ten seconds; Discord offers nothing to end it sooner."""
        connection, now = self._connection, time.monotonic()
        if active and connection is not None and (len(self._typed) < _TYPING or now - self._typed[0] >= 1.0):
            self._typed.append(now)
            with contextlib.suppress(DiscordRequestError):
                await connection.wire.call("POST", f"/channels/{conversation}/typing")

    async def download(self, attachment: Attachment, *, limit: int) -> bytes:
        """Return the content of an attachment. Its address is asked for again, since addresses end after a day."""
        wire, parts = self._connected().wire, attachment.ref.split("/")
        if len(parts) != 3 or not all(identifier(part) for part in parts):
            raise MessageRefused(f"{attachment.name} has no address on Discord.")
        try:
            message = await wire.call("GET", f"/channels/{parts[0]}/messages/{parts[1]}")
            urls = [str(each.get("url")) for each in message_conversion.attached(message) if each.get("id") == parts[2]]
            if not urls or not self._is_discords(urls[0]):
                raise MessageRefused(f"{attachment.name} is not on Discord any more.")
            found = await wire.read(urls[0], limit=limit)
        except DiscordRequestError as error:
            failed = send_error(error)
            if isinstance(failed, TryLater):
                failed.away = self._connection is None or self._connection.session.trouble is not None
            raise failed from error
        if found is None:
            raise MessageRefused(f"{attachment.name} is larger than the {limit:,} bytes that are taken.")
        return found

    # --- inside --------------------------------------------------------------------------------------------------

    def _connected(self) -> _Connection:
        if self._connection is None:
            raise TryLater(self._failure or "the connection to Discord is not there yet", away=True)
        return self._connection

    def _not_sent(self, error: DiscordRequestError, outbound: Outbound, conversation: str) -> TryLater | MessageRefused:
        if isinstance(error, DiscordRefusal) and error.forbidden and not isinstance(outbound.content, React | Retitle):
            sentence = (
                f"The bot may not say something in {conversation}: {error}. Give its role the permission, or let it "
                "into the channel."
            )
            # What still waits for a channel that the settings name no more says nothing of how the connector is now.
            position = self._connection.receiver.position if self._connection is not None else None
            direct = position is not None and conversation in position.direct
            ours = direct or self._places.is_ours(conversation)
            self._places.note(f"forbidden {conversation}", sentence, mild=not ours)
            return TryLater(sentence)
        return send_error(error)

    def _is_discords(self, url: str) -> bool:
        """Return whether a file lies where Discord keeps them: an address is not to lead us elsewhere."""
        parts = urlsplit(url)
        if self._settings.api == API:
            return parts.scheme == "https" and parts.hostname in _CDN
        return parts.hostname in _CDN or parts.netloc == urlsplit(self._settings.api).netloc


async def _unknown(wire: DiscordClient, reference: str) -> None:
    """Discord does not know the token any more, whatever the gateway does."""
    await wire.unauthorized.wait()
    raise NeedsPerson(bad_token(reference))
