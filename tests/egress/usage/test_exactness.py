"""Random requests of every kind through a real egress: its ledger must be the provider's, token by token.

The kinds are tests.sim.chaos's: JSON and event streams in every chunking, compressed or not, odd bills, errors
before and in the middle, broken connections; and clients that leave when they like.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from tests import soak
from tests.egress import ledger_comparison
from tests.egress.egress_process import KEYS, egress
from tests.egress.random_clients import Customers, Order, chosen, play
from tests.sim import odd_provider as sim

AGENTS = ("ann", "ben", "cleo", "dora", "emil", "fay")


async def _played(home: Path, count: int) -> None:
    seed = f"{soak.seed()}:exactness:{count}"
    print(f"seed {seed}")
    dice = random.Random(seed)
    orders = chosen(dice, count, AGENTS)
    async with sim.running() as provider, egress(home, provider, AGENTS) as premises:
        async with Customers(premises.addresses) as customers:
            given = await play(orders, customers.ask)
        served = await premises.served()
        await premises.idle()
        rows = await premises.rows()
        observations = await premises.observations()
    audit = ledger_comparison.compare(orders, given, served, rows)
    print(audit.report())
    assert not audit.faults, audit.report()
    # Less than that, and little was tried.
    assert audit.exact > count * 0.4
    # Only the real credentials have reached the provider.
    keys = {hashlib.sha256(key.encode()).hexdigest()[:12] for key in KEYS.values()}
    assert {entry.account for entry in served} == keys
    assert {seen.account for seen in observations} == {"anthropic", "openai"}
    assert any(seen.limit and seen.remaining is not None for seen in observations)


async def test_the_ledger_is_what_the_provider_billed(short_home: Path) -> None:
    await _played(short_home, 100)


@pytest.mark.slow
async def test_the_ledger_is_what_the_provider_billed_over_2000_requests(short_home: Path) -> None:
    await _played(short_home, 2_000)


@pytest.mark.soak
@pytest.mark.timeout(3_000)
async def test_the_ledger_is_what_the_provider_billed_over_10000_requests(short_home: Path) -> None:
    await _played(short_home, 10_000)


@pytest.mark.slow
async def test_a_huge_answer_goes_through_as_it_is(short_home: Path) -> None:
    orders = [
        Order(model=f"huge-{api}-{stream}", agent="ann", api=api, stream=stream, max_tokens=10_000_000, text=text)
        for api in ("anthropic", "responses", "chat")
        for stream in (True, False)
        for text in ("[[fill: 10000000]]",)
    ]
    async with sim.running() as provider, egress(short_home, provider, ("ann",)) as premises:
        async with Customers(premises.addresses) as customers:
            given = await play(orders, customers.ask, together=2)
        audit = ledger_comparison.compare(orders, given, await premises.served(), await premises.rows(len(orders)))
    assert not audit.faults, audit.report()
    assert audit.exact == len(orders)
