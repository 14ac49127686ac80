"""The connector to Matrix: its life, and what goes out."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import structlog

from connectors.contract.connector_protocol import (
    Device,
    DeviceState,
    MessageRefused,
    NeedsPerson,
    NotReady,
    Sink,
    TryLater,
    UnknownDevice,
)
from connectors.contract.messages import (
    Attachment,
    Capabilities,
    File,
    Health,
    Message,
    OpenThread,
    Outbound,
    React,
    Sent,
)
from connectors.matrix import message_conversion, room_creation, room_history
from connectors.matrix import sender as speaking
from connectors.matrix.crypto.olm_machine import SEALED
from connectors.matrix.device_key_startup import KeysNeedPerson, encryption_for
from connectors.matrix.encrypted_rooms import Encryption
from connectors.matrix.homeserver_client import HomeserverClient, HomeserverRequestError, MatrixRefusal, send_error
from connectors.matrix.login import how_to_log_in_again, kept, log_in
from connectors.matrix.message_conversion import Me
from connectors.matrix.power_levels import PowerLevels
from connectors.matrix.room_aliases import Aliases
from connectors.matrix.room_cache import Rooms, is_encrypted
from connectors.matrix.settings import MatrixSettings
from connectors.matrix.sync_loop import SyncLoop

Json: TypeAlias = dict[str, Any]

#: Synapse forgets transaction ids after 24 hours.
_REMEMBERS_KEYS = 23 * 3600.0
#: Text and HTML together stay under what one event holds, with room for what an edit repeats.
_MAX_TEXT = 40_000
#: Encrypted it is four thirds of that.
_MAX_SEALED_TEXT = 30_000
#: Bytes of content with relations and our key; what the homeserver adds comes on top of it.
_HARD_LIMIT = message_conversion.CONTENT_LIMIT + 2_500
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
        may_read: Callable[[str, Sequence[str]], Awaitable[bool]] | None = None,
        keys: Path | None = None,
        fleet_rooms: Sequence[str] = (),
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
            max_text=_MAX_TEXT if settings.encryption == "off" else _MAX_SEALED_TEXT,
            remembers_keys=_REMEMBERS_KEYS,
            rate_per_second=settings.messages_per_second,
            burst=settings.burst,
        )
        self._settings = settings
        self._folder = folder
        self._keys = keys or folder / "keys"
        self._may_invite = may_invite or _nobody
        self._clock = clock
        self._rng = rng
        self._may_read = may_read or _nobody_in
        self._rooms = Rooms(encrypts=settings.encryption != "off")
        # Where only some rooms count, the fleet's own is one of them.
        self._allowed = (*settings.rooms, *fleet_rooms) if settings.rooms else ()
        self._named = (*fleet_rooms, *settings.rooms)
        self._fleet_rooms = tuple(fleet_rooms)
        self._levels = settings.power_levels.steps() if settings.power_levels is not None else ()
        self._aliases = Aliases(self._named, self._rooms, connector=name, clock=clock)
        self._sink: Sink | None = None
        self._wire: HomeserverClient | None = None
        self._receiver: SyncLoop | None = None
        self._encryption: Encryption | None = None
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
        wire = HomeserverClient(self._settings.homeserver, clock=self._clock)
        try:
            session = await log_in(wire, self._settings, self._folder)
            self._device, self._authenticated = session.device, True
            me = await self._introduce(wire)
            levels = PowerLevels(
                server=self._settings.user.partition(":")[2],
                steps=self._levels,
                counts=self._is_named,
                rooms=self._rooms,
            )
            self._encryption = await self._unlocked(wire, levels)
            self._receiver = SyncLoop(
                wire=wire,
                connector=self.name,
                me=me,
                named=self._named,
                allowed=self._allowed,
                aliases=self._aliases,
                levels=levels,
                encryption=self._encryption,
                required=self._settings.encryption == "required",
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
        except KeysNeedPerson as error:
            # It is logged in; what is missing is not the homeserver's to give.
            self._failure = str(error)
            raise
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
        encryption, self._encryption = self._encryption, None
        self._receiver = None
        if encryption is not None:
            await encryption.vault.close()
        if wire is not None:
            self._answered_at = wire.answered_at or self._answered_at
            await wire.close()

    async def health(self) -> Health:
        """Return what is known of the connection."""
        wire, receiver = self._wire, self._receiver
        failure = receiver.failure if receiver is not None and receiver.failure else self._failure
        reachable: bool | None = None
        notes, impaired = self._rooms.notes(), self._rooms.impaired
        if failure is not None:
            detail = failure
            # Someone who says that the log-in is over has answered.
            reachable = self._authenticated is False and self._answered_at is not None
        elif receiver is None:
            detail = "Not connected yet."
        else:
            reachable = True
            rooms = "one room" if len(receiver.inside) == 1 else f"{len(receiver.inside)} rooms"
            detail = f"Connected to {self._settings.homeserver} as {self._settings.user}, in {rooms}."
            outside = [room for room in self._fleet_rooms if self._is_outside(room)]
            if outside and not any(outside[0] in note for note in notes):
                notes = (f"The bot is not in {outside[0]}, the fleet's room: invite it.", *notes)
            impaired = impaired or bool(outside) or any(map(self._is_mute_in, self._fleet_rooms))
        return Health(
            kind=self.kind,
            reachable=reachable,
            authenticated=self._authenticated,
            last_seen=(wire.answered_at if wire is not None else None) or self._answered_at,
            detail=" ".join((detail, *notes)),
            impaired=impaired,
        )

    def scope(self) -> str:
        """Return the device: homeservers recognise transaction ids within one."""
        return self._device

    async def _introduce(self, wire: HomeserverClient) -> Me:
        """Take the wanted display name, and learn how we are called."""
        user, wanted = self._settings.user, self._settings.display_name
        path = ("profile", user, "displayname")
        try:
            found = (await wire.call("GET", *path)).get("displayname")
            if wanted is not None and wanted != found:
                await wire.call("PUT", *path, body={"displayname": wanted})
                found = wanted
        except HomeserverRequestError as error:
            # A name is nice to have; some homeservers have no profile of a user that never set one.
            _log.info("matrix_profile", connector=self.name, error=str(error))
            found = wanted
        return Me(user=user, display_name=found if isinstance(found, str) else wanted)

    # --- outbound ------------------------------------------------------------------------------------------------

    async def send(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent:
        """Say one thing."""
        wire = self._connected()
        room, root = await self._place(wire, conversation)
        try:
            encryption = await self._seals(wire, room)
            latest, sealed = self._rooms.latest(conversation), encryption is not None
            kind, event = await speaking.event(wire, outbound, root=root, latest=latest, target=target, sealed=sealed)
            limit = _HARD_LIMIT if encryption is None else message_conversion.SEALED_LIMIT
            if message_conversion.size(event) > limit:
                raise MessageRefused(
                    f"the message has {message_conversion.size(event):,} bytes, and a Matrix event holds {limit:,}: "
                    "send it as a file."
                )
            if encryption is not None and kind in SEALED:
                kind, event = _SEALED, await encryption.seal(room, kind, event)
                event[message_conversion.KEY] = message_conversion.sealed_key(outbound.key)
            transaction = message_conversion.transaction(outbound.key)
            answer = await wire.call("PUT", "rooms", room, "send", kind, transaction, body=event)
        except MatrixRefusal as error:
            if error.code == "M_DUPLICATE_ANNOTATION":
                return await self.find(outbound, conversation=conversation, target=target) or Sent(event_id="")
            if error.code == "M_FORBIDDEN" and (successor := self._rooms.replacement(room)) is not None:
                raise MessageRefused(
                    f"the room {room} was replaced by {successor}, and takes no messages any more."
                ) from error
            if error.code == "M_FORBIDDEN" and not self._is_inside(room):
                # What still waits for a room that the settings name no more says nothing of how the connector is now.
                self._rooms.note(
                    f"outside {room}",
                    f"The bot is not in {room}, where it has something to say: invite it.",
                    grave=not self._named or self._is_named(room) or self._rooms.was_left(room),
                )
                raise TryLater(f"the bot is not in the room {room}; invite it", after=_INVITED_WITHIN) from error
            raise send_error(error) from error
        except HomeserverRequestError as error:
            raise send_error(error) from error
        except NotReady as error:
            raise TryLater(str(error)) from error
        event_id = answer.get("event_id")
        if not isinstance(event_id, str):
            raise TryLater("the homeserver took the message without saying under which id")
        return self._sent(outbound, event_id, room, root)

    async def find(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent | None:
        """Look whether it exists already."""
        wire = self._connected()
        room, root = await self._place(wire, conversation)
        user = self._settings.user
        try:
            event_id = None
            if isinstance(reaction := outbound.content, React):
                emoji = message_conversion.clean(reaction.key)
                event_id = await room_history.own_reaction(wire, room, user, target or reaction.target, emoji)
            # Homeservers without the relations API still have the event itself.
            event_id = event_id or await room_history.own_event(wire, room, user, outbound.key)
        except MatrixRefusal as error:
            if error.passes:
                raise send_error(error) from error
            # Not in the room any more: whether it stands there, the attempt to send it will say.
            return None
        except HomeserverRequestError as error:
            raise send_error(error) from error
        return None if event_id is None else self._sent(outbound, event_id, room, root)

    def room_of(self, name: str) -> str | None:
        """Return the id of a room that is written by its id or by an alias; None while no one knows where that
        leads."""
        return self._aliases.room(name)

    async def make_room(
        self, name: str, *, key: str, beside: str | None, people: Sequence[str], owners: Sequence[str]
    ) -> str:
        """Make a private room in the spaces of another one, and invite people."""
        wire = self._connected()
        if self._allowed:
            raise MessageRefused(
                f"{self.name} hears only the rooms that its block in muster.yaml lists. Remove `rooms` there, or make "
                "the room yourself and list it."
            )
        try:
            near = None if beside is None else (await self._place(wire, beside))[0]
            encrypted = self._settings.encryption
            return await room_creation.create(
                wire,
                user=self._settings.user,
                name=name,
                address=f"muster-{key}".lower(),
                beside=near,
                people=people,
                owners=owners,
                encrypted=encrypted == "required"
                or (encrypted == "allowed" and near is not None and self._rooms.encrypted.get(near) is True),
            )
        except HomeserverRequestError as error:
            raise send_error(error) from error

    async def hear_room(self, room: str) -> None:
        """Join a room if the bot is not in it, and hear it from now on."""
        wire = self._connected()
        try:
            place = await self._aliases.find(wire, room)
            if not self._is_inside(place):
                await wire.call("POST", "join", room, body={})
            encrypted = await is_encrypted(wire, self._rooms, place, anew=True)
        except MatrixRefusal as error:
            if error.passes:
                raise send_error(error) from error
            raise MessageRefused(
                f"the bot is not in {room}, and cannot join it ({error}). Invite {self._settings.user} there, then try "
                "again."
            ) from error
        except HomeserverRequestError as error:
            raise send_error(error) from error
        wanted = self._settings.encryption
        if wanted == ("off" if encrypted else "required"):
            raise MessageRefused(
                f"the room is {'' if encrypted else 'not '}encrypted, and encryption is {wanted} for {self.name}. "
                "Write encryption: allowed into its block in muster.yaml and restart Muster, or take another room."
            )
        if room in self._named:
            return
        self._aliases.add(room)
        self._named = (*self._named, room)
        if self._allowed:
            self._allowed = (*self._allowed, room)
        if self._receiver is not None:
            self._receiver.hear_too(room)
        _log.info("matrix_hears_too", connector=self.name, room=place)

    async def typing(self, conversation: str, *, active: bool) -> None:
        """Show that someone is at work, for 45 seconds unless it is said again."""
        wire, room = self._wire, self._aliases.room(message_conversion.place(conversation)[0])
        if wire is None or room is None:
            return
        body: Json = {"typing": active} | ({"timeout": int(_TYPING * 1000)} if active else {})
        with contextlib.suppress(HomeserverRequestError):
            await wire.call("PUT", "rooms", room, "typing", self._settings.user, body=body, timeout=10.0)

    async def download(self, attachment: Attachment, *, limit: int) -> bytes:
        """Return the content of an attachment."""
        wire = self._connected()
        try:
            return await speaking.fetch(wire, attachment, limit)
        except HomeserverRequestError as error:
            failed = send_error(error)
            if isinstance(failed, TryLater):
                # A file can be out of reach for ever; the homeserver is away only where nothing else comes either.
                failed.away = self._receiver is None or self._receiver.failure is not None
            raise failed from error

    # --- devices -------------------------------------------------------------------------------------------------

    async def devices(self) -> tuple[Device, ...]:
        """Our own device, and those of the people in encrypted rooms."""
        return () if self._encryption is None else await self._encryption.lists.shown()

    async def judge(self, device: str, standing: DeviceState) -> Device:
        """Say how one of them stands."""
        if self._encryption is None:
            off = self._settings.encryption == "off"
            why = "encryption is off in its block in muster.yaml" if off else "it is not connected"
            raise UnknownDevice(f"{self.name} knows no devices now: {why}.")
        return await self._encryption.judge(device, standing)

    # --- inside --------------------------------------------------------------------------------------------------

    async def _place(self, wire: HomeserverClient, conversation: str) -> tuple[str, str | None]:
        """Return the room's id, and the root event if it is a thread."""
        room, root = message_conversion.place(conversation)
        return await self._aliases.find(wire, room), root

    def _is_named(self, room: str) -> bool:
        return any(room == self._aliases.room(name) for name in self._named)

    def _is_outside(self, room: str) -> bool:
        """Return whether the bot is known not to be in a room that is named by its id."""
        receiver = self._receiver
        return room.startswith("!") and receiver is not None and receiver.begun and room not in receiver.inside

    def _is_mute_in(self, room: str) -> bool:
        """Return whether `encryption` has the bot silent there."""
        wanted, encrypted = self._settings.encryption, self._rooms.encrypted.get(room)
        return (wanted == "off" and encrypted is True) or (wanted == "required" and encrypted is False)

    def _is_inside(self, room: str) -> bool:
        return self._receiver is not None and room in self._receiver.inside

    def _connected(self) -> HomeserverClient:
        if self._wire is None:
            raise TryLater(self._failure or "the connection to the homeserver is not there yet", away=True)
        return self._wire

    def _sent(self, outbound: Outbound, event_id: str, room: str, root: str | None) -> Sent:
        match outbound.content:
            case OpenThread():
                made = message_conversion.thread(room, event_id)
                self._rooms.saw(event_id, made)
                return Sent(event_id=event_id, conversation=made)
            case Message() | File():
                self._rooms.saw(event_id, room if root is None else message_conversion.thread(room, root))
        return Sent(event_id=event_id)

    async def _unlocked(self, wire: HomeserverClient, levels: PowerLevels) -> Encryption | None:
        """Return what reads and writes encrypted rooms, ready; None where it is switched off.

        Raises:
            NeedsPerson: the keys are lost.
            NotReady: the homeserver cannot be asked for its part now.
        """
        if self._settings.encryption == "off":
            return None
        self._encryption = await encryption_for(
            wire,
            self._settings,
            connector=self.name,
            folder=self._folder,
            keys=self._keys,
            device=self._device,
            may_read=self._may_read,
            groups=levels.groups,
            rooms=self._rooms,
            clock=self._clock,
        )
        try:
            await self._encryption.start()
        except HomeserverRequestError as error:
            raise NotReady(f"The homeserver {self._settings.homeserver} takes no keys now: {error}.") from error
        return self._encryption

    async def _seals(self, wire: HomeserverClient, room: str) -> Encryption | None:
        """Return what encrypts messages to a room; None: they go out in the clear.

        Raises:
            MessageRefused: neither is to be.
            HomeserverRequestError: no one knows now.
        """
        # While nothing is heard, a room may be encrypted that was not.
        unheard = self._receiver is None or self._receiver.failure is not None
        if not await is_encrypted(wire, self._rooms, room, anew=unheard):
            if self._settings.encryption == "required":
                self._rooms.is_plain(room)
                raise MessageRefused(
                    f"the room {room} is not encrypted, and this connector speaks in encrypted rooms alone: switch "
                    "encryption on in the room's settings, or write encryption: allowed into muster.yaml."
                )
            return None
        if self._settings.encryption == "off":
            raise MessageRefused(
                f"the room {room} is encrypted, and this connector writes in the clear: write encryption: allowed into "
                "muster.yaml, or invite the bot into a room without encryption."
            )
        if self._encryption is None:
            raise TryLater(self._failure or "the keys of encrypted rooms are not there yet", away=True)
        if unheard:
            # Nor would we hear of someone who left, or of a device that was logged out.
            self._encryption.doubt(room)
        return self._encryption


_SEALED = "m.room.encrypted"


async def _nobody(sender: str) -> bool:
    return False


async def _nobody_in(person: str, groups: Sequence[str]) -> bool:
    return False
