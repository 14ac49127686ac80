"""Completions at a prompt that runs in the orchestrator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bot.commands.candidates import candidates
from bot.commands.services import CommandServices

#: Prefix of the source of runs that wait for a person's confirmation; the person's identity follows.
CONFIRMING = "confirming "


def at_prompt(services: CommandServices) -> Callable[[str], Awaitable[list[str]]]:
    """Return the completion for a prompt that runs in the orchestrator."""

    async def complete(text: str) -> list[str]:
        return await candidates(services.table, text, services.complete, services.command_prefix)

    return complete
