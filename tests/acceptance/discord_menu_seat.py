"""On Discord without the message-content intent: everything by slash commands, chosen from the menu that is there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from tests.acceptance.discord_seat import DiscordSeat
from tests.acceptance.seat import LIMIT, Seen
from tests.connectors.discord.fake_server_state import Json

_SUBCOMMAND, _BOOLEAN, _NUMBERS = 1, 5, {4: int, 10: float}
#: What a command is called in the menu that has others below it.
_ITSELF = "show"


class DiscordMenuSeat(DiscordSeat):
    """The app of `ana`, who writes nothing and chooses from menus."""

    takes_back = False
    attaches = False

    def __init__(self, world: Any, api: str) -> None:
        super().__init__(world, api)
        world.granted = False
        self._own_words: set[str] = set()

    def block(self) -> Mapping[str, Any]:
        return {**super().block(), "message_content": False}

    async def arrived(self) -> None:
        await self._world.until(lambda: self._world.commands, LIMIT)

    async def say(self, text: str, place: str) -> str:
        name, options = self._chosen(text)
        number = self._world.invoke(name, options, place=self._place(place))
        if name == "say":
            self._own_words.add(number)
        return number

    async def look(self) -> list[Seen]:
        # The answer to /say shows what was said, for all to read.
        own = {self._world.responses[each]["id"] for each in self._own_words if each in self._world.responses}
        return [each for each in await super().look() if each.id not in own]

    async def receipts(self, message: str, place: str) -> list[str]:
        shown = self._world.responses.get(message)
        return [] if shown is None else self._world.reactions(shown["id"])

    # --- choosing ------------------------------------------------------------------------------------------------

    def _chosen(self, text: str) -> tuple[str, list[Json]]:
        """The command of the menu that does what somebody would have typed, and what is filled in."""
        if not text.startswith("!"):
            return "say", [{"name": "text", "type": 3, "value": text}]
        name, *words = shlex.split(text[1:])
        command = next(each for each in self._world.commands if each["name"] == name)
        below = {each["name"]: each for each in command.get("options", []) if each["type"] == _SUBCOMMAND}
        if not below:
            return name, _filled(command, words)
        chosen = words.pop(0) if words and words[0] in below else _ITSELF
        return name, [{"name": chosen, "type": _SUBCOMMAND, "options": _filled(below[chosen], words)}]


def _filled(command: Json, words: list[str]) -> list[Json]:
    """Values for a command's options: named ones by their names, the others in their order."""
    known = {each["name"]: each for each in command.get("options", [])}
    free = [each for each in known.values() if each.get("required")] or list(known.values())
    filled = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            option = known[word[2:].replace("-", "_")] if word[2:] not in known else known[word[2:]]
            value: Any = True if option["type"] == _BOOLEAN else rest.pop(0)
        else:
            option, value = free.pop(0), word
        value = _NUMBERS.get(option["type"], lambda given: given)(value)
        filled.append({"name": option["name"], "type": option["type"], "value": value})
    return filled
