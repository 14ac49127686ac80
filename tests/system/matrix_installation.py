"""A whole installation in a test: `muster up` as a process that can be killed, and its room on a real homeserver.

async with installation(folder, synapse, models) as home:
    await home.start(MUSTER_CRASH="outbox.send.after")
    await home.ana.say(home.room, "!ps")
    assert await home.ended() == -signal.SIGKILL
    await home.start()
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bot.config.paths import Paths
from fleet.sim.provider.server import Provider
from tests.operator_client import Event, Operator, body, relation, thread_root
from tests.synapse import Account, Synapse
from tests.system.installation import LIMIT, Premises

#: The member of our events under which the bot's own key stands (connectors.matrix.message_conversion.KEY).
KEY = "fleet.muster.key"


@dataclass(slots=True, kw_only=True)
class Installation(Premises):
    """One MUSTER_HOME with its bot, its operator and their room on a real homeserver."""

    synapse: Synapse
    bot: Account
    ana: Operator
    room: str
    kind: str = "matrix"

    def secrets(self) -> Mapping[str, str]:
        return {"MATRIX_TOKEN": self.bot.access_token}

    def configure(self, **changes: Any) -> None:
        """Write muster.yaml; `changes` replace top-level sections, and holds from the next start on."""
        settings: dict[str, Any] = {
            "connectors": {
                "matrix": {
                    "homeserver": self.synapse.url,
                    "user": self.bot.user_id,
                    "access_token": "env:MATRIX_TOKEN",
                    "fleet_room": self.room,
                }
            },
            "operators": {f"matrix:{self.ana.user_id}": "admin"},
            "accounts": {"sim": {"provider": "anthropic", "base_url": self.models.url, "credential": "env:SIM_KEY"}},
            "agents": {"runtime": "sim", "sandbox": "none", "heartbeat": "1s"},
            "watchdog": {"every": "1s"},
        }
        self.paths.muster_yaml.write_text(yaml.safe_dump(settings | changes))

    # --- the room -------------------------------------------------------------------------------------------------

    async def joined(self) -> None:
        """Wait until the bot is in the room; what was said there before is not for it."""
        try:
            await self.ana.wait_for(self.room, lambda event: _joins(event, self.bot.user_id))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last_words()}") from None

    async def heard(self, wanted: Callable[[Event], bool], *, limit: float = LIMIT) -> Event:
        """The first event of the bot in the room that `wanted` says yes to."""
        try:
            return await self.ana.wait_for(
                self.room, lambda event: event["sender"] == self.bot.user_id and wanted(event), limit=limit
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last_words()}") from None

    async def heard_words(self, words: str, *, thread: str | None = None, limit: float = LIMIT) -> Event:
        """The first message of the bot that holds `words`, edits included; in that thread, if one is given."""

        def fits(event: Event) -> bool:
            if event["type"] != "m.room.message" or words not in body(event):
                return False
            return thread is None or thread_root(event) == thread or relation(event).get("rel_type") == "m.replace"

        return await self.heard(fits, limit=limit)

    async def reply(self, event_id: str, *, limit: float = LIMIT) -> str:
        """The reply to a message, when it comes."""
        return body(await self.heard(lambda event: replies_to(event) == event_id, limit=limit))

    async def ask(self, text: str, *, thread: str | None = None) -> str:
        """Write a command and wait for the reply to it."""
        return await self.reply(await self.ana.say(self.room, text, thread=thread))

    async def marked(self, event_id: str, *marks: str, limit: float = LIMIT) -> None:
        """Wait until the bot has put each of these reactions on a message."""
        for mark in marks:
            await self.heard(lambda event, mark=mark: reacts(event) == (event_id, mark), limit=limit)  # type: ignore[misc]

    async def thread_of(self, agent: str) -> str:
        """The root of the agent's thread, once it is open."""
        opener = await self.heard(lambda event: body(event).startswith(f"{agent} ·") or f"**{agent}** ·" in body(event))
        root: str = opener["event_id"]
        return root

    async def launch(self, agent: str, *options: str) -> str:
        """Launch an agent and wait until it is ready. Returns the root of its thread."""
        await self.ask(" ".join(["!launch", agent, "--runtime", "sim", *options]))
        root = await self.thread_of(agent)
        await self.heard_words("Ready", thread=root)
        return root


@contextlib.asynccontextmanager
async def installation(
    folder: Path, synapse: Synapse, models: Provider, *, invite: bool = True, **settings: Any
) -> AsyncIterator[Installation]:
    """An installation in `folder`, configured and not started; at the end nobody is left of it."""
    paths = Paths.of({"MUSTER_HOME": str(folder / "home"), "HOME": str(folder)})
    paths.config.mkdir(mode=0o700, parents=True)
    account, bot = await synapse.register(prefix="ana"), await synapse.register(prefix="muster")
    async with Operator(account) as ana:
        room = await ana.create_room("fleet", invite=[bot.user_id] if invite else [])
        home = Installation(folder=folder, synapse=synapse, models=models, bot=bot, ana=ana, room=room, paths=paths)
        home.configure(**settings)
        try:
            yield home
        finally:
            await home.close()


def replies_to(event: Event) -> str | None:
    """The message that this one answers; being in a thread is no answer."""
    found = relation(event)
    if found.get("rel_type") == "m.thread" and found.get("is_falling_back"):
        return None
    answered: str | None = found.get("m.in_reply_to", {}).get("event_id")
    return answered


def reacts(event: Event) -> tuple[str, str] | None:
    """The message on which this is a reaction, and the reaction."""
    found = relation(event)
    return (found["event_id"], found["key"]) if found.get("rel_type") == "m.annotation" else None


def _joins(event: Event, user_id: str) -> bool:
    return event.get("state_key") == user_id and event["content"].get("membership") == "join"
