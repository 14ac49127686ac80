"""The connector to Matrix: its life, and what goes out."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from connectors.contract import NeedsPerson, NotReady, Refused, TryLater
from connectors.matrix import content, history
from connectors.matrix.content import Me
from connectors.matrix.rooms import Rooms
from connectors.matrix.session import how_to_log_in_again, kept, log_in
from connectors.matrix.settings import MatrixSettings
from connectors.matrix.sync import Receiver
from connectors.matrix.wire import CLIENT, MEDIA, MatrixRefusal, Wire, WireError, send_error
from connectors.messages import Capabilities, File, Health, Message, OpenThread, React, Replace, Sent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from connectors.contract import Sink
    from connectors.messages import Attachment, Outbound

Json: TypeAlias = dict[str, Any]

#: Synapse forgets transaction ids after 24 hours.
_REMEMBERS_KEYS = 23 * 3600.0
#: Text and HTML together stay under what one event holds, with room for what an edit repeats.
_MAX_TEXT = 40_000
#: Bytes of content with relations and our key; what the homeserver adds comes on top of it.
_HARD_LIMIT = content.CONTENT_LIMIT + 2_500
_TYPING = 45.0
#: Seconds after which it is tried again to say something in a room that the bot is not in.
_INVITED_WITHIN = 5.0

_log = structlog.get_logger(__name__)


class MatrixConnector:
    """One bot user on one homeserver."""

    kind = "matrix"
    SettingsModel = MatrixSettings

    def __init__(
        self,
        name: str,
        settings: MatrixSettings,
        folder: Path,
        *,
        may_invite: Callable[[str], Awaitable[bool]] | None = None,
        clock: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            threads=True,
            edits=True,
            reactions=True,
            taps=True,
            files=True,
            typing=True,
            html=True,
            max_text=_MAX_TEXT,
            remembers_keys=_REMEMBERS_KEYS,
            rate_per_second=settings.messages_per_second,
            burst=settings.burst,
        )
        self._settings = settings
        self._folder = folder
        self._may_invite = may_invite or _nobody
        self._clock = clock
        self._rng = rng
        self._rooms = Rooms()
        self._sink: Sink | None = None
        self._wire: Wire | None = None
        self._receiver: Receiver | None = None
        self._connection = asyncio.Event()
        self._authenticated: bool | None = None
        self._answered_at: float | None = None
        self._failure: str | None = None
        earlier = kept(folder, settings)
        self._device = earlier.device if earlier is not None else ""

    # --- life ----------------------------------------------------------------------------------------------------

    def subscribe(self, sink: Sink) -> None:
        """Say where inbound batches go."""
        self._sink = sink

    async def start(self, cursor: str | None) -> None:
        """Log in and receive, until cancelled.

        An outage is waited out inside; `NotReady` means that the homeserver was not there to begin with.
        """
        assert self._sink is not None, "subscribe first"
        await self.stop()
        wire = Wire(self._settings.homeserver, clock=self._clock)
        try:
            session = await log_in(wire, self._settings, self._folder)
            self._device, self._authenticated = session.device, True
            me = await self._introduce(wire)
            self._receiver = Receiver(
                wire=wire,
                connector=self.name,
                me=me,
                allowed=frozenset(self._settings.rooms),
                rooms=self._rooms,
                sink=self._sink,
                may_invite=self._may_invite,
                random=self._rng,
                log_in_again=how_to_log_in_again(self._settings, self._folder),
            )
            self._wire, self._failure = wire, None
            self._connection.set()
            _log.info("matrix_connected", connector=self.name, homeserver=self._settings.homeserver)
            await self._receiver.run(cursor)
        except NeedsPerson as error:
            self._authenticated, self._failure = False, str(error)
            raise
        except NotReady as error:
            self._failure = str(error)
            raise
        finally:
            self._answered_at = wire.answered_at or self._answered_at
            if self._wire is not wire:
                await wire.close()

    async def connected(self) -> None:
        """Wait for the log-in."""
        await self._connection.wait()

    async def stop(self) -> None:
        """Release the connections."""
        self._connection.clear()
        wire, self._wire = self._wire, None
        self._receiver = None
        if wire is not None:
            self._answered_at = wire.answered_at or self._answered_at
            await wire.close()

    async def health(self) -> Health:
        """What is known of the connection."""
        wire, receiver = self._wire, self._receiver
        failure = receiver.failure if receiver is not None and receiver.failure else self._failure
        reachable: bool | None = None
        if failure is not None:
            detail = failure
            # Somebody who says that the log-in is over has answered.
            reachable = self._authenticated is False and self._answered_at is not None
        elif receiver is None:
            detail = "Not connected yet."
        else:
            reachable = True
            rooms = "one room" if len(receiver.inside) == 1 else f"{len(receiver.inside)} rooms"
            detail = f"Connected to {self._settings.homeserver} as {self._settings.user}, in {rooms}."
        return Health(
            kind=self.kind,
            reachable=reachable,
            authenticated=self._authenticated,
            last_seen=(wire.answered_at if wire is not None else None) or self._answered_at,
            detail=" ".join((detail, *self._rooms.notes())),
        )

    def scope(self) -> str:
        """The device: homeservers recognise transaction ids within one."""
        return self._device

    async def _introduce(self, wire: Wire) -> Me:
        """Take the wanted display name, and learn how we are called."""
        user, wanted = self._settings.user, self._settings.display_name
        path = ("profile", user, "displayname")
        try:
            found = (await wire.call("GET", *path)).get("displayname")
            if wanted is not None and wanted != found:
                await wire.call("PUT", *path, body={"displayname": wanted})
                found = wanted
        except WireError as error:
            # A name is nice to have; some homeservers have no profile of a user that never set one.
            _log.info("matrix_profile", connector=self.name, error=str(error))
            found = wanted
        return Me(user=user, display_name=found if isinstance(found, str) else wanted)

    # --- outbound ------------------------------------------------------------------------------------------------

    async def send(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent:
        """Say one thing."""
        wire = self._connected()
        room, root = content.place(conversation)
        try:
            await self._check_plain(wire, room)
            kind, event = await self._event(wire, outbound, conversation, target)
            if content.size(event) > _HARD_LIMIT:
                raise Refused(
                    f"the message has {content.size(event):,} bytes, and a Matrix event holds {_HARD_LIMIT:,}: send it "
                    "as a file."
                )
            transaction = content.transaction(outbound.key)
            answer = await wire.call("PUT", "rooms", room, "send", kind, transaction, body=event)
        except MatrixRefusal as error:
            if error.code == "M_DUPLICATE_ANNOTATION":
                return await self.find(outbound, conversation=conversation, target=target) or Sent(event_id="")
            if error.code == "M_FORBIDDEN" and not self._is_inside(room):
                self._rooms.note(
                    f"outside {room}", f"The bot is not in {room}, where it has something to say: invite it."
                )
                raise TryLater(f"the bot is not in the room {room}; invite it", after=_INVITED_WITHIN) from error
            raise send_error(error) from error
        except WireError as error:
            raise send_error(error) from error
        event_id = answer.get("event_id")
        if not isinstance(event_id, str):
            raise TryLater("the homeserver took the message without saying under which id")
        return self._sent(outbound, event_id, room, root)

    async def find(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent | None:
        """Look whether it stands already."""
        wire = self._connected()
        room, root = content.place(conversation)
        user = self._settings.user
        try:
            event_id = None
            if isinstance(reaction := outbound.content, React):
                emoji = content.clean(reaction.key)
                event_id = await history.own_reaction(wire, room, user, target or reaction.target, emoji)
            # Homeservers without the relations API still have the event itself.
            event_id = event_id or await history.own_event(wire, room, user, outbound.key)
        except MatrixRefusal as error:
            if error.passes:
                raise send_error(error) from error
            # Not in the room any more: whether it stands there, the attempt to send it will say.
            return None
        except WireError as error:
            raise send_error(error) from error
        return None if event_id is None else self._sent(outbound, event_id, room, root)

    async def typing(self, conversation: str, *, active: bool) -> None:
        """Show that somebody is at work, for 45 seconds unless it is said again."""
        wire, (room, _) = self._wire, content.place(conversation)
        if wire is None:
            return
        body: Json = {"typing": active} | ({"timeout": int(_TYPING * 1000)} if active else {})
        with contextlib.suppress(WireError):
            await wire.call("PUT", "rooms", room, "typing", self._settings.user, body=body, timeout=10.0)

    async def download(self, attachment: Attachment, *, limit: int) -> bytes:
        """The content of an attachment."""
        wire = self._connected()
        place = content.media(attachment.ref)
        if place is None:
            raise Refused(f"{attachment.name} has no address in a media repository.")
        try:
            try:
                found = await wire.read("media", "download", *place, base=f"{CLIENT}/v1", limit=limit)
            except MatrixRefusal as error:
                if error.code != "M_UNRECOGNIZED":
                    raise
                # Homeservers from before Matrix 1.11 give media to anybody.
                found = await wire.read("download", *place, base=f"{MEDIA}/v3", limit=limit)
        except WireError as error:
            failed = send_error(error)
            if isinstance(failed, TryLater):
                # A file can be out of reach for ever; the homeserver is away only where nothing else comes either.
                failed.away = self._receiver is None or self._receiver.failure is not None
            raise failed from error
        if found is None:
            raise Refused(f"{attachment.name} is larger than the {limit:,} bytes that are taken.")
        return found

    # --- inside --------------------------------------------------------------------------------------------------

    def _is_inside(self, room: str) -> bool:
        return self._receiver is not None and room in self._receiver.inside

    def _connected(self) -> Wire:
        if self._wire is None:
            raise TryLater(self._failure or "the connection to the homeserver is not there yet", away=True)
        return self._wire

    def _sent(self, outbound: Outbound, event_id: str, room: str, root: str | None) -> Sent:
        match outbound.content:
            case OpenThread():
                made = content.thread(room, event_id)
                self._rooms.saw(event_id, made)
                return Sent(event_id=event_id, conversation=made)
            case Message() | File():
                self._rooms.saw(event_id, room if root is None else content.thread(room, root))
        return Sent(event_id=event_id)

    async def _check_plain(self, wire: Wire, room: str) -> None:
        """Raise Refused when the room is encrypted: what we say there would stand in plain text."""
        encrypted = self._rooms.encrypted.get(room)
        if encrypted is None:
            try:
                await wire.call("GET", "rooms", room, "state", "m.room.encryption", "")
                encrypted = True
            except MatrixRefusal as error:
                if error.code != "M_NOT_FOUND":
                    raise
                encrypted = False
            if encrypted:
                self._rooms.encrypts(room)
            else:
                self._rooms.encrypted.setdefault(room, False)
        if self._rooms.encrypted[room]:
            raise Refused(
                f"the room {room} is encrypted, and this connector writes in the clear: invite the bot into a room "
                "without encryption."
            )

    async def _event(self, wire: Wire, outbound: Outbound, conversation: str, target: str | None) -> tuple[str, Json]:
        """The type and the content of the event that says it."""
        _, root = content.place(conversation)
        latest = self._rooms.latest(conversation)
        match outbound.content:
            case Message() as message:
                return _MESSAGE, content.spoken(message, key=outbound.key, root=root, latest=latest)
            case OpenThread(message=message):
                return _MESSAGE, content.spoken(message, key=outbound.key)
            case Replace(message=message):
                if target is None:
                    raise Refused("the message that is to be replaced was never sent.")
                return _MESSAGE, content.replacement(message, key=outbound.key, target=target)
            case React(target=given, key=key):
                return "m.reaction", content.reaction(key, outbox_key=outbound.key, target=target or given)
            case File() as file:
                try:
                    raw = await asyncio.to_thread(Path(file.path).read_bytes)
                except OSError as error:
                    raise Refused(f"the file {file.name} cannot be read any more: {error.strerror}.") from error
                return _MESSAGE, content.uploaded(
                    address=await wire.upload(raw, file.name, file.media_type),
                    name=file.name,
                    media_type=file.media_type,
                    length=len(raw),
                    caption=file.caption,
                    key=outbound.key,
                    root=root,
                    latest=latest,
                )


_MESSAGE = "m.room.message"


async def _nobody(sender: str) -> bool:
    return False
