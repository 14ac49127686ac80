"""The keys of people's devices are pinned: a known device that comes with other keys is no longer given any."""

from __future__ import annotations

from typing import Any

from connectors.contract.connector_protocol import DeviceState
from connectors.matrix.crypto.key_store import KnownDevice, Telling
from connectors.matrix.crypto.outbound_sessions import READERS
from connectors.matrix.crypto.primitives import PublicKeys


def pinned(before: KnownDevice | None, user: str, device_id: str, keys: PublicKeys, name: str) -> KnownDevice:
    """Return a device as it is known once its owner shows it with these keys.

    The keys that it came with first stay. If it comes with others, it is `CHANGED`, and gets nothing from then on.
    """
    if before is None:
        return KnownDevice(user=user, id=device_id, keys=keys, name=name, gone=False, standing=DeviceState.SEEN)
    if before.keys != keys:
        # What was pinned stays; a device that is blocked stays that.
        standing = before.standing if before.standing is DeviceState.BLOCKED else DeviceState.CHANGED
        return replaced(before, gone=False, standing=standing)
    # Where its own keys are back, whoever showed others is gone. What was trusted was the device before its log-out.
    again = before.standing is DeviceState.CHANGED or (before.gone and before.standing is DeviceState.TRUSTED)
    return replaced(before, name=name, gone=False, standing=DeviceState.SEEN if again else before.standing)


def news(before: KnownDevice | None, after: KnownDevice, *, first: bool) -> Telling:
    """Return what people have to be told of a device; `first`: none of its owner's was known."""
    if before is None:
        return Telling.NOTHING if first else Telling.NEWS
    if after.standing is DeviceState.CHANGED:
        return Telling.NOTHING if before.standing is DeviceState.CHANGED else Telling.NEWS
    # Other names are no news, nor is what is not given keys.
    return Telling.BACK if before.gone and after.standing in READERS else Telling.NOTHING


def replaced(device: KnownDevice, **values: Any) -> KnownDevice:
    """Return the device with some values replaced."""
    fields = {name: getattr(device, name) for name in ("user", "id", "keys", "name", "gone", "standing")}
    return KnownDevice(**(fields | values))
