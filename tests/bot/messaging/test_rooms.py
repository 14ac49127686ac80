"""Where the fleet is spoken of, and that what is said there is written as its readers type."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bot.app.connectors import main_room
from bot.commands.syntax import command_line
from bot.config.schema import ConnectorSettings
from bot.messaging import rooms
from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import Composer, MessagePlace
from bot.text.errors import UserError
from connectors.contract.messages import Capabilities, Message
from connectors.delivery import outbox
from connectors.discord.settings import DiscordSettings
from core.crash_points import declare
from core.redaction import SecretMasker
from database.engine.store import Store
from database.queries.agents import agents

STEP = declare("tests.rooms")


def unsaid() -> tuple[str, str]:
    raise UserError("no room")


def agent(name: str, room: str, started_at: float | None) -> agents.AgentRow:
    return agents.AgentRow(
        name=name, role="coder", runtime="sim", model=None, sandbox="none", workspace="/w", wanted="running",
        at_once=False, keep_session=True, state="idle", detail=None, launch_id=name, launched_by="ana",
        connector="memory", room=room, thread_key=name, started_at=started_at, stopped_at=None,
    )  # fmt: skip


async def test_without_a_main_room_it_is_where_the_newest_agent_was_launched(store: Store) -> None:
    async with store.write(STEP) as tx:
        assert await rooms.fleet_room(tx, unsaid) is None
        await agents.add(tx, agent("new", "workshop", 20.0))
        await agents.add(tx, agent("old", "attic", 10.0))
        await agents.add(tx, agent("unstarted", "cellar", None))
        assert await rooms.fleet_room(tx, unsaid) == MessagePlace("memory", conversation="workshop")
        assert await rooms.fleet_room(tx, lambda: ("matrix", "hall")) == MessagePlace("matrix", conversation="hall")


async def test_what_is_said_there_names_commands_as_that_chat_has_them_and_no_secrets(
    store: Store, tmp_path: Path
) -> None:
    voice = AgentChannel(
        Composer(tmp_path),
        SecretMasker(known=frozenset({"s3cret-key"})),
        lambda _: Capabilities(),
        lambda: 1.0,
        lambda at: f"{at:.0f}",
        "~",
    )
    services: Any = SimpleNamespace(
        main_room=lambda _: ("memory", "hall"), agents=SimpleNamespace(journal_effects=voice)
    )
    async with store.write(STEP) as tx:
        assert await rooms.say(services, tx, "news/1", f"s3cret-key: {command_line('pace')} shows it.")
        said = await outbox.get(tx, "news/1")
        assert said is not None
        assert isinstance(said.outbound.content, Message)
        assert said.outbound.content.text == "[redacted]: `~pace` shows it."
        services.main_room = lambda _: unsaid()
        assert not await rooms.say(services, tx, "news/2", "Nobody is there.")


def test_a_bots_channel_on_discord_is_its_main_room_unless_another_is_named() -> None:
    own = DiscordSettings.model_construct(channel="234567890123456789")
    discord = ConnectorSettings(name="d", kind="discord", settings=own)
    settings: Any = SimpleNamespace(connectors=[discord])
    assert main_room(settings)(None) == ("d", "234567890123456789")
    settings.connectors = [replace(discord, fleet_room="345678901234567890")]
    assert main_room(settings)(None) == ("d", "345678901234567890")
