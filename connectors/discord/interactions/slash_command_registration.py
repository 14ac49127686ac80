"""Telling Discord of the slash commands: those of the server, and those of direct conversations with the bot.

Discord keeps them. They are put again only where it has others, since it takes two hundred new ones a day.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from connectors.contract.slash_command_forms import Commands
from connectors.discord.interactions import slash_command_schema
from connectors.discord.json_values import Json, identifier
from connectors.discord.rest_client import DiscordClient, DiscordRefusal, DiscordRequestError
from connectors.discord.thread_cache import ThreadCache
from core.async_waits import set_within

#: Seconds until it is tried again: what a person has to mend, and what passes.
_MENDED_WITHIN = 60.0
_PASSED_WITHIN = 5.0
_NOTE = "slash commands"

_log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class SlashCommandRegistration:
    wire: DiscordClient
    guild: str
    places: ThreadCache
    commands: Commands
    _application: str | None = None
    _inside: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, event: str, data: Json) -> None:
        """An event of the gateway: whenever the server comes, see to it that Discord has the commands."""
        match event:
            case "READY":
                self._application, self._inside = identifier(data["application"].get("id")), False
            case "GUILD_CREATE" if data.get("id") == self.guild:
                self._inside = True
                self._news.set()
            case "GUILD_DELETE" if data.get("id") == self.guild:
                self._inside = False
                self.places.forget_note(_NOTE)

    async def run(self) -> None:
        """Register whenever the server is there, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            # Who is not in the server is refused as one who lacks the scope is.
            pause = await self._try() if self._inside else None
            if pause is not None:
                # Sooner where there is a new session, which may be one that is allowed more.
                await set_within(self._news, pause)
                self._news.set()

    async def _try(self) -> float | None:
        """Return seconds after which it is to be tried again; None: they are there."""
        of_bot = f"/applications/{self._application}"
        try:
            await self._put(f"{of_bot}/commands", direct=True)
            await self._put(f"{of_bot}/guilds/{self.guild}/commands", direct=False)
        except DiscordRefusal as error:
            if error.passes:
                return error.after or _PASSED_WITHIN
            self.places.note(_NOTE, _sentence(error))
            return _MENDED_WITHIN
        except DiscordRequestError:
            return _PASSED_WITHIN
        self.places.forget_note(_NOTE)
        return None

    async def _put(self, path: str, *, direct: bool) -> None:
        wanted = slash_command_schema.declared(self.commands.forms(), direct=direct)
        if not slash_command_schema.same(wanted, await self.wire.call("GET", path)):
            await self.wire.call("PUT", path, body=wanted)
            _log.info("discord_commands_registered", count=len(wanted), direct=direct)


def _sentence(error: DiscordRefusal) -> str:
    if error.forbidden:
        return (
            "There are no slash commands: the bot was invited without the scope applications.commands. Open an address "
            "with both scopes, bot and applications.commands, from the developer portal (your application, OAuth2), "
            "and invite it again; it need not leave the server."
        )
    return f"Discord does not take the slash commands: {error}. Commands in messages work; update Muster."
