"""Rooms by name: what ``#fleet:example.org`` leads to (Client-Server API v1.11, "Room aliases").

Whoever administers the server of an alias decides where it leads. So it is asked once where the fleet speaks, and what
it said first stands from then on, in the cursor; that it leads elsewhere now is told and not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import structlog

from connectors.contract.connector_protocol import TryLater
from connectors.matrix.homeserver_client import LOGGED_OUT, HomeserverClient, HomeserverRequestError, MatrixRefusal
from connectors.matrix.room_cache import Rooms
from connectors.matrix.settings import is_alias, is_room

#: Seconds after which it is looked again where aliases lead, and after which one that led nowhere is tried again.
LOOK_AGAIN = 3600.0
_TRY_AGAIN = 30.0
#: Aliases that are remembered; there are as many as someone writes into the settings.
_KEPT = 100

_log = structlog.get_logger(__name__)


class Aliases:
    """Where the names lead that the settings use."""

    def __init__(self, names: Iterable[str], rooms: Rooms, *, connector: str, clock: Callable[[], float]) -> None:
        self._named = frozenset(name for name in names if is_alias(name))
        self._wanted = dict.fromkeys(sorted(self._named))
        self._rooms = rooms
        self._connector = connector
        self._clock = clock
        self._known: dict[str, str] = {}
        self._look_at = 0.0
        self._try_at: dict[str, float] = {}

    def add(self, name: str) -> None:
        """Look up one more name from now on."""
        if is_alias(name) and name not in self._named:
            self._named |= {name}
            self._wanted.setdefault(name)

    def take(self, known: Mapping[str, str]) -> None:
        """What was found in earlier lives; it goes before what is found now."""
        self._known |= known

    def known(self) -> tuple[tuple[str, str], ...]:
        """(alias, room) of all that was ever found."""
        return tuple(sorted(self._known.items()))

    def room(self, name: str) -> str | None:
        """Return the id of a room that is named by its id or by an alias; None while no one knows where that leads."""
        return self._known.get(name) if is_alias(name) else name

    async def find(self, wire: HomeserverClient, name: str) -> str:
        """Return the id of a room that is named by its id or by an alias.

        Raises:
            TryLater: the alias leads nowhere, or no one can say where now.
        """
        found = self.room(name)
        if found is not None:
            return found
        self._wanted.setdefault(name)
        now = self._clock()
        if now >= self._try_at.get(name, 0.0):
            try:
                await self._look_up(wire, name)
            except HomeserverRequestError as error:
                raise TryLater(f"the homeserver does not say where {name} leads: {error}") from error
        found = self._known.get(name)
        if found is None:
            raise TryLater(f"{name} leads to no room", after=max(0.0, self._try_at.get(name, now) - now))
        return found

    async def look(self, wire: HomeserverClient) -> None:
        """See where they lead, if it is time to.

        Raises:
            HomeserverRequestError: the homeserver answers nothing now, so not where one leads that was never found.
        """
        now = self._clock()
        if not self._wanted or 0.0 <= self._look_at - now <= LOOK_AGAIN:
            return
        for name in tuple(self._wanted):
            try:
                await self._look_up(wire, name)
            except HomeserverRequestError as error:
                if name in self._known:
                    continue
                if not isinstance(error, MatrixRefusal) or error.limited or error.code in LOGGED_OUT:
                    raise
                # The alias may be another server's, for which the rooms of this one must not wait.
                sentence = f"The homeserver does not say where {name} leads: {error}."
                self._rooms.note(f"alias {name}", sentence, grave=self._is_missed(name))
        missing = any(name not in self._known for name in self._wanted)
        self._look_at = now + (_TRY_AGAIN if missing else LOOK_AGAIN)

    def _is_missed(self, name: str) -> bool:
        """Return whether the fleet lacks a room as long as this leads nowhere. What still waits for one that the
        settings name no more says nothing of how the connector is now."""
        return name in self._named and name not in self._known

    async def _look_up(self, wire: HomeserverClient, name: str) -> None:
        note = f"alias {name}"
        try:
            found = (await wire.call("GET", "directory", "room", name)).get("room_id")
        except MatrixRefusal as error:
            if error.passes:
                raise
            self._try_at[name] = self._clock() + _TRY_AGAIN
            kept = self._known.get(name)
            self._rooms.note(
                note,
                f"{name} leads to no room ({error}). "
                + (
                    f"The fleet stays in {kept}, to which it led at first."
                    if kept is not None
                    else "Give the room this address in Element (room settings, General), or write its id instead."
                ),
                grave=self._is_missed(name),
            )
            return
        if not isinstance(found, str) or not is_room(found):
            self._try_at[name] = self._clock() + _TRY_AGAIN
            sentence = f"The homeserver does not say in a usable way where {name} leads."
            self._rooms.note(note, sentence, grave=self._is_missed(name))
            return
        kept = self._known.get(name)
        if kept is None:
            if len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[name] = found
            _log.info("matrix_alias", connector=self._connector, alias=name, room=found)
        if kept is None or kept == found:
            self._rooms.forget_note(note)
            return
        _log.warning("matrix_alias_moved", connector=self._connector, alias=name, room=kept, leads_to=found)
        self._rooms.note(
            note,
            f"{name} leads to {found} now. The fleet stays in {kept}, to which it led at first; to move it, write "
            f"{found} in its place in muster.yaml, invite the bot there, and restart Muster.",
        )
