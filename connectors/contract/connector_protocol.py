"""What a chat system must do to be a connector, and how it says that it could not.

A connector is thin: it turns the wire into `Inbound` values and `Outbound` values into the wire. It keeps no queue and
retries no send; `connectors.delivery.service` does both for all of them. Its life:

1. made by the registry with its name, its settings and a private folder;
2. `subscribe(sink)` once;
3. `start(cursor)` runs until cancelled or until it fails. `NotReady` means that it is started again after a pause;
   `NeedsPerson` means that it stays down, with that sentence in its health, until someone mends it;
4. `stop()` releases what `start` took.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, runtime_checkable

from connectors.contract.messages import Attachment, Batch, Capabilities, Health, Outbound, Sent
from core.errors import MusterError

Sink: TypeAlias = "Callable[[Batch], Awaitable[None]]"
"""Takes a batch and returns when it is durable. Only then may the connector ask for what comes after its cursor."""


class SendError(MusterError):
    """The chat system did not take the message."""


class TryLater(SendError):
    """The message may go through later: the network, the server, or its rate limit."""

    def __init__(self, message: str, *, after: float | None = None, limited: bool = False, away: bool = False) -> None:
        super().__init__(message)
        self.after = after
        """Seconds that the server asked us to wait; None when it did not say."""
        self.limited = limited
        """Whether this was the rate limit, which holds for everything that this bot user says."""
        self.away = away
        """Whether the chat system is not there for anything else either."""


class MessageRefused(SendError):
    """The chat system will never take this message (too long, no such room, not allowed)."""


class NotReady(MusterError):
    """The connector could not start or lost its connection; trying again may help."""


class NeedsPerson(MusterError):
    """The connector cannot go on until a person changes something (credentials, an address)."""


class Connector(Protocol):
    """One connection to one chat system."""

    kind: str
    """The word in ``muster.yaml`` (``matrix``)."""
    name: str
    """The name that this connection has in ``muster.yaml``; with one connection of a kind, the kind."""
    capabilities: Capabilities

    def subscribe(self, sink: Sink) -> None:
        """Say where inbound batches go. Called once, before `start`."""

    async def start(self, cursor: str | None) -> None:
        """Connect and receive, from `cursor` on, until cancelled.

        With no cursor this is the first start ever: nothing that was written before counts.

        Raises:
            NotReady: not reachable, or the connection was lost.
            NeedsPerson: wrong credentials or settings.
        """

    async def connected(self) -> None:
        """Return as soon as something can be said; at once where that is already so. Called while `start` runs."""

    async def stop(self) -> None:
        """Release connections. Safe to call twice, and before `start`."""

    async def send(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent:
        """Say one thing, idempotent by `outbound.key` for as long as the server remembers keys.

        Args:
            outbound: what to say.
            conversation: where; always resolved, also when `outbound` names a thread by its opener.
            target: the event id that a `Replace` or `React` is about, resolved from its outbox key.

        Raises:
            TryLater: it may work later.
            MessageRefused: it never will.
        """

    async def find(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent | None:
        """Look whether `outbound` already is in `conversation`, when the server may have forgotten its key.

        Raises:
            TryLater: the server cannot be asked now.
        """

    def scope(self) -> str:
        """Within what keys are recognised (a Matrix device id); a key sent under another scope is unknown now."""

    async def download(self, attachment: Attachment, *, limit: int) -> bytes:
        """Return the content of an attachment.

        Raises:
            TryLater: it may work later.
            MessageRefused: it is gone, or larger than `limit` bytes.
        """

    async def typing(self, conversation: str, *, active: bool) -> None:
        """Show or stop showing that someone is at work. Best effort; never raises `SendError`."""

    async def health(self) -> Health:
        """Return what is known of the connection, at once, without asking the chat system."""


# --- what only some connectors have ------------------------------------------------------------------------------


@runtime_checkable
class NamesRooms(Protocol):
    """A connector whose rooms can be written in more than one way in the settings."""

    def room_of(self, name: str) -> str | None:
        """Return the conversation that a room is which is written so; None while that is not known."""


@runtime_checkable
class RoomMaker(Protocol):
    """A connector that can make rooms."""

    async def make_room(
        self, name: str, *, key: str, beside: str | None, people: Sequence[str], owners: Sequence[str]
    ) -> str:
        """Make a room of its own beside another one, and invite people into it; once per `key`.

        Args:
            name: what it is called.
            key: identifies the request, in letters and digits.
            beside: the fleet's room, whose space or category the new one belongs to; None: none.
            people: who is invited, as the connector names people.
            owners: those of them who may change everything in it.

        Returns:
            The room, as it is written in muster.yaml.

        Raises:
            TryLater: it may work later.
            MessageRefused: it is not allowed, or such a room would not be heard; the message says what to do.
        """


@runtime_checkable
class HearsRooms(Protocol):
    """A connector that can be told of one more room while it runs."""

    async def hear_room(self, room: str) -> None:
        """Hear what is said in a room from now on, also if the settings did not list it; nothing if it is heard.

        After a restart, the room must be among the connector's `fleet_rooms`.

        Args:
            room: the room, as it is written in muster.yaml.

        Raises:
            TryLater: it may work later.
            MessageRefused: the room cannot be heard; the message says what to do.
        """


class DeviceState(StrEnum):
    """How a person's device stands."""

    SEEN = "seen"
    """Its keys are those that it had when it was first seen; nobody has said anything of it."""
    TRUSTED = "trusted"
    """An admin has said that it is who it says."""
    BLOCKED = "blocked"
    """It is given no keys, and what is written on it does not count."""
    CHANGED = "changed"
    """Another device has come under its name: neither counts until an admin says which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A device of someone in an encrypted conversation."""

    user: str
    """The person, as the connector names people."""
    id: str
    name: str
    """What its owner calls it; anybody can write anything here."""
    fingerprint: str
    """The public key by which it is told from others: what people compare."""
    standing: DeviceState
    reads: bool
    """Whether it is given the keys of what Muster says."""
    own: bool = False
    """Whether it is the one on which Muster writes: what people compare at their end."""


