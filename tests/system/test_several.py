"""Two rooms on a real homeserver and a channel on a Discord, in one fleet: each shows what stands in the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from fleet.sim.provider.server import Provider
from tests.bot.orchestrator import House, house
from tests.connectors.discord.fake_server_state import World
from tests.connectors.discord.server import serving
from tests.operator_client import LIMIT, Event, Operator, body
from tests.synapse import Account, Synapse
from tests.system.matrix_installation import installation

pytestmark = [pytest.mark.synapse, pytest.mark.slow]

_SETTINGS = """\
connectors:
  memory: {{}}
  matrix: {{homeserver: '{url}', user: '{bot}', access_token: 'file:bot', fleet_room: '{room}', bridge: true}}
  night:
    kind: matrix
    homeserver: '{url}'
    user: '{second}'
    access_token: file:second
    fleet_room: '{other}'
    bridge: true
  discord: {{token: 'file:discord', guild: {guild}, channel: {channel}, api: '{api}', bridge: true}}
operators:
  memory:@ana: admin
  "matrix:{ana}": admin
  "night:{ana}": operator
  discord:{discord_ana}: admin
"""


@dataclass
class ThreadCache:
    home: House
    ana: Operator
    bot: Account
    second: Account
    room: str
    other: str
    world: World

    def sender(self, room: str) -> str:
        return self.bot.user_id if room == self.room else self.second.user_id

    async def heard(self, room: str, words: str) -> Event:
        """What the bot of a Matrix room says there that holds `words`, also by changing what it said."""
        sender = self.sender(room)
        return await self.ana.wait_for(room, lambda event: event["sender"] == sender and words in body(event))

    async def told(self, words: str) -> str:
        """A message of the bot's in the channel on Discord that holds `words`: its id."""

        def found() -> list[str]:
            return [str(each["id"]) for each in self.world.said() if words in each["content"]]

        await self.world.until(found, limit=LIMIT)
        return found()[0]

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with self.home.open() as orchestrator, asyncio.timeout(300):
            while not all(each.reachable for each in (await orchestrator.delivery.health()).values()):
                await asyncio.sleep(0.05)
            for room in (self.room, self.other):
                while await self.ana.membership(room, self.sender(room)) != "join":
                    await asyncio.sleep(0.05)
            yield


@contextlib.asynccontextmanager
async def places(folder: Path, synapse: Synapse) -> AsyncIterator[ThreadCache]:
    ana, bot, second = [await synapse.register(prefix=prefix) for prefix in ("ana", "bot", "second")]
    async with Operator(ana) as client, serving() as (world, api), house(folder) as home:
        room = await client.create_room("fleet", invite=[bot.user_id])
        other = await client.create_room("night", invite=[second.user_id])
        rest = home.paths.muster_yaml.read_text().partition("accounts:")[2]
        written = _SETTINGS.format(
            url=synapse.url, bot=bot.user_id, second=second.user_id, room=room, other=other, api=api, ana=ana.user_id,
            guild=world.guild, channel=world.channel.id, discord_ana=world.ana.id,
        )  # fmt: skip
        home.paths.muster_yaml.write_text(f"{written}accounts:{rest}")
        for name, token in (("bot", bot.access_token), ("second", second.access_token), ("discord", world.token)):
            (home.paths.config / name).write_text(token)
        yield ThreadCache(home, client, bot, second, room, other, world)


