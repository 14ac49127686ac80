"""`kill -9` while somebody works, at every seat: what was said is answered, and everything stands once."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.sim.provider import server as provider
from fleet.sim.provider.server import Provider as Models
from tests import soak
from tests.acceptance import killed_day, seats
from tests.acceptance.killed_day import Scene, staged
from tests.postgres import Postgres


def both(*steps: str) -> tuple[str, ...]:
    """The places before and after each step."""
    return tuple(f"{step}.{side}" for step in steps for side in ("before", "after"))


#: Which scene passes which places, at every seat.
SCENES: dict[Scene, tuple[str, ...]] = {
    killed_day.life: both(
        "inbox.accept",
        "command.accept",
        "command.step",
        "command.finish",
        "agent.spawn",
        "journal.follow",
        "outbox.record",
        "outbox.send",
        "message.hand_over",
        "message.handed_over",
    ),
    killed_day.talk: both("approval.answered"),
    killed_day.confirmed: both("command.confirm", "agent.killed"),
}
PLACES = [(scene, place) for scene, some in SCENES.items() for place in some]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """The random choices of a test; MUSTER_SEED repeats them."""
    return random.Random(f"{soak.seed()} {request.node.name}")


@pytest.fixture
async def models() -> AsyncIterator[Models]:
    """What knows what reached a model."""
    async with provider.running() as running:
        yield running


@pytest.mark.synapse
async def test_killed_at_a_place_at_one_of_the_seats(
    tmp_path: Path, models: Models, request: pytest.FixtureRequest, rng: random.Random
) -> None:
    name = rng.choice(seats.QUICK)
    scene, place = rng.choice(PLACES)
    print(f"at {name}: {place}")
    async with staged(name, tmp_path, models, request) as stage:
        await killed_day.kill_at(stage, scene, [place])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", seats.KEEPING)
async def test_killed_at_some_places(
    name: str, tmp_path: Path, models: Models, request: pytest.FixtureRequest, rng: random.Random
) -> None:
    async with staged(name, tmp_path, models, request) as stage:
        for scene, places in SCENES.items():
            await killed_day.kill_at(stage, scene, rng.sample(places, 2))
            await stage.home.kill()


@pytest.mark.soak
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
@pytest.mark.parametrize("name", seats.KEEPING)
async def test_killed_at_every_place(
    name: str, scene: Scene, tmp_path: Path, models: Models, request: pytest.FixtureRequest
) -> None:
    async with staged(name, tmp_path, models, request) as stage:
        await killed_day.kill_at(stage, scene, SCENES[scene])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", seats.KEEPING)
async def test_killed_at_random_moments(
    name: str, tmp_path: Path, models: Models, request: pytest.FixtureRequest, rng: random.Random
) -> None:
    async with staged(name, tmp_path, models, request) as stage:
        await killed_day.kill_at_random(stage, rng, kills=3)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_killed_with_the_register_on_a_server(
    tmp_path: Path,
    models: Models,
    request: pytest.FixtureRequest,
    rng: random.Random,
    postgres: Postgres,
    emptied_database: str,
) -> None:
    url = postgres.url(emptied_database)
    async with staged("discord", tmp_path, models, request, register={"url": url}) as stage:
        await killed_day.kill_at(stage, killed_day.life, rng.sample(SCENES[killed_day.life], 2))
        await killed_day.kill_at_random(stage, rng, kills=2)
