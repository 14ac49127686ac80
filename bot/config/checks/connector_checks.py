"""Checks for conflicts between the connectors of muster.yaml. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TypeAlias

from bot.config.schema import OWN_ROOMS, ConnectorSettings
from core.secret_references import Reference

#: A key of the file, and the problem there.
Found: TypeAlias = "tuple[tuple[str, ...], str]"

#: Prefixes of identities that are not people.
_OURS = {"agent": "its agents", "muster": "itself"}
#: Kinds whose only person is the user that runs Muster.
_OWNERS = {"terminal": "the terminal"}


def problems(connectors: Sequence[ConnectorSettings], *, complete: bool) -> Iterator[Found]:
    """Yield the conflicts between the connectors.

    Args:
        connectors: the connectors that are valid by themselves.
        complete: whether these are all connectors of the file.
    """
    yield from _names(connectors)
    yield from _bridges(connectors, complete=complete)
    for first, second in combinations(connectors, 2):
        if first.kind == second.kind:
            yield from _twins(first, second)


def _names(connectors: Sequence[ConnectorSettings]) -> Iterator[Found]:
    """Yield connector names that could give a person another's identity (``CONNECTOR:PERSON``)."""
    for each in connectors:
        if each.name in _OURS:
            yield (
                ("connectors", each.name),
                f"people there would be called {each.name}:NAME, as Muster calls {_OURS[each.name]}. Give it another "
                "name, and say which kind it is with kind:.",
            )
        elif each.name in _OWNERS and each.kind not in OWN_ROOMS:
            yield (
                ("connectors", each.name),
                f"somebody there who is called like the user that runs Muster would be admin, as that user is in "
                f"{_OWNERS[each.name]}. Give it another name.",
            )


def with_main_rooms(connectors: Sequence[ConnectorSettings]) -> tuple[ConnectorSettings, ...]:
    """Return the connectors that have a main room; the first one's is the fleet's.

    Configured rooms precede the default room of a terminal, which always exists.
    """
    having = [each for each in connectors if each.main_room is not None]
    return tuple(sorted(having, key=lambda each: each.room is None))


def joined(connectors: Sequence[ConnectorSettings]) -> tuple[ConnectorSettings, ...]:
    """Return the connectors whose main rooms mirror each other: the fleet's, and those with `bridge`."""
    rooms = with_main_rooms(connectors)
    mirroring = tuple(each for each in rooms[1:] if each.bridge)
    return (rooms[0], *mirroring) if mirroring else ()


def warnings(connectors: Sequence[ConnectorSettings]) -> Iterator[str]:
    """Yield valid settings that may be unintended."""
    those = joined(connectors)
    encrypted = [each.name for each in those if getattr(each.settings, "encryption", None) == "required"]
    plain = [each.name for each in those if each.name not in encrypted]
    if encrypted and plain:
        yield (
            f"what is said in the encrypted room of {' and '.join(encrypted)} is mirrored by {' and '.join(plain)}, "
            "where rooms may not be encrypted (bridge)."
        )


def _bridges(connectors: Sequence[ConnectorSettings], *, complete: bool) -> Iterator[Found]:
    for each in connectors:
        at = ("connectors", each.name, "bridge")
        if each.bridge and each.main_room is None:
            yield at, "there is no room to mirror: its main room is not set. Set fleet_room beside it."
        elif each.bridge and complete and not joined(connectors):
            yield (
                at,
                "there is nothing to mirror: its main room is the fleet's own. Write bridge: true in the block of "
                "another connector that has a main room (fleet_room).",
            )


def _twins(first: ConnectorSettings, second: ConnectorSettings) -> Iterator[Found]:
    at = ("connectors", second.name)
    keys = _log_ins(first)
    for key, reference in _log_ins(second).items():
        if keys.get(key) == reference:
            yield (
                (*at, key),
                f"{first.name} logs in with {reference} already: every message would be read, and every command run, "
                f"twice. Give {second.name} a log-in of its own, or make it one connector.",
            )
            return
    both = _rooms(first) & _rooms(second)
    if both:
        room = min(both)
        yield at, f"{first.name} is in {room} already: every command there would run twice. Leave it to one of them."
    elif _is_same_user(first, second) and not (_only(first) and _only(second)):
        yield (
            at,
            f"it is the same user as {first.name}, and both would read every room that it is in. Say in both which "
            'own rooms, like rooms: ["!abc:example.org"].',
        )


def _log_ins(each: ConnectorSettings) -> dict[str, Reference]:
    """Return the credentials by key, without the password, which creates a separate login each time."""
    values = {name: getattr(each.settings, name) for name in type(each.settings).model_fields}
    return {name: value for name, value in values.items() if isinstance(value, Reference) and name != "password"}


def _rooms(each: ConnectorSettings) -> set[str]:
    """Return the connector's known rooms, for the kinds whose room IDs are globally unique."""
    if each.kind not in ("matrix", "discord"):
        return set()
    return {room for room in (each.room, *_only(each)) if room is not None}


def _only(each: ConnectorSettings) -> tuple[str, ...]:
    return tuple(getattr(each.settings, "rooms", ()))


def _is_same_user(first: ConnectorSettings, second: ConnectorSettings) -> bool:
    return first.kind == "matrix" and getattr(first.settings, "user", None) == getattr(second.settings, "user", None)