async def test_a_request_stands_in_two_rooms_and_a_channel_and_is_closed_in_all_of_them(
    tmp_path: Path, synapse: Synapse
) -> None:
    async with places(tmp_path, synapse) as at:
        async with at.open():
            # A command, and who gave it where.
            await at.ana.say(at.room, "!whoami")
            await at.heard(at.other, "> !whoami")
            await at.told(f"You are `matrix:{at.ana.user_id}`")
            # Launched from Discord, an agent has its thread there.
            at.world.say("!launch coder0 --runtime sim --sandbox none")
            for room in (at.room, at.other):
                await at.heard(room, "Its thread is on **discord**")
            await at.world.until(lambda: [text for text in map(str, at.world.threads()) if "coder0" in text], limit=60)
            (thread,) = at.world.threads()
            await at.world.until(lambda: [text for text in at.world.texts(thread) if "Ready" in text], limit=60)
            at.world.say("[[run: echo one > one.txt]]", place=thread)
            await at.heard(at.room, "asks for permission")
            asked = await at.heard(at.other, "asks for permission")
            await at.told("asks for permission")
            await at.ana.react(at.other, asked["event_id"], "✅")
            done = f"by night:{at.ana.user_id}"
            await at.heard(at.other, done)
            await at.heard(at.room, done)
            await at.told(done)
            await at.world.until(lambda: [text for text in at.world.texts(thread) if done in text], limit=LIMIT)
            await at.home.chat.until((at.home.paths.workspace("coder0") / "one.txt").exists, limit=LIMIT)
            # Spoken to from Matrix, it answers in its thread and there.
            await at.ana.say(at.room, "!send coder0 [[run: echo two > two.txt]][[say: twice]]")
            await at.told("asks for permission `")
        # It waits while Muster is away, and is answered after that.
        async with at.open():
            question = await at.told("asks for permission `")
            (allow,) = [
                id for label, id in at.world.buttons(question).items() if "✅" in label or "allow" in label.lower()
            ][:1]
            at.world.click(question, allow)
            done = f"by discord:{at.world.ana.id}"
            await at.heard(at.other, done)
            await at.heard(at.room, done)
            await at.heard(at.room, "twice")
            await at.world.until(lambda: [text for text in at.world.texts(thread) if "twice" in text], limit=LIMIT)
            for room in (at.room, at.other):
                notified = [event for event in await at.ana.events(room) if event["content"].get("m.mentions")]
                assert not [event for event in notified if event["sender"] == at.sender(room)], "it pings nobody"
        assert not at.world.loud
        said = [body(event) for event in await at.ana.messages(at.other, at.second.user_id)]
        assert len([text for text in said if "> !whoami" in text]) == 1


async def test_killed_at_every_step_what_is_mirrored_stands_in_the_other_room_once(
    tmp_path: Path, synapse: Synapse, models: Provider
) -> None:
    steps = ("chat.mirror", "command.finish", "outbox.record", "outbox.send")
    crashes = [f"{step}.{side}" for step in steps for side in ("before", "after")]
    second = await synapse.register(prefix="second")
    async with installation(tmp_path, synapse, models) as home:
        other = await home.ana.create_room("night", invite=[second.user_id])
        (home.paths.config / "second").write_text(second.access_token)
        rooms = {
            name: {
                "kind": "matrix", "homeserver": synapse.url, "user": user, "access_token": token, "fleet_room": room,
                "bridge": True,
            }
            for name, user, token, room in (
                ("matrix", home.bot.user_id, "env:MATRIX_TOKEN", home.room),
                ("night", second.user_id, "file:second", other),
            )
        }  # fmt: skip
        operators = {f"{name}:{home.ana.user_id}": "admin" for name in rooms}
        home.configure(connectors=rooms, operators=operators)
        said = 0
        async with home.revived(crashes) as deaths:
            await home.joined()
            async with asyncio.timeout(LIMIT):
                while await home.ana.membership(other, second.user_id) != "join":
                    await asyncio.sleep(0.05)
            while len(deaths) < len(crashes):
                said += 1
                await home.reply(await home.ana.say(home.room, f"!tail zz{said:03}"))
                for begins in ("`@", "↳ to `@"):
                    await home.ana.wait_for(other, partial(_carries, second.user_id, begins, f"zz{said:03}"))
        assert deaths == crashes
        stand = [body(event) for event in await home.ana.messages(other, second.user_id)]
        for begins in ("`@", "↳ to `@"):
            copies = [text[text.index("zz") :][:5] for text in stand if text.startswith(begins)]
            assert sorted(copies) == [f"zz{number + 1:03}" for number in range(said)]


def _carries(sender: str, begins: str, words: str, event: Event) -> bool:
    return event["sender"] == sender and body(event).startswith(begins) and words in body(event)
