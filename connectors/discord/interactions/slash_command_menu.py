"""The menu of slash commands: what choosing one means, and what is offered while someone types."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from connectors.contract.messages import CommandReading
from connectors.contract.slash_command_forms import Asker, Commands
from connectors.discord.interactions import slash_command_schema
from connectors.discord.interactions.interaction_handler import CHOICES, DEFER, Dealt, HeardInteraction, aloud, aside
from connectors.discord.member_roles import Roles

#: Seconds for what has to be known before the acknowledgement; Discord waits three for that.
_KNOWN_WITHIN = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscordCommandMenu:
    commands: Commands
    connector: str
    roles: Roles

    async def chosen(self, heard: HeardInteraction) -> Dealt:
        """Return a command that someone gave. Its answer follows, unless it may not be given at all."""
        name, values = slash_command_schema.chosen(heard.data)
        body = self.commands.words(name, values)
        refusal = await self._refusal(heard)
        inbound = heard.inbound(body, connector=self.connector)
        if refusal is not None:
            return Dealt(acknowledgement=aside(refusal), inbound=inbound, answered=True)
        if body.reading is CommandReading.TALK:
            # The others in the thread see what was said; Discord shows of a command only its name.
            return Dealt(acknowledgement=aloud(body.text), inbound=inbound, answered=True)
        return Dealt(acknowledgement={"type": DEFER}, inbound=inbound)

    async def typed(self, heard: HeardInteraction) -> Dealt:
        """Someone types: what they may mean."""
        found: list[str] = []
        typed = slash_command_schema.typed(heard.data)
        if typed is not None:
            try:
                async with asyncio.timeout(_KNOWN_WITHIN):
                    found += await self.commands.complete(await self._asker(heard), *typed)
            except Exception as error:
                # Nothing is offered; what is typed can be given all the same.
                _log.info("discord_not_completed", reason=repr(error))
        offered = [
            slash_command_schema.choice(each) for each in found if 0 < len(each) <= slash_command_schema.LONGEST_CHOICE
        ]
        return Dealt(
            acknowledgement={"type": CHOICES, "data": {"choices": offered[: slash_command_schema.MOST_CHOICES]}}
        )

    async def _refusal(self, heard: HeardInteraction) -> str | None:
        try:
            async with asyncio.timeout(_KNOWN_WITHIN):
                return await self.commands.refusal(await self._asker(heard))
        except Exception as error:
            # Whether they may is asked again when it is carried out.
            _log.info("discord_asker_not_known", reason=repr(error))
            return None

    async def _asker(self, heard: HeardInteraction) -> Asker:
        groups = heard.groups if heard.groups is not None else await self.roles.of(heard.sender, {})
        return Asker(sender=heard.sender, groups=groups)
