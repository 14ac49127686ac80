"""Devices of people in encrypted rooms: the list of them, and admins' decisions about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.messaging.services import MessagingServices
from bot.text.errors import UserError
from bot.text.markdown import code, one_line, table
from connectors.contract.connector_protocol import Device, DeviceKeeper, DeviceState, UnknownDevice

_WORDS = {
    DeviceState.SEEN: "as first seen",
    DeviceState.TRUSTED: "trusted",
    DeviceState.BLOCKED: "blocked",
    DeviceState.CHANGED: "other keys came under its name",
}
_LONGEST_NAME = 40


async def listed(ctx: Context[MessagingServices], connector: str | None) -> Reply:
    """List the known devices."""
    found = [
        (name, device)
        for name, supervisor in _supervisors(ctx, connector).items()
        for device in await supervisor.devices()
    ]
    data = [_as_json(name, device) for name, device in found]
    if not found:
        return Reply(
            f"No device is known: encryption is off, or the connector is down, as {command_line('health')} says.", data
        )
    rows = [
        [
            code(name),
            code(device.user),
            code(device.id),
            one_line(device.name, _LONGEST_NAME),
            code(_grouped(device.fingerprint)),
            "Muster itself" if device.own else _WORDS[device.standing],
            "yes" if device.reads else "no",
        ]
        for name, device in found
    ]
    shown = table(["connector", "person", "device", "name", "fingerprint", "trust", "gets keys"], rows)
    return Reply("\n\n".join((shown, *_advice([device for _, device in found]))), data)


async def judged(ctx: Context[MessagingServices], device: str, connector: str | None, word: str) -> Reply:
    """Set the trust state of a device."""
    standing = DeviceState(word)
    supervisors = _supervisors(ctx, connector)
    reasons: list[str] = []
    for name, supervisor in supervisors.items():
        if standing is DeviceState.BLOCKED:
            _check_not_the_last(ctx, name, device, await supervisor.devices())
        try:
            found = await supervisor.judge(device, standing)
        except UnknownDevice as error:
            reasons.append(str(error))
            continue
        return Reply(f"{_said(found, standing)}", _as_json(name, found))
    raise UserError(reasons[0] if len(set(reasons)) == 1 else " ".join(dict.fromkeys(reasons)), code="device.unknown")


def _check_not_the_last(ctx: Context[MessagingServices], connector: str, name: str, known: tuple[Device, ...]) -> None:
    """Prevent people from blocking the only device on which they can read the answer and undo the block.

    Raises:
        UserError: it is that device, and the command came from chat.
    """
    if ctx.door != "chat":
        return
    theirs = [each for each in known if each.reads and ctx.identity == f"{connector}:{each.user}"]
    if len(theirs) == 1 and name in (theirs[0].id, f"{theirs[0].user}/{theirs[0].id}"):
        raise UserError(
            f"{code(theirs[0].id)} is your only device that is given keys: without it you could not read here, nor "
            "undo the block. Log in on another device first, or block it in a shell.",
            code="device.only_one",
        )


def _supervisors(ctx: Context[MessagingServices], name: str | None) -> dict[str, DeviceKeeper]:
    settings, delivery = ctx.services.settings, ctx.services.delivery
    supervisors: dict[str, DeviceKeeper] = {}
    for each in settings.connectors:
        if isinstance(connector := delivery.connector(each.name), DeviceKeeper):
            supervisors[each.name] = connector
    if not supervisors:
        raise UserError(
            "no connector encrypts. Add `encryption: allowed` to the block of a Matrix connector.",
            code="connector.absent",
        )
    if name is not None and name not in supervisors:
        raise UserError(
            f"no connector called {one_line(name)} keeps devices. Those that do: {', '.join(supervisors)}.",
            code="connector.unknown",
        )
    return supervisors if name is None else {name: supervisors[name]}


def _said(device: Device, standing: DeviceState) -> str:
    whose = f"{code(device.id)} of {code(device.user)}"
    match standing:
        case DeviceState.TRUSTED:
            return f"{whose} is trusted, with the fingerprint {code(_grouped(device.fingerprint))}."
        case DeviceState.BLOCKED:
            return f"{whose} gets no more keys, and Muster ignores what is written on it."
        case _:
            return f"{whose} is forgotten: the next keys under its name are accepted."


def _advice(devices: list[Device]) -> Iterator[str]:
    if all(device.own for device in devices):
        yield "No other device is known: nobody has written in an encrypted room yet."
    if not any(device.standing is DeviceState.CHANGED for device in devices):
        return
    yield (
        "Where other keys came under a device's name, ask its owner, by another way than this room, whether it was set "
        f"up again. If so: {command_line('matrix forget DEVICE')}. If not, somebody impersonates them: "
        f"{command_line('matrix block DEVICE')}."
    )


def _grouped(fingerprint: str) -> str:
    """Return the fingerprint in groups of four, as clients show it."""
    return " ".join(fingerprint[place : place + 4] for place in range(0, len(fingerprint), 4))


def _as_json(connector: str, device: Device) -> dict[str, Any]:
    return {
        "connector": connector,
        "user": device.user,
        "device": device.id,
        "name": device.name,
        "fingerprint": device.fingerprint,
        "standing": str(device.standing),
        "reads": device.reads,
        "own": device.own,
    }
