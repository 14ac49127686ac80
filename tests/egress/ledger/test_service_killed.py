"""`kill -9` of whoever writes the ledger: what was acknowledged is there, nothing twice, nothing in between lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from core import crash_points
from tests.egress.ledger.crash_subject import RESERVED, TELLS
from tests.egress.ledger.rows import look, opened, under_way
from tests.soak import share

LIMIT_S = 60.0
PLACES = tuple(
    f"ledger.{step}.{side}" for step in ("commit", "recover", "reserve", "tell", "turn") for side in ("before", "after")
)


@dataclass
class Told:
    """What the ledger acknowledged over all the lives of its writer."""

    reserved: set[str] = field(default_factory=set)
    settled: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    lives: int = 0

    def take(self, line: str) -> None:
        kind, *words = line.split()
        if kind == "r":
            self.reserved.add(words[0])
        elif kind == "s":
            self.settled[words[0]] = int(words[1])
        elif kind == "t":
            self.told[words[0]] = int(words[1])
        elif kind == "d":
            self.denied.add(words[0])
        elif kind == "o":
            self.lives += 1


async def live(path: Path, told: Told, *, lines: int | None = None, place: str | None = None) -> int:
    """Let a writer live until it has said so much, or until it reaches a place; then it is killed."""
    environment = {key: value for key, value in os.environ.items() if key != crash_points.ENVIRONMENT_VARIABLE}
    if place is not None:
        environment[crash_points.ENVIRONMENT_VARIABLE] = place
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.egress.ledger.crash_subject",
        str(path),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    count = 0
    async with asyncio.timeout(LIMIT_S):
        while line := await process.stdout.readline():
            # What was written when it was killed was said, too.
            told.take(line.decode())
            count += 1
            if count == lines:
                process.kill()
        assert await process.wait() == -signal.SIGKILL
    return count


async def check(path: Path, told: Told) -> None:
    async with opened(path) as ledger:
        assert under_way(path) == []
        rows = look(path, "SELECT seq, id, output, reported, detail FROM entries ORDER BY seq")
        assert [seq for seq, *_ in rows] == list(range(1, len(rows) + 1))
        entries = {id_: (output, reported) for _, id_, output, reported, _ in rows}
        assert len(entries) == len(rows)
        for id_, output in told.settled.items():
            assert entries.get(id_) == (output, 1), id_
        for id_ in told.reserved - told.settled.keys():
            assert id_ in entries, id_
            if not entries[id_][1]:
                # What its stream told last holds, also where that was not acknowledged any more.
                told_last = told.told.get(id_, RESERVED)
                assert entries[id_][0] in (told_last, told_last + TELLS), id_
        estimates = [detail for _, _, _, reported, detail in rows if not reported]
        assert set(estimates) <= {"egress_ended"}
        assert told.denied <= ledger.denials.keys()
        total = sum(output for _, _, output, _, _ in rows)
        used = (await ledger.used_since([0.0]))[0.0]
        assert sum(each.tokens.output for each in used if not each.role) == total
        assert sum(each.tokens.output for each in used if each.role) == total


@pytest.mark.parametrize("place", PLACES)
async def test_a_writer_that_dies_at_a_place(tmp_path: Path, place: str) -> None:
    path, told = tmp_path / "ledger.db", Told()
    await live(path, told, lines=200)
    times = {"ledger.commit": 20, "ledger.reserve": 100, "ledger.tell": 100, "ledger.turn": 2}.get(
        place.rpartition(".")[0], 1
    )
    await live(path, told, place=f"{place}:{times}")
    await check(path, told)
    assert told.settled


async def test_the_places_are_all_that_there_are() -> None:
    assert {place for place in crash_points.places() if place.startswith("ledger.")} == set(PLACES)


async def randomly(path: Path, lives: int) -> None:
    seed = int(os.environ.get("MUSTER_SEED") or random.randrange(2**32))
    print(f"MUSTER_SEED={seed}")
    dice = random.Random(seed)
    told = Told()
    for number in range(lives):
        lines = dice.choice([1, 2, dice.randrange(3, 40), dice.randrange(40, 2000)])
        await live(path, told, lines=lines if number else dice.randrange(100, 2000))
        await check(path, told)
    assert told.settled
    assert told.lives == lives


async def test_a_writer_that_dies_anywhere(tmp_path: Path) -> None:
    await randomly(tmp_path / "ledger.db", 3)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_writer_that_dies_anywhere_many_times(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    end, number = loop.time() + share(), 0
    while loop.time() < end:
        number += 1
        await randomly(tmp_path / f"{number}.db", 20)
