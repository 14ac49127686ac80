"""`kill -9` at any moment of a stream of commands and messages: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.sim.provider.server import Provider
from tests import soak
from tests.synapse import Synapse
from tests.system import topic_scenes
from tests.system.chaos import Mayhem, Plan
from tests.system.kill_stages import staged

pytestmark = [pytest.mark.synapse, pytest.mark.slow]


async def test_the_orchestrator_is_killed_at_random_moments(
    tmp_path: Path, synapse: Synapse, models: Provider, rng: random.Random
) -> None:
    async with staged(tmp_path, synapse, models) as stage:
        await Mayhem(stage, Plan(kills=2, pauses=(4.0, 0.0)), rng).run()


async def test_the_orchestrator_and_an_agent_host_are_killed_at_random_moments(
    tmp_path: Path, synapse: Synapse, models: Provider, rng: random.Random
) -> None:
    async with staged(tmp_path, synapse, models) as stage:
        await Mayhem(stage, Plan(kills=2, share=1, pauses=(0.0,), hosts=True), rng).run()


async def test_everything_is_killed_at_random_moments(
    tmp_path: Path, private_synapse: Callable[..., Synapse], models: Provider, rng: random.Random
) -> None:
    plan = Plan(kills=3, share=1, pauses=(0.0,), hosts=True, outage=2.0)
    async with staged(tmp_path, private_synapse(sync_cache=False), models) as stage:
        await Mayhem(stage, plan, rng).run()


@pytest.mark.soak
@pytest.mark.parametrize("sync_cache", [True, False])
async def test_everything_is_killed_for_long(
    tmp_path: Path, private_synapse: Callable[..., Synapse], models: Provider, rng: random.Random, sync_cache: bool
) -> None:
    pauses = (0.0,) * 20 + (4.0,) * 10 + (60.0,)
    seconds = 1800.0 if soak.budget() is None else soak.share()
    plan = Plan(kills=100, seconds=seconds, pauses=pauses, hosts=True, outage=10.0)
    async with staged(tmp_path, private_synapse(sync_cache=sync_cache), models) as stage:
        await Mayhem(stage, plan, rng).run()


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_the_orchestrator_is_killed_at_random_moments_of_topics(
    tmp_path: Path, synapse: Synapse, models: Provider, rng: random.Random
) -> None:
    scenes = [topic_scenes.topics, topic_scenes.topic_in_hand, topic_scenes.topic_that_cannot_begin]
    async with staged(tmp_path, synapse, models) as stage, stage.home.revived() as deaths:
        for scene in [*scenes, *rng.choices(scenes, k=3)]:
            playing = asyncio.create_task(stage.play(scene))
            for _ in range(2):
                await stage.home.ready()
                await asyncio.wait([playing], timeout=rng.uniform(0.3, 6.0))
                if not playing.done():
                    stage.home.strike()
            await playing
        print(f"{len(deaths)} kills")
