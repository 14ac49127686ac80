"""Getting at the keys of our device when the connection begins, and noticing that they are not what they should be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from connectors.contract.connector_protocol import NeedsPerson, NotReady
from connectors.matrix.crypto.key_folder import KeyFolder, KeysLost, files_of
from connectors.matrix.crypto.primitives import device_keys
from connectors.matrix.device_lists import DeviceLists
from connectors.matrix.encrypted_rooms import Encryption
from connectors.matrix.encryption_notices import EncryptionNotices
from connectors.matrix.encryption_recipients import EncryptionRecipients
from connectors.matrix.homeserver_client import HomeserverClient, HomeserverRequestError
from connectors.matrix.login import how_to_make_a_new_device, is_no_device
from connectors.matrix.room_cache import Rooms
from connectors.matrix.settings import MatrixSettings
from core import durable_files

#: In the connector's folder: so that a device whose keys are gone is not made again under its name.
_EARLIER = "devices.json"


class KeysNeedPerson(NeedsPerson):
    """The keys of our device cannot be used until a person does something."""


async def encryption_for(
    wire: HomeserverClient,
    settings: MatrixSettings,
    *,
    connector: str,
    folder: Path,
    keys: Path,
    device: str,
    may_read: Callable[[str, Sequence[str]], Awaitable[bool]],
    groups: Callable[[str, str], tuple[str, ...]],
    rooms: Rooms,
    clock: Callable[[], float],
) -> Encryption:
    """Return what reads and writes encrypted rooms, not started.

    Raises:
        KeysNeedPerson: there are no keys to do it with.
        NotReady: the homeserver cannot be asked for its part now, or the disk does not give the keys.
    """
    if is_no_device(device):
        raise KeysNeedPerson(
            "The access token belongs to no device, and keys are a device's: log in as an ordinary user, or write "
            "encryption: off."
        )
    way_out = how_to_make_a_new_device(settings, folder)
    try:
        vault, new = await unlock(wire, folder, keys, settings.user, device, way_out=way_out, clock=clock)
    except HomeserverRequestError as error:
        raise NotReady(f"The homeserver {settings.homeserver} does not say which keys it has: {error}.") from error
    readers = EncryptionRecipients(
        wire=wire, me=settings.user, trust_all=settings.trust == "all", may_read=may_read, groups=groups
    )
    remarks = EncryptionNotices(connector=connector)
    lists = DeviceLists(
        wire=wire, vault=vault, connector=connector, readers=readers, remarks=remarks, rooms=rooms, clock=clock
    )
    return Encryption(
        wire=wire,
        vault=vault,
        connector=connector,
        readers=readers,
        remarks=remarks,
        lists=lists,
        rooms=rooms,
        clock=clock,
        new_device=new,
    )


async def unlock(
    wire: HomeserverClient,
    folder: Path,
    keys: Path,
    user: str,
    device: str,
    *,
    way_out: str,
    clock: Callable[[], float],
) -> tuple[KeyFolder, bool]:
    """Return the keys of our device, and whether it is a new one that comes after another.

    Args:
        wire: to the homeserver, logged in.
        folder: the connector's, where it is written down which devices had keys.
        keys: the folder of keys.
        user: who we are.
        device: on which device.
        way_out: what a person does to have us be another device.
        clock: seconds since the epoch.

    Raises:
        KeysNeedPerson: they are lost, or the homeserver shows others.
        NotReady: the disk does not give or take them now.
        HomeserverRequestError: the homeserver cannot be asked.
    """
    answer = await wire.call("POST", "keys", "query", body={"device_keys": {user: [device]}})
    shown = _object(_object(answer.get("device_keys")).get(user)).get(device)
    earlier = await asyncio.to_thread(_earlier, folder)
    try:
        may_make = shown is None and device not in earlier
        vault, _ = await KeyFolder.open(keys, user, device, may_make=may_make, clock=clock)
    except KeysLost as error:
        raise KeysNeedPerson(
            f"The keys of the device {device} are lost: {error}. What is written in encrypted rooms cannot be read "
            f"without them. {way_out}"
        ) from error
    own = await vault.run(vault.machine.keys)
    if shown is not None and device_keys(shown, user, device) != own:
        await vault.close()
        raise KeysNeedPerson(
            f"The homeserver shows other keys for the device {device} than those that Muster has: somebody logged in "
            f"as it elsewhere, or an older state folder was put back. {way_out}"
        )
    if shown is None:
        await vault.run(vault.machine.unpublish)
    if device not in earlier:
        await asyncio.to_thread(durable_files.write, folder / _EARLIER, json.dumps(earlier | {device: own.ed25519}))
    return vault, device not in earlier and bool(earlier)


def gone(folder: Path, keys: Path, device: str) -> Path | None:
    """Return what is gone of the keys of a device that had some; None: nothing, or it never had any. Only looks.

    Args:
        folder: the connector's, where it is written down which devices had keys.
        keys: the folder of keys.
        device: its id.
    """
    if device not in _earlier(folder):
        return None
    return next((file for file in files_of(keys, device) if not file.exists()), None)


def _earlier(folder: Path) -> dict[str, str]:
    """Return the devices that we ever were, with their fingerprints."""
    try:
        found = json.loads((folder / _EARLIER).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
