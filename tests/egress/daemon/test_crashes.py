"""kill -9 of the egress: what was completed is in the ledger, what was under way becomes an estimate, nothing twice."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from fleet.sim.provider.normalized_request import Api
from tests import soak
from tests.egress import ledger_comparison
from tests.egress.egress_process import Premises, egress
from tests.egress.random_clients import Customers, Given, Order, chosen, play
from tests.sim import odd_provider as sim

AGENTS = ("ann", "ben", "cleo", "dora")
#: What is asked between one death and the next.
PER_KILL = 40
LIMIT_S = 60.0


class _Killer:
    """Kills the egress when its clients have got so many pieces of answers: a moment that chance chooses."""

    def __init__(self, premises: Premises, dice: random.Random) -> None:
        self._premises, self._dice = premises, dice
        self._left = 0
        self.struck = asyncio.Event()

    def arm(self) -> None:
        self.struck.clear()
        self._left = self._dice.randrange(1, PER_KILL)

    def saw(self, given: Given) -> None:
        if self.struck.is_set() or self._left <= 0:
            return
        self._left -= 1
        if self._left == 0:
            self._premises.kill()
            self.struck.set()


async def _killed_at_random(home: Path, kills: int) -> None:
    seed = f"{soak.seed()}:kills:{kills}"
    print(f"seed {seed}")
    dice = random.Random(seed)
    orders = chosen(dice, kills * PER_KILL, AGENTS)
    given: dict[str, Given] = {}
    done = 0
    async with sim.running() as provider, egress(home, provider, AGENTS) as premises:
        killer = _Killer(premises, dice)
        async with Customers(premises.addresses) as customers:

            async def ask(order: Order) -> Given:
                await premises.open.wait()
                return await customers.ask(order, told=killer.saw)

            for number in range(kills):
                killer.arm()
                share = orders[number * PER_KILL : (number + 1) * PER_KILL]
                playing = asyncio.create_task(play(share, ask, together=12))
                striking = asyncio.create_task(killer.struck.wait())
                await asyncio.wait({playing, striking}, return_when=asyncio.FIRST_COMPLETED)
                striking.cancel()
                if killer.struck.is_set():
                    done += 1
                    await premises.revive()
                given |= await playing
        served = await premises.served()
        await premises.idle()
        rows = await premises.rows()
    audit = ledger_comparison.compare(orders, given, served, rows, killed=True)
    print(f"{done} deaths; {audit.report()}")
    assert not audit.faults, audit.report()
    assert done == kills
    assert audit.exact > len(orders) * 0.3


async def test_a_death_under_load_loses_and_doubles_nothing(short_home: Path) -> None:
    await _killed_at_random(short_home, 1)


@pytest.mark.slow
async def test_five_deaths_under_load_lose_and_double_nothing(short_home: Path) -> None:
    await _killed_at_random(short_home, 5)


@pytest.mark.soak
@pytest.mark.timeout(3_000)
async def test_fifty_deaths_under_load_lose_and_double_nothing(short_home: Path) -> None:
    await _killed_at_random(short_home, 50)


def _fifty() -> list[Order]:
    """Of every API, as streams and documents; half of the streams' connections stay open after the end."""
    apis: list[Api] = ["anthropic", "responses", "chat"]
    return [
        Order(
            model=f"full-{number}",
            agent=AGENTS[number % len(AGENTS)],
            api=apis[number % 3],
            stream=number % 5 != 0,
            asks_usage=number % 2 == 0,
            text=f"n{number} [[say: All of it.]]" + "[[linger: 60]]" * (number % 2 and number % 5 != 0),
        )
        for number in range(50)
    ]


async def test_fifty_completed_responses_are_in_the_ledger_after_a_kill_at_that_moment(short_home: Path) -> None:
    orders = _fifty()
    hanging = [
        Order(model=f"hanging-{number}", agent="ann", api="anthropic", text="[[say: Half of it.]][[hang]]")
        for number in range(5)
    ]
    awaited = {order.model for order in orders}
    ended: set[str] = set()
    halfway: set[str] = set()
    all_hang = asyncio.Event()
    async with sim.running() as provider, egress(short_home, provider, AGENTS) as premises:
        async with Customers(premises.addresses, connections=60) as customers:

            def told(order: Order, given: Given) -> None:
                if order in hanging and given.text_bytes:
                    halfway.add(order.model)
                    if len(halfway) == len(hanging):
                        all_hang.set()
                if given.ended and order.model in awaited:
                    count(order)

            def count(order: Order) -> None:
                ended.add(order.model)
                if ended == awaited and premises.open.is_set():
                    # The last client has just seen the end of its answer: not a moment later.
                    premises.kill()

            async def ask(order: Order) -> Given:
                given = await customers.ask(order, told=lambda given: told(order, given))
                if given.ended and order.model in awaited:
                    count(order)
                return given

            waiting = asyncio.create_task(play(hanging, ask, together=len(hanging)))
            async with asyncio.timeout(LIMIT_S):
                await all_hang.wait()
                given = await play(orders, ask, together=len(orders))
                given |= await waiting
        assert not premises.open.is_set(), f"never all had ended: {awaited - ended}"
        await premises.revive()
        rows = await premises.rows()
        served = provider.ledger.entries
    found = {row.model_asked: row for row in rows}
    assert len(found) == len(rows) == len({entry.model for entry in served})
    by_model = {entry.model: entry for entry in served}
    exact = [model for model in awaited if found[model].reported and found[model].tokens == by_model[model].tokens]
    print(f"{len(exact)} of {len(awaited)}")
    assert sorted(exact) == sorted(awaited)
    for order in hanging:
        row = found[order.model]
        assert not row.reported
        assert row.tokens.total > 0
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))


async def test_a_stream_that_has_told_its_input_is_charged_by_it_after_a_kill(short_home: Path) -> None:
    """Not by what was reserved for it, which may be many times as much."""
    told = Order(model="told", agent="ann", api="anthropic", text="x" * 40_000 + "[[say: Half of it.]][[hang]]")
    untold = Order(model="untold", agent="ben", api="responses", text="x" * 400 + "[[say: Half of it.]][[hang]]")
    long = Order(model="long", agent="ann", api="anthropic", text="[[stream: 3000 word]][[hang]]")
    orders = (told, untold, long)
    least = {"told": 1, "untold": 1, "long": 12_000}
    halfway: set[str] = set()
    all_halfway = asyncio.Event()
    async with sim.running() as provider, egress(short_home, provider, AGENTS) as premises:
        async with Customers(premises.addresses) as customers:

            async def ask(order: Order) -> Given:
                def look(given: Given) -> None:
                    if given.text_bytes >= least[order.model]:
                        halfway.add(order.model)
                        if halfway == least.keys():
                            all_halfway.set()

                return await customers.ask(order, told=look)

            waiting = asyncio.create_task(play(orders, ask, together=len(orders)))
            async with asyncio.timeout(LIMIT_S):
                await all_halfway.wait()
                premises.kill()
                await waiting
        await premises.revive()
        rows = {row.model_asked: row for row in await premises.rows(len(orders))}
        billed = {entry.model: entry for entry in provider.ledger.entries}
    assert not any(row.reported for row in rows.values())
    for model in ("told", "long"):
        assert rows[model].tokens.input == billed[model].usage.input
    # As much as may have streamed until it would have been kept again.
    assert rows["told"].tokens.output == 512
    streamed = billed["long"].usage.output
    assert streamed * 0.66 <= rows["long"].tokens.output <= streamed * 2.5
    # What tells nothing before its end is charged with its reservation.
    assert rows["untold"].tokens.total > rows["told"].tokens.output
