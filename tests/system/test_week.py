"""A week in fast motion on a real homeserver: what the operator of a fleet sees from one reset to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from bot.app.orchestrator import running
from bot.config.loader import load
from bot.config.paths import Paths
from bot.egress_client.in_process import inside
from fleet.sim.provider import server as provider
from fleet.sim.provider.request_script import Script
from fleet.supervision import host_lifecycle
from tests.operator_client import Event, Operator, body, relation
from tests.synapse import Account, Synapse
from tests.system.matrix_installation import replies_to
from tests.week import story
from tests.week.simulated_clock import BEGINNING, HOUR, FakeClock, Week, clocked_hosts

pytestmark = pytest.mark.synapse

#: Of the day before the first there is nothing to tell but that.
DAYS = ["Wed 16 Jun", "Thu 17 Jun", "Fri 18 Jun", "Sat 19 Jun", "Sun 20 Jun", "Mon 21 Jun", "Tue 22 Jun", "Wed 23 Jun"]


@dataclass(slots=True)
class MatrixRoom:
    """The operator's room on a homeserver, and its threads."""

    ana: Operator
    bot: Account
    room: str

    async def ask(self, text: str) -> str:
        said = await self.ana.say(self.room, text)
        reply = (await self._first(lambda event: replies_to(event) == said))["event_id"]
        # Until it is known what becomes of a task its thread is opened by other words, which are changed then.
        return body(await self._first(lambda event: _stands_as(event) == reply and _is_whole(event)))

    async def say(self, text: str, agent: str) -> None:
        opener = await self._first(lambda event: body(event).startswith(f"**{agent}** ·"))
        await self.ana.say(self.room, text, thread=opener["event_id"])

    async def texts(self) -> list[str]:
        return [body(event) for event in await self.ana.messages(self.room, self.bot.user_id)]

    async def heard(self, words: str) -> str:
        return body(await self._first(lambda event: event["type"] == "m.room.message" and words in body(event)))

    async def pictures(self) -> list[bytes]:
        found = await self.ana.messages(self.room, self.bot.user_id)
        images = [event["content"] for event in found if event["content"]["msgtype"] == "m.image"]
        return [await self.ana.download(each["url"]) for each in images]

    async def _first(self, wanted: Callable[[Event], bool]) -> Event:
        return await self.ana.wait_for(self.room, lambda event: event["sender"] == self.bot.user_id and wanted(event))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_week_in_fast_motion(tmp_path: Path, synapse: Synapse, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(tmp_path / "clock", BEGINNING + 8 * HOUR)
    paths = Paths.of({"MUSTER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})
    paths.prepare()
    paths.roster_yaml.write_text(story.ROSTER)
    orders = provider.SimSettings(script=Script(limits=story.LIMITS), clock=clock)
    account, bot = await synapse.register(prefix="ana"), await synapse.register(prefix="muster")
    async with Operator(account) as ana, provider.running(orders) as models, inside(paths, clock) as egress:
        room = await ana.create_room("fleet", invite=[bot.user_id])
        settings = {
            "connectors": {
                "matrix": {
                    "homeserver": synapse.url,
                    "user": bot.user_id,
                    "access_token": "env:MATRIX_TOKEN",
                    "fleet_room": room,
                }
            },
            "operators": {f"matrix:{ana.user_id}": "admin"},
            "accounts": {
                "main": {
                    "provider": "anthropic",
                    "kind": "subscription",
                    "base_url": models.url,
                    "credential": "env:PLAN",
                }
            },
        }
        paths.muster_yaml.write_text(yaml.safe_dump(settings | story.settings()))
        # Connectors look their references up in the process's own environment.
        monkeypatch.setenv("MATRIX_TOKEN", bot.access_token)
        given = {"PLAN": story.KEY}
        try:
            with clocked_hosts(clock):
                async with running(paths, load(paths), given, clock=clock, egress=egress) as orchestrator:
                    await ana.wait_for(room, lambda event: _joins(event, bot.user_id))
                    here = MatrixRoom(ana, bot, room)
                    week = Week(orchestrator, here, clock, egress, models)
                    await story.live(week)
                    assert await story.daily_reports(week) == DAYS
                    pictures = await here.pictures()
        finally:
            for agent in paths.agents.iterdir():
                await host_lifecycle.kill(agent)
    assert len(pictures) >= 5, "of each day of which something was known, and of the window that was used up"
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def _stands_as(event: Event) -> str:
    """The message which this one is, or changes."""
    found = relation(event)
    return str(found["event_id"] if found.get("rel_type") == "m.replace" else event["event_id"])


def _is_whole(event: Event) -> bool:
    return not body(event).endswith("is in the queue.")


def _joins(event: Event, user_id: str) -> bool:
    return event.get("state_key") == user_id and event["content"].get("membership") == "join"
