"""The devices of people, as they are known, pinned and judged (Client-Server API, "Tracking the device list")."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import structlog

from connectors.contract.connector_protocol import Device, DeviceState, UnknownDevice
from connectors.matrix.crypto.key_folder import KeyFolder
from connectors.matrix.crypto.key_store import KnownDevice, Untold
from connectors.matrix.crypto.olm_machine import Machine
from connectors.matrix.encryption_notices import EncryptionNotices, quoted
from connectors.matrix.encryption_recipients import EncryptionRecipients
from connectors.matrix.homeserver_client import HomeserverClient, HomeserverRequestError
from connectors.matrix.room_cache import Rooms

Json: TypeAlias = dict[str, Any]

#: Seconds between two attempts at a device that had no one-time key, and at looking again at someone's devices.
_AGAIN = 60.0
#: Rooms in which people's devices are told of.
_ROOMS = 20

#: Ids that can be written into a command as they are; homeservers may give others.
_PLAIN = re.compile(r"[A-Za-z0-9_]{1,64}")

_log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class DeviceLists:
    """Whose devices are known, and how they stand."""

    wire: HomeserverClient
    vault: KeyFolder
    connector: str
    readers: EncryptionRecipients
    remarks: EncryptionNotices
    rooms: Rooms
    clock: Callable[[], float]
    _tracked: set[str] = field(default_factory=set, init=False)
    """People whose devices are as we know them."""
    _after: dict[tuple[str, str], float] = field(default_factory=dict, init=False)
    _stale: set[str] = field(default_factory=set, init=False)
    """People whose devices changed since they were asked for last."""
    _silent: dict[str, float] = field(default_factory=dict, init=False)
    """People whose homeserver did not answer, and when it is asked again."""
    _told: set[Untold] = field(default_factory=set, init=False)
    parted: set[str] = field(default_factory=set, init=False)
    """People with whom we share no encrypted room any more, as the homeserver says."""
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @property
    def _machine(self) -> Machine:
        return self.vault.machine

    def changed(self, users: Iterable[str]) -> None:
        """The devices of these people are others now, or we are not told of them any more."""
        gone = set(users)
        self._tracked -= gone
        self._stale |= gone
        for user in gone:
            self._silent.pop(user, None)

    def doubt(self) -> None:
        """No one tells us of changes now: everybody is asked for again."""
        self.changed(tuple(self._tracked))

    async def update(self, users: Iterable[str]) -> None:
        """Know the devices of these people as they are now.

        Raises:
            HomeserverRequestError: the homeserver cannot say.
        """
        wanted = frozenset(users)
        if not self._unknown(wanted):
            return
        # One after the other: whom someone else asks for just now is known only when the answer is there.
        async with self._asking:
            if missing := self._unknown(wanted):
                await self._ask(missing)

    def _unknown(self, users: frozenset[str]) -> frozenset[str]:
        now = self.clock()
        return frozenset(user for user in users - self._tracked if now >= self._silent.get(user, 0.0))

    async def _ask(self, users: frozenset[str]) -> None:
        self._stale.clear()
        body = {"device_keys": {user: [] for user in users}, "timeout": 10_000}
        answer = await self.wire.call("POST", "keys", "query", body=body)
        shown = users.intersection(found if isinstance(found := answer.get("device_keys"), dict) else ())
        await self.vault.run(self._machine.learn, answer, users)
        # Whoever changed something while we asked is asked for again.
        self._tracked |= shown - self._stale
        # Whose homeserver does not answer is not waited for with each message.
        self._silent = {user: until for user, until in self._silent.items() if until > self.clock()}
        self._silent |= dict.fromkeys(users - shown, self.clock() + _AGAIN)
        await self.note_changed()

    async def look_again(self, user: str) -> bool:
        """Ask for someone's devices again, though no one says that they changed; not more often than now and then."""
        now = self.clock()
        asked = user in self._tracked or now < self._silent.get(user, 0.0)
        if asked and now < self._after.get((user, ""), 0.0):
            return False
        self._after = {each: until for each, until in self._after.items() if until > now}
        self._after[user, ""] = now + _AGAIN
        try:
            self.changed([user])
            await self.update({user})
        except HomeserverRequestError as error:
            _log.info("matrix_devices", connector=self.connector, user=user, error=str(error))
            return False
        return True

    async def tell(self, inside: Iterable[str]) -> None:
        """Say in the encrypted rooms of their people which devices are new, and which have other keys.

        Args:
            inside: the rooms in which we are.
        """
        if not self._machine.untold:
            return
        self._machine.untold = False
        encrypted = [room for room in inside if self.rooms.encrypted.get(room)][:_ROOMS]
        for untold in await self.vault.run(self._machine.store.untold):
            device = untold.device
            try:
                rooms = [room for room in encrypted if await self.readers.is_member(room, device.user)]
            except HomeserverRequestError as error:
                _log.info("matrix_devices", connector=self.connector, user=device.user, error=str(error))
                self._machine.untold = True
                continue
            self._told.add(untold)
            if await self.readers.is_known(None, device.user):
                for room in rooms:
                    self._remark_on(room, untold)

    async def drop_parted(self, inside: Collection[str]) -> None:
        """Forget the devices of strangers who are in none of the rooms `inside`.

        Those of people with a permission stay pinned, as does what an admin said of a device: the homeserver says who
        is where, and could otherwise have others taken for a person's first.
        """
        for user in tuple(self.parted):
            try:
                shares = [room for room in inside if await self.readers.is_member(room, user)]
            except HomeserverRequestError as error:
                # Then it is not known for certain: it is asked again after the next sync.
                _log.info("matrix_devices", connector=self.connector, user=user, error=str(error))
                return
            # A room's levels stand also while someone is out of it.
            known = [room for room in (None, *inside) if await self.readers.is_known(room, user)]
            if not shares and not known:
                await self.vault.run(self._machine.forget_stranger, user)
                self.changed([user])
            self.parted.discard(user)

    async def settle(self) -> None:
        """What was said of devices is durable."""
        if self._told:
            told, self._told = self._told, set()
            await self.vault.run(self._mark_told, told)

    def _mark_told(self, told: set[Untold]) -> None:
        with self._machine.store.transaction():
            self._machine.store.mark_devices_told(told)

    def _remark_on(self, room: str, untold: Untold) -> None:
        device = untold.device
        whose = f"{quoted(device.id)} of {quoted(device.user)}"
        if device.standing is DeviceState.CHANGED:
            text = (
                f"Other keys came under the name of the device {whose}. It gets no more keys, and messages from it "
                f"are not accepted. `muster matrix devices` says what to do."
            )
        elif untold.back:
            text = (
                f"The device {whose}, which had been logged out, appears again. It counts as a new one, and gets "
                f"keys from now on. If it is not theirs: `muster matrix block {_typed(device.id)}`."
            )
        else:
            text = (
                f"A new device, {whose}, gets keys from now on. If it is not theirs: "
                f"`muster matrix block {_typed(device.id)}`."
            )
        about = {"sender": device.user, "origin_server_ts": int(self.clock() * 1000)}
        which = (room, device.user, device.id, device.keys.ed25519, str(device.standing), str(untold.since))
        identity = "\0".join(("device", *which))
        self.remarks.add(room, about, identity, text)

    async def note_changed(self) -> None:
        """Have it in the health when a device has other keys than it had."""
        known = await self.vault.run(self._machine.store.devices)
        changed = [device for device in known if device.standing is DeviceState.CHANGED and not device.gone]
        if changed:
            self.rooms.note("devices", "Other keys came under a device's name: `muster matrix devices` says whose.")
        else:
            self.rooms.forget_note("devices")

    async def claim(self, devices: Iterable[KnownDevice]) -> None:
        """Have a session with each of these, as far as it can be had."""
        now = self.clock()
        due = [device for device in devices if now >= self._after.get((device.user, device.id), 0.0)]
        wanted = await self.vault.run(self._machine.outgoing.without_session, due)
        if not wanted:
            return
        answer = await self.wire.call("POST", "keys", "claim", body={"one_time_keys": wanted, "timeout": 10_000})
        await self.vault.run(self._machine.outgoing.claimed, answer, wanted)
        for user, ids in wanted.items():
            for device in ids:
                self._after[user, device] = now + _AGAIN

    async def send(self, kind: str, body: Mapping[str, Any]) -> None:
        """A message from our device to others.

        Raises:
            HomeserverRequestError: it was not taken.
        """
        await self.wire.call("PUT", "sendToDevice", kind, secrets.token_hex(16), body=dict(body))

    async def shown(self) -> tuple[Device, ...]:
        """Our own device, then whom we know, and whether they are given keys."""
        keys = await self.vault.run(self._machine.keys)
        own = Device(
            user=self._machine.user,
            id=self._machine.device,
            name="",
            fingerprint=keys.ed25519,
            standing=DeviceState.TRUSTED,
            reads=True,
            own=True,
        )
        known = await self.vault.run(self._machine.store.devices)
        return (own, *[await self._as_shown(device) for device in known if not device.gone])

    async def _as_shown(self, device: KnownDevice) -> Device:
        reads = device.standing in (DeviceState.SEEN, DeviceState.TRUSTED) and await self.readers.reads(
            None, device.user
        )
        return Device(
            user=device.user,
            id=device.id,
            name=device.name,
            fingerprint=device.keys.ed25519,
            standing=device.standing,
            reads=reads,
        )

    async def judge(self, name: str, standing: DeviceState) -> Device:
        """Say how a device stands."""
        known = await self.vault.run(self._machine.store.devices)
        named = [device for device in known if name in (device.id, f"{device.user}/{device.id}")]
        found = [device for device in named if not device.gone]
        if not found and standing is DeviceState.BLOCKED:
            # One that was stolen is to stay blocked, also where it was logged out and may be shown again.
            found = named
        if not found and name in (self._machine.device, f"{self._machine.user}/{self._machine.device}"):
            raise UnknownDevice(f"{name[:100]} is the device on which Muster writes itself.")
        if not found:
            raise UnknownDevice(f"no device is called {name[:100]}: `muster matrix devices` lists them.")
        if len(found) > 1:
            whose = ", ".join(f"{device.user}/{device.id}" for device in found)
            raise UnknownDevice(f"several people have a device called {name[:100]}: write one of {whose}.")
        device = found[0]
        await self.vault.run(self._machine.judge, device.user, device.id, standing)
        # Whoever was forgotten is looked at again.
        self.changed([device.user])
        self._after.pop((device.user, ""), None)
        await self.note_changed()
        left = [each for each in await self.vault.run(self._machine.store.devices, device.user) if each.id == device.id]
        return await self._as_shown(left[0] if left else device)


def _typed(device: str) -> str:
    return device if _PLAIN.fullmatch(device) else "DEVICE"