class UnknownDevice(MusterError):
    """No device is called so, or several are."""

    code = "device.unknown"


class AttachedProgram(Protocol):
    """A program that shows a connector's room: iterated over, it gives the lines to show, until it is detached."""

    async def receive(self, request: object) -> dict[str, Any]:
        """Do what the program asks by a JSON object, and answer with one. Bad requests are answered, not raised."""

    def __aiter__(self) -> AsyncIterator[RoomLine]: ...


class RoomLine(Protocol):
    """One thing that shows in a room."""

    def to_json(self) -> dict[str, Any]: ...


@runtime_checkable
class AttachableConnector(Connector, Protocol):
    """A connector whose room is shown by programs on this machine."""

    def attached(self, after: int | None = None) -> AbstractAsyncContextManager[AttachedProgram]:
        """Attach a program; it is detached at the end.

        Args:
            after: the number of the last line that it shows already.
        """


@runtime_checkable
class PaneOwner(Protocol):
    """A connector that opens a pane for such a program."""

    async def open(self) -> str:
        """Make the pane where there is none, and say where it is.

        Raises:
            NotReady: it cannot be made; the message says what to do.
        """


@runtime_checkable
class DeviceKeeper(Protocol):
    """A connector whose conversations can be encrypted."""

    async def devices(self) -> tuple[Device, ...]:
        """Its own device, and then those of everybody it shares an encrypted conversation with; none where it encrypts
        nothing."""

    async def judge(self, device: str, standing: DeviceState) -> Device:
        """Say how a device stands from now on; `SEEN` forgets it, so that the next keys under its name are pinned. One
        that was logged out can be blocked.

        Args:
            device: its id, or ``PERSON/ID`` where several people have one that is called so.
            standing: not `CHANGED`, which no one says.

        Raises:
            UnknownDevice: there is none, or more than one.
        """
