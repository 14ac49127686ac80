"""A small bot for kill tests: it runs as a process on a fake Discord, is killed, and runs again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from connectors.discord.connector import DiscordConnector
from connectors.discord.settings import DiscordSettings
from database.engine.store import Store
from tests.connectors import crash_runs

#: Discord recognises nonces, or has forgotten them: then the bot has to look.
MODES = ("keys", "looks")


async def main(register_url: str, settings: dict[str, str | int], folder: str, mode: str, events: int) -> None:
    """Live until `events` events are dealt with."""
    store = await Store.open(register_url)
    connector = DiscordConnector("discord", DiscordSettings.model_validate(settings), Path(folder))
    if mode == "looks":
        connector.capabilities = replace(connector.capabilities, remembers_keys=None)
    await crash_runs.lead(store, connector, events)
    await store.close()
