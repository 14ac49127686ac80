"""Budgets, denials and the emergency stop of a real egress, as its clients and its provider see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pytest

from budget.tokens import Weights
from egress.ledger.model import LedgerEntry
from egress.settings import LimitSettings
from egress.usage import text_token_estimate
from fleet.sim.provider import server as sim
from fleet.sim.provider.billing_ledger import BilledRequest
from fleet.sim.provider.normalized_request import Api
from fleet.sim.provider.server import Provider
from tests import waiting
from tests.egress.egress_process import Premises, egress
from tests.egress.random_clients import Customers, Given, Order, play

AGENTS = tuple(f"agent{number}" for number in range(8))
APIS: tuple[Api, ...] = ("anthropic", "responses", "chat")
TOGETHER = 64
LIMIT_S = 60.0


class House:
    """An egress, its provider and its agents."""

    def __init__(self, premises: Premises, provider: Provider, customers: Customers) -> None:
        self.premises, self.provider, self.customers = premises, provider, customers

    async def limit(self, amount: float) -> None:
        self.premises.limits = (LimitSettings(kind="pool", scope="host", amount=amount),)
        await self.premises.configure()

    async def ask(self, orders: Sequence[Order]) -> dict[str, Given]:
        return await play(orders, self.customers.ask, together=max(1, len(orders)))

    def open(self, orders: Sequence[Order]) -> RequestPolicy:
        """Ask, and look on."""
        return RequestPolicy(self, orders)

    async def used(self, at_least: int = 0) -> int:
        """What the ledger comes to, in weighted tokens."""
        await self.premises.idle()
        return _used(await self.premises.rows(at_least))

    def served(self, prefix: str) -> list[BilledRequest]:
        return [entry for entry in self.provider.ledger.entries if entry.text.startswith(prefix)]


class RequestPolicy:
    """Requests that are under way."""

    def __init__(self, house: House, orders: Sequence[Order]) -> None:
        self._text: dict[str, int] = {}
        self.tasks = {order.name: asyncio.create_task(self._ask(house, order)) for order in orders}

    async def _ask(self, house: House, order: Order) -> Given:
        def told(given: Given) -> None:
            self._text[order.name] = given.text_bytes

        return await house.customers.ask(order, told=told)

    async def have(self, text_bytes: int) -> None:
        """Until each has so much of its answer, or is over."""
        await waiting.until(
            lambda: all(task.done() or self._text.get(name, 0) >= text_bytes for name, task in self.tasks.items()),
            limit=LIMIT_S,
        )

    async def given(self) -> dict[str, Given]:
        """Until all are over."""
        async with asyncio.timeout(LIMIT_S):
            return {name: await task for name, task in self.tasks.items()}


@pytest.fixture
async def house(short_home: Path) -> AsyncIterator[House]:
    async with (
        sim.running() as provider,
        egress(short_home, provider, AGENTS) as premises,
        Customers(premises.addresses, connections=TOGETHER) as customers,
    ):
        yield House(premises, provider, customers)


def _used(rows: Iterable[LedgerEntry]) -> int:
    return sum(Weights().weigh(row.tokens) for row in rows)


#: What says "not again" to the clients of each API.
FINAL = {("anthropic", 403), ("responses", 400), ("chat", 403)}


def _order(tag: str, number: int, text: str, *, model: str = "m", stream: bool = True) -> Order:
    """Several ask one model here, and are told apart by the first word of their text."""
    return Order(
        tag=f"{tag}{number}",
        model=model,
        agent=AGENTS[number % len(AGENTS)],
        api=APIS[number % len(APIS)],
        stream=stream,
        text=f"{tag}{number} {text}",
    )


def _refusal(order: Order, given: Given) -> str:
    """The message of a refusal, which must have its provider's shape (both providers' documentation, "Errors")."""
    assert given.error is not None
    error = given.error["error"]
    if order.api == "anthropic":
        assert given.error["type"] == "error"
        assert error["type"] == {403: "permission_error", 429: "rate_limit_error"}[given.status or 0]
    else:
        assert {"message", "type", "code", "param"} <= set(error)
    if given.status == 429:
        assert int(given.headers["retry-after"]) >= 1
    else:
        assert "retry-after" not in given.headers
    message: str = error["message"]
    return message


async def test_of_64_at_once_a_budget_with_room_for_ten_lets_about_ten_go_one_after_the_other(house: House) -> None:
    """Each may write more than is left, by what it declares; so near the limit they wait for one another."""
    words = "[[stream: 30 word]]"
    await house.ask([_order("learn", number + 10, words) for number in range(24)])
    learned = await house.used(24)
    each = max(Weights().weigh(row.tokens) for row in await house.premises.rows())
    limit = learned + 10 * each
    await house.limit(limit)
    orders = [_order("holds", number + 10, words) for number in range(TOGETHER)]
    given = await house.ask(orders)
    admitted = [order for order in orders if given[order.name].status == 200]
    refused = [order for order in orders if given[order.name].status != 200]
    used = await house.used(24 + len(admitted))
    rows = (await house.premises.rows())[24:]
    billed = learned + sum(Weights().weigh(entry.tokens) for entry in house.served("holds"))
    print(f"{len(admitted)} of {TOGETHER} admitted; {used} used, {billed} billed, limit {limit}")
    assert len(house.served("holds")) == len(admitted)
    assert 5 <= len(admitted) <= 11
    assert used == billed <= limit
    assert not any(row.ended == "cut" for row in rows)
    assert {(order.api, given[order.name].status) for order in refused} <= FINAL
    for order in refused:
        assert "budget" in _refusal(order, given[order.name])


async def test_after_the_limit_nobody_is_admitted_and_the_refusal_is_final(house: House) -> None:
    await house.ask([_order("first", 0, "[[stream: 200 word]]")])
    await house.limit(max(1, await house.used(1)))
    orders = [_order("late", number, "hello", stream=number % 2 == 0) for number in range(TOGETHER)]
    given = await house.ask(orders)
    assert {(order.api, given[order.name].status) for order in orders} == FINAL
    assert all("muster budget set host" in _refusal(order, given[order.name]) for order in orders)
    assert not house.served("late")
    assert len(await house.premises.rows()) == 1
    # And it is not forgotten.
    house.premises.kill()
    await house.premises.revive()
    given = await house.ask(orders[:3])
    assert {(order.api, given[order.name].status) for order in orders[:3]} == FINAL
    # Until somebody opens it.
    await house.limit(1_000_000)
    assert {answer.status for answer in (await house.ask(orders[:3])).values()} == {200}


async def test_streams_are_cut_at_the_crossing_of_a_limit_that_was_lowered(house: House) -> None:
    """The provider writes one event to each stream, and waits until all have it: what is overshot is then countable."""
    event, rounds, streams = 400, 40, 24
    text = "".join(f"[[repeat: {event // 5}]][[say: word]][[wait: step{step}]]" for step in range(rounds))
    orders = [_order("cut", number, text, model=f"m{number}") for number in range(streams)]
    asking = house.open(orders)
    limit = 0
    for step in range(rounds):
        await asking.have((step + 1) * (event - 1))
        if step == 4:
            # Its inputs count by their bounds, where they are not told.
            limit = streams * (len(text) + 2_500)
            await house.limit(limit)
        house.provider.release(f"step{step}")
    given = await asking.given()
    cut = [order for order in orders if not given[order.name].ended]
    used = await house.used(len(orders))
    billed = sum(Weights().weigh(entry.tokens) for entry in house.served("cut"))
    # What unreported output is counted at.
    bound = (
        streams
        * (
            text_token_estimate.tokens(
                text_token_estimate.weigh(text_token_estimate.ANY, "word " * (-(-(event + 2) // 5)))
            )
            + 1
        )
        * 2
    )
    print(f"{len(cut)} of {streams} cut; {used} used, {billed} billed, limit {limit}, bound {bound}")
    assert cut
    assert used <= limit + bound
    assert billed <= limit + bound
    for order in cut:
        answer = given[order.name]
        assert answer.error is not None
        assert "budget" in str(answer.error)
    assert {entry.state for entry in await house.premises.served()} <= {"client_gone", "completed"}
    rows = await house.premises.rows()
    assert sum(row.ended == "cut" for row in rows) == len(cut)


async def test_an_agent_is_cut_off_in_the_middle_and_stays_so_until_it_is_restored(house: House) -> None:
    orders = [_order("open", number, "[[say: Half of it.]][[hang]]") for number in range(24)]
    asking = house.open(orders)
    victim = AGENTS[0]
    await asking.have(1)
    streams = await house.premises.client.deny(victim, cause="a test", by="me", id="deny-1")
    mine = [order for order in orders if order.agent == victim]
    assert streams == len(mine)
    async with asyncio.timeout(LIMIT_S):
        for order in mine:
            given = await asking.tasks[order.name]
            assert given.error is not None
            assert not given.ended
    assert not any(asking.tasks[order.name].done() for order in orders if order.agent != victim)
    again = _order("again", 0, "hello")
    assert (await house.ask([again]))["again0"].status == 403
    # A denial outlives the egress; what was under way for others does not.
    house.premises.kill()
    await house.premises.revive()
    await asking.given()
    assert (await house.ask([again]))["again0"].status == 403
    assert (await house.ask([_order("other", 1, "hello")]))["other1"].status == 200
    await house.premises.client.allow(victim, cause="a test", by="me", id="allow-1")
    assert (await house.ask([again]))["again0"].status == 200


async def test_the_emergency_stop_is_a_file(house: House) -> None:
    asking = house.open([_order("open", number, "[[say: Half.]][[hang]]") for number in range(4)])
    await asking.have(1)
    house.premises.paths.estop.touch()
    given = await asking.given()
    assert all(not answer.ended for answer in given.values())
    assert (await house.ask([_order("late", 5, "hello")]))["late5"].status == 403
    assert not house.served("late")
    house.premises.paths.estop.unlink()
    async with asyncio.timeout(LIMIT_S):
        number = 6
        while (await house.ask([_order("after", number, "hello")]))[f"after{number}"].status == 403:
            number += 1
            await asyncio.sleep(0.05)


async def test_more_streams_are_open_than_a_shell_allows_files(short_home: Path) -> None:
    few = ("sh", "-c", 'ulimit -Sn 100; exec "$@"', "sh")
    async with (
        sim.running() as provider,
        egress(short_home, provider, AGENTS, below=few) as premises,
        Customers(premises.addresses, connections=TOGETHER) as customers,
    ):
        house = House(premises, provider, customers)
        asking = house.open([_order("open", number, "[[say: Half.]][[wait: opened]]") for number in range(TOGETHER)])
        await asking.have(1)
        assert (await premises.client.status())["streams"] == TOGETHER
        provider.release("opened")
        assert all(given.ended for given in (await asking.given()).values())
