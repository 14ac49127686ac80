"""Whatever comes together at the gate: limits hold, nothing leaks, and memory and ledger agree to the token."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest

from budget.tokens import Tokens, Weights
from egress.limits.admission_interface import AdmissionRefused, Ending
from egress.limits.reservation import GateLease
from egress.settings import LimitSettings
from tests.egress.ledger.rows import Clock, look, under_way
from tests.egress.limits.gate import House, allowance, asked, house, pool
from tests.soak import share

TOGETHER = 64
CHUNK = 200
_WEIGHTS = Weights()


def seed() -> int:
    chosen = int(os.environ.get("MUSTER_SEED") or random.randrange(2**32))
    print(f"MUSTER_SEED={chosen}")
    return chosen


def some_limits(dice: random.Random) -> list[LimitSettings]:
    offered = [
        pool(dice.randrange(500, 30_000), "host", window=dice.choice([None, "day", "5h", "90m"])),
        pool(dice.randrange(500, 20_000), "account:main"),
        pool(dice.randrange(500, 20_000), "provider:openai", window="week"),
        pool(dice.randrange(500, 20_000), "profile:base", policy=dice.choice(["cutoff", "freeze"])),
        pool(dice.randrange(1, 50) / 100, "host", unit="usd"),
        allowance(dice.randrange(300, 8_000), "profile:base", window=dice.choice([None, "day"])),
        allowance(dice.randrange(300, 8_000), "agent:coder1", window="day", policy="kill"),
        allowance(dice.randrange(300, 8_000), "launch:coder2-1"),
    ]
    return dice.sample(offered, dice.randrange(len(offered) + 1))


class Crowd:
    """Requests of several agents, all at once."""

    def __init__(self, home: House, dice: random.Random) -> None:
        self.home, self.dice = home, dice
        self.admitted = self.refused = self.cut = 0
        self.settled: list[str] = []
        self.live: set[GateLease] = set()

    def check(self) -> None:
        """What holds after every step: where a limit is passed, nobody who draws on it goes on."""
        # A limit that is still being counted from the ledger does not hold yet.
        limits = {(each.kind, each.scope, each.unit, each.window) for each in self.home.gate.settings.limits}
        for lease in self.live:
            # Of a limit that went and came again, the latest counter counts.
            for counter in {hold.counter.key: hold.counter for hold in lease.holds}.values():
                limit = counter.limit
                if counter.reached and (limit.kind, limit.scope, limit.unit, limit.window) in limits:
                    assert lease.cut, counter.key

    async def ask(self) -> None:
        dice, gate = self.dice, self.home.gate
        agent, provider = f"coder{dice.randrange(3)}", dice.choice([("anthropic", "main"), ("openai", "spare")])
        read, most = dice.randrange(1, 2000), dice.choice([None, dice.randrange(1, 600)])
        # No text has more tokens than bytes.
        body = dice.randrange(read, 5 * read + 1)
        request = asked(
            agent,
            provider=provider[0],
            account=provider[1],
            model="claude-sonnet-4-5" if provider[0] == "anthropic" else "gpt-5",
            body_bytes=body,
            max_tokens=most,
        )
        asking = asyncio.ensure_future(gate.admit(request))
        try:
            if dice.random() < 0.05:
                await asyncio.sleep(0)
                asking.cancel()
            lease = await asking
        except AdmissionRefused:
            self.refused += 1
            return
        except asyncio.CancelledError:
            return
        self.admitted += 1
        self.live.add(lease)
        self.check()
        bound = min(most or 10**6, lease.max_tokens or 10**6)
        tokens, written = Tokens(), dice.randrange(1, 5000)
        status, told = 200, dice.random() < 0.7
        ended: Any = dice.choice(["completed"] * 6 + ["client_gone", "upstream_gone", "error"])
        if ended == "error" and dice.random() < 0.7:
            status = 529
        else:
            while tokens.output < min(written, bound) and lease.cut is None:
                more = min(dice.randrange(1, CHUNK), bound - tokens.output)
                tokens = Tokens(input=read if told else 0, output=tokens.output + more)
                lease.progress(tokens)
                self.check()
                await asyncio.sleep(0)
        if lease.cut is not None:
            self.cut += 1
            ended = "cut"
        whole = ended == "completed"
        final = Tokens(input=read, output=tokens.output) if whole else tokens
        ending = Ending(ended=ended, status=status, tokens=final, reported=whole, model=request.model)
        self.live.remove(lease)
        settling = asyncio.ensure_future(lease.settle(ending))
        self.settled.append(lease.id)
        if dice.random() < 0.05:
            await asyncio.sleep(0)
            settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
        self.check()

    async def disturb(self, clock: Clock) -> None:
        dice, home = self.dice, self.home
        for _ in range(dice.randrange(8)):
            await asyncio.sleep(dice.random() * 0.01)
            match dice.randrange(4):
                case 0:
                    await home.limits(*some_limits(dice))
                case 1:
                    await home.gate.deny(
                        f"coder{dice.randrange(3)}", "cutoff", cause="", by="ann", id=str(dice.random())
                    )
                case 2:
                    for agent in range(3):
                        await home.gate.allow(f"coder{agent}", cause="", by="ann")
                case 3:
                    clock.now += dice.choice([1, 600, 7200, 90_000])
            self.check()


async def round_of_all(folder: Path, dice: random.Random) -> Crowd:
    folder.mkdir()
    clock = Clock()
    async with house(folder, *some_limits(dice), agents=3, clock=clock) as home:
        crowd = Crowd(home, dice)
        await asyncio.gather(crowd.disturb(clock), *(crowd.ask() for _ in range(TOGETHER)))
        limits = home.gate.settings.limits
        await home.actions()
        before = home.gate.standing()
        assert before["streams"] == 0
        for row in before["limits"]:
            assert (row["reserved"], row["streaming"]) == (0, 0), row
        rows = look(folder / "ledger.db", "SELECT seq, id FROM entries ORDER BY seq")
        assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
        assert sorted(id_ for _, id_ in rows) == sorted(crowd.settled)
        assert under_way(folder / "ledger.db") == []
    async with house(folder, *limits, agents=0, clock=clock) as home:
        after = home.gate.standing()
        assert {(row["scope"], row["counted_on"], row["unit"]): row["used"] for row in after["limits"]} == {
            (row["scope"], row["counted_on"], row["unit"]): row["used"] for row in before["limits"]
        }
        assert {name: each["tokens_today"] for name, each in after["agents"].items()} == {
            name: each["tokens_today"] for name, each in before["agents"].items()
        }
    return crowd


async def test_limits_requests_and_commands_in_any_order(tmp_path: Path) -> None:
    dice = random.Random(seed())
    crowds = [await round_of_all(tmp_path / str(number), dice) for number in range(8)]
    assert sum(crowd.admitted for crowd in crowds)
    assert sum(crowd.refused + crowd.cut for crowd in crowds)


async def passing(folder: Path, dice: random.Random) -> int:
    """64 requests against one limit that stays as it is; how many of them were admitted."""
    folder.mkdir()
    amount = dice.randrange(1000, 40_000)
    limit = dice.choice([pool(amount), pool(amount, "profile:base"), allowance(amount, "profile:base")])
    async with house(folder, limit, agents=3) as home:
        crowd = Crowd(home, dice)
        await asyncio.gather(*(crowd.ask() for _ in range(TOGETHER)))
        for row in home.gate.standing()["limits"]:
            assert row["used"] <= row["limit"], row
            if row["used"] == row["limit"]:
                with pytest.raises(AdmissionRefused):
                    await home.gate.admit(asked(row["agent"] or "coder0"))
        assert crowd.cut == 0, "who keeps to its bounds is never cut"
        return crowd.admitted


async def test_of_64_at_once_that_keep_to_their_bounds_none_passes_a_limit_and_none_is_cut(tmp_path: Path) -> None:
    dice = random.Random(seed())
    admitted = [await passing(tmp_path / str(number), dice) for number in range(12)]
    assert all(admitted)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_limits_requests_and_commands_in_any_order_for_long(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    end, number, dice = loop.time() + share(), 0, random.Random(seed())
    while loop.time() < end:
        number += 1
        await round_of_all(tmp_path / f"a{number}", dice)
        await passing(tmp_path / f"b{number}", dice)
