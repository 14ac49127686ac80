"""A week in fast motion, in a room in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from bot.egress_client.in_process import InProcessEgress
from connectors.contract.messages import File
from tests.bot.orchestrator import House, house
from tests.week import story
from tests.week.simulated_clock import BEGINNING, HOUR, LIMIT, FakeClock, Week, clocked_hosts


@dataclass(slots=True)
class MemoryRoom:
    """The operator's room and its threads, in memory."""

    home: House

    async def ask(self, text: str) -> str:
        return await self.home.ask(text)

    async def say(self, text: str, agent: str) -> None:
        self.home.say(text, await self.home.thread(agent))

    async def texts(self) -> list[str]:
        return [each.text for each in self.home.chat.said]

    async def heard(self, words: str) -> str:
        def found() -> list[str]:
            return [each.text for each in self.home.chat.said if words in each.text]

        try:
            await self.home.chat.until(found, limit=LIMIT)
        except TimeoutError:
            last = "\n".join((await self.texts())[-15:])
            raise AssertionError(f"not heard: {words!r}; the last that was:\n{last}") from None
        return found()[0]

    async def pictures(self) -> list[bytes]:
        files = [each.content for each in self.home.chat.said if isinstance(each.content, File)]
        return [Path(each.path).read_bytes() for each in files]


@contextlib.asynccontextmanager
async def fast_motion(tmp_path: Path) -> AsyncIterator[Week]:
    clock = FakeClock(tmp_path / "clock", BEGINNING + 8 * HOUR)
    account = "main: {provider: anthropic, kind: subscription, base_url: URL, credential: 'env:KEY'}"
    async with house(
        tmp_path / "home",
        settings=yaml.safe_dump(story.settings(daily="0 9 * * fri")),
        roster=story.ROSTER,
        clock=clock,
        limits=story.LIMITS,
        account=account,
        key=story.KEY,
    ) as home:
        with clocked_hosts(clock):
            async with home.open() as orchestrator:
                assert isinstance(home.egress, InProcessEgress)
                yield Week(orchestrator, MemoryRoom(home), clock, home.egress, home.models)


async def test_a_day_in_fast_motion(tmp_path: Path) -> None:
    async with fast_motion(tmp_path) as week:
        await story.live_a_day(week)
        assert await story.daily_reports(week) == ["Thu 17 Jun"]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_week_in_fast_motion(tmp_path: Path) -> None:
    async with fast_motion(tmp_path) as week:
        await story.live(week)
        assert await story.daily_reports(week) == ["Thu 17 Jun"]
        pictures = await week.room.pictures()
    assert len(pictures) == 2, "of the report, and of the window that was used up"
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
