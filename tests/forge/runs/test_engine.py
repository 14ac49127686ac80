"""Rounds go on after whatever ends the process."""

from __future__ import annotations

import asyncio
import stat
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from forge.runs.engine import RoundEngine
from forge.runs.round import RoundStep


@dataclass
class Orders:
    """Answers each step at once, or when it may."""

    placed: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    holds: dict[RoundStep, asyncio.Event] = field(default_factory=dict)
    reached: dict[RoundStep, asyncio.Event] = field(default_factory=dict)

    async def place(self, run: str, number: int, step: RoundStep) -> str:
        self.placed[run, number, step.value] += 1
        self.reached.setdefault(step, asyncio.Event()).set()
        if step in self.holds:
            await self.holds[step].wait()
        return {RoundStep.WORK: "signalled", RoundStep.PUBLISH: "pushed"}.get(step, "done")

    async def until(self, step: RoundStep) -> None:
        await self.reached.setdefault(step, asyncio.Event()).wait()


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[list[RoundEngine]]:
    started: list[RoundEngine] = []
    yield started
    for engine in started:
        await engine.stop()


async def test_a_round_goes_on_where_it_was(tmp_path: Path, engines: list[RoundEngine]) -> None:
    file = tmp_path / "workflows.db"
    first = Orders(holds={RoundStep.PROPOSE: asyncio.Event()})
    engine = RoundEngine(first.place, file)
    engines.append(engine)
    await engine.start()
    await engine.begin("run", 1)
    await engine.begin("run", 1)
    await first.until(RoundStep.PROPOSE)
    await engine.stop()
    engines.clear()

    second = Orders()
    engine = RoundEngine(second.place, file)
    engines.append(engine)
    await engine.start()
    await second.until(RoundStep.SETTLE)
    assert [step for _, _, step in second.placed] == ["propose", "record", "settle"]
    assert set(first.placed.values()) == {1}
    for each in tmp_path.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each
