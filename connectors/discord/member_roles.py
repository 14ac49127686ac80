"""The roles that people have in the server, as groups: ``role:123``.

Events in the server name them. What comes from the history or from a direct conversation does not, so Discord is asked,
and its answer counts for half a minute.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from connectors.discord.json_values import Json, identifier, json_object
from connectors.discord.rest_client import DiscordRefusal

#: Seconds for which an answer of Discord's counts.
FRESH = 30.0
_MOST_PEOPLE = 1_000


@dataclass(kw_only=True)
class Roles:
    guild: str
    ask: Callable[[str], Awaitable[Any]]
    """Ask the API for what stands at a path; raises `DiscordRefusal` when the answer is no."""
    steady: Callable[[], float] = time.monotonic
    _known: OrderedDict[str, tuple[float, tuple[str, ...]]] = field(default_factory=OrderedDict)

    async def of(self, person: str, event: Json) -> tuple[str, ...]:
        """Return the groups of whoever an event is about, by the event itself or by asking; none outside of the server.

        Raises:
            NotReady: there is no answer now.
        """
        told = groups(event.get("member")) if event.get("guild_id") == self.guild else None
        if told is None:
            if (known := self.known(person)) is not None:
                return known
            try:
                told = groups(await self.ask(f"/guilds/{self.guild}/members/{person}")) or ()
            except DiscordRefusal:
                told = ()
        self._known[person] = self.steady() + FRESH, told
        self._known.move_to_end(person)
        if len(self._known) > _MOST_PEOPLE:
            self._known.popitem(last=False)
        return told

    def known(self, person: str, *, old: bool = False) -> tuple[str, ...] | None:
        """Return the groups of someone, where no one needs to be asked; with `old` also those of some time ago."""
        until, groups = self._known.get(person, (None, ()))
        return groups if until is not None and (old or until > self.steady()) else None


def groups(member: object) -> tuple[str, ...] | None:
    """Return the groups of a member of the server; None when it is not said which roles they have."""
    roles = json_object(member).get("roles")
    return tuple(f"role:{each}" for each in roles if identifier(each)) if isinstance(roles, list) else None
