"""Pulling the plug: every process is killed, at every place and at any moment, and nothing is lost or done twice."""

from __future__ import annotations

import random
import secrets
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import os
import pytest

from tests.operator_client import Operator
from tests.whole import places, scenes
from tests.whole.books import Books
from tests.whole.installation import Installation, installation
from tests.whole.scenes import Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from fleet.sim.provider import Provider
    from tests.synapse import Synapse
    from tests.whole.scenes import Scene

pytestmark = pytest.mark.synapse

SEED = os.environ.get("MUSTER_SEED") or secrets.token_hex(4)


def both(*steps: str) -> tuple[str, ...]:
    """The places before and after each step."""
    return tuple(f"{step}.{side}" for step in steps for side in ("before", "after"))


#: Which scene passes which places of the orchestrator.
SCENES: dict[Scene, tuple[str, ...]] = {
    scenes.life: both(
        "inbox.accept",
        "command.accept",
        "command.step",
        "command.finish",
        "roster.write",
        "agent.spawn",
        "journal.follow",
        "outbox.record",
        "outbox.send",
        "chat.talk",
        "message.hand_over",
        "message.handed_over",
    ),
    scenes.talk: both("chat.react", "approval.answer", "approval.answered", "chat.remark", "chat.withdraw"),
    scenes.by_other_doors: both("chat.turn_away"),
    scenes.killing: both("command.confirm", "agent.killed"),
    scenes.gone: both("agent.gone"),
    scenes.failed_start: both("agent.spawn_failed"),
    scenes.watched: both("watch.update"),
}


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random choices of a test; MUSTER_SEED repeats them."""
    print(f"MUSTER_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.name}")


@asynccontextmanager
async def staged(folder: Path, synapse: Synapse, models: Provider, **settings: object) -> AsyncIterator[Stage]:
    """A stage whose standing agent is ready, and whose orchestrator was killed; at the end the books are balanced."""
    async with (
        installation(folder, synapse, models, **settings) as home,
        Operator(await synapse.register(prefix="stan")) as stranger,
    ):
        stage = Stage(home, Books(home), stranger=stranger)
        await home.ana.invite(home.room, stranger.user_id)
        await stranger.join(home.room)
        await home.start()
        await home.joined()
        await stage.set_up()
        await home.kill()
        yield stage
        if home.process is None:
            await home.start()
        await stage.books.settled()
        for name in home.agents():
            await stage.books.ask(f"!stop {name}")
        await home.nobody_left()
        await stage.books.balance()


async def kill_at(stage: Stage, scene: Scene, crashes: Sequence[str]) -> None:
    """Play a scene, again and again, until the orchestrator has died at each of these places."""
    left = len(crashes)
    async with stage.home.revived(crashes) as deaths:
        while len(deaths) < left:
            before = len(deaths)
            await stage.play(scene)
            assert len(deaths) > before, f"{scene.__name__} does not pass {crashes[before]}"
    assert deaths == list(crashes)


@pytest.mark.soak
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_the_orchestrator_dies_at_every_place(
    tmp_path: Path, synapse: Synapse, models: Provider, scene: Scene
) -> None:
    async with staged(tmp_path, synapse, models) as stage:
        await kill_at(stage, scene, SCENES[scene])
