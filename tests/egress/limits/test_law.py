"""No mix of requests comes to more than a limit, by what the provider bills; near one, they wait for one another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from egress.ledger.model import EXCESS, Action
from egress.settings import AccountSettings, LimitSettings
from tests.egress.billing_provider import Billing, billing
from tests.egress.limits.gate import allowance, pool
from tests.egress.whole_egress import KEY, Plane, plane
from tests.waiting import until

TOGETHER = 64
PATHS = {
    "anthropic": "anthropic/v1/messages",
    "responses": "openai/v1/responses",
    "chat": "openai/v1/chat/completions",
}
BOUNDS = {"anthropic": "max_tokens", "responses": "max_output_tokens", "chat": "max_completion_tokens"}
MODELS = {"anthropic": "claude-sonnet-4-5", "responses": "gpt-5", "chat": "gpt-5"}


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request."""

    api: str = "anthropic"
    read: int = 1_000
    cached: int = 0
    hidden: int = 0
    writes: int = 1_000
    max_tokens: int | None = 4_000
    stream: bool = False
    agent: str = "box2"
    model: str | None = None
    marked: bool | None = None
    """It is marked for the cache; None: where something comes from there."""
    body_bytes: int | None = None
    """Padded to so many; None: four bytes for each token that is read."""

    def body(self) -> dict[str, Any]:
        orders = f"bill(in={self.read}, out={self.writes}, cached={self.cached}, hidden={self.hidden})"
        size = 4 * (self.read + self.cached) if self.body_bytes is None else self.body_bytes
        text = orders + "x" * max(0, size - len(orders) - 200)
        body: dict[str, Any] = {"model": self.model or MODELS[self.api], "metadata": {"agent": self.agent}}
        if self.api == "responses":
            body["input"] = text
        elif self.api == "chat":
            body["messages"] = [{"role": "user", "content": text}]
        else:
            part: dict[str, Any] = {"type": "text", "text": text}
            if self.marked or (self.marked is None and self.cached):
                part["cache_control"] = {"type": "ephemeral"}
            body["messages"] = [{"role": "user", "content": [part]}]
        if self.max_tokens is not None or self.api == "anthropic":
            body[BOUNDS[self.api]] = self.max_tokens or 32_000
        if self.hidden:
            body["previous_response_id"] = "resp_unknown"
        return body | ({"stream": True} if self.stream else {})


@dataclass
class Fleet:
    """An egress, its provider and its agents."""

    plane: Plane
    provider: Billing

    async def ask(self, what: Ask) -> int:
        """The status; a stream is read to its end."""
        session = self.plane.agents[what.agent]
        async with session.post(PATHS[what.api], json=what.body(), headers={"x-agent": what.agent}) as response:
            await response.read()
            return response.status

    async def ask_all(self, asks: Sequence[Ask]) -> list[int]:
        async with asyncio.timeout(60):
            return list(await asyncio.gather(*map(self.ask, asks)))

    async def limits(self, *limits: LimitSettings) -> None:
        settings = self.plane.egress.gate.settings
        await self.plane.egress.gate.set_settings(settings.model_copy(update={"limits": limits}))

    async def excess(self) -> list[Action]:
        """The exceptions in the audit."""
        await self.plane.egress.ledger.flushed()
        return [each for each in await self.plane.egress.ledger.actions_after(0, 1000) if each.action == EXCESS]

    def used(self, scope: str) -> int:
        (row,) = [row for row in self.plane.egress.gate.standing()["limits"] if row["scope"] == scope]
        return int(row["used"])


@asynccontextmanager
async def fleet(
    folder: Path, *limits: LimitSettings, agents: Sequence[str] = ("box2",), **more: Any
) -> AsyncIterator[Fleet]:
    async with billing(**more) as provider:
        secret = folder / "key"
        secret.write_text(KEY)
        given: dict[str, Any] = {"upstream": provider.url, "credential": f"file:{secret}"}
        accounts = [
            AccountSettings(name="main", provider="anthropic", **given),
            AccountSettings(name="other", provider="openai", **given),
        ]
        async with plane(folder, limits=limits, accounts=accounts) as made:
            for agent in agents:
                await made.agent(agent)
            yield Fleet(made, provider)


async def test_sixty_four_at_once_after_a_history_of_tiny_ones_stay_within_the_limit(short_home: Path) -> None:
    async with fleet(short_home, allowance(20_000, "agent:box2")) as all_:
        for _ in range(25):
            assert await all_.ask(Ask(read=5, writes=5)) == 200
        before = all_.provider.of("box2")
        statuses = await all_.ask_all([Ask()] * TOGETHER)
        billed = all_.provider.of("box2")
        print(f"{statuses.count(200)} of {TOGETHER} were answered; {billed} billed, {before} before")
        assert 18_000 <= billed <= 20_000, "the limit holds, and can be used up"
        assert all_.used("agent:box2") == billed
        # Whoever was billed has the answer, and nobody else was let out.
        assert len(all_.provider.billed) - 25 == statuses.count(200)
        assert set(statuses) <= {200, 403}


#: Of one kind, as many as make room for ten; with the limit that this is.
SHAPES: dict[str, tuple[list[Ask], int]] = {
    "documents": ([Ask()] * TOGETHER, 20_000),
    "streams": ([Ask(stream=True)] * TOGETHER, 20_000),
    "streams of Responses": ([Ask(api="responses", stream=True)] * TOGETHER, 20_000),
    "documents of Responses": ([Ask(api="responses")] * TOGETHER, 20_000),
    "chat, which no provider counts": ([Ask(api="chat", stream=True)] * TOGETHER, 20_000),
    "no bound of their own": ([Ask(api="responses", max_tokens=None)] * TOGETHER, 20_000),
    "large bounds": ([Ask(max_tokens=32_000, stream=bool(n % 2)) for n in range(TOGETHER)], 60_000),
    "long answers": ([Ask(read=100, writes=4_000)] * TOGETHER, 41_000),
    "dense input": ([Ask(read=4_000, body_bytes=4_500)] * TOGETHER, 50_000),
    "from the cache": ([Ask(read=200, cached=20_000, writes=500)] * TOGETHER, 60_000),
    "mixed sizes": ([Ask(read=50 * n, writes=20 * n, stream=bool(n % 2)) for n in range(1, TOGETHER)], 30_000),
    "behind an id that is not known": ([Ask(api="responses", hidden=20_000, body_bytes=300)] * TOGETHER, 100_000),
    "mixed": (
        [Ask(api=list(PATHS)[n % 3], read=500 + 37 * n, stream=bool(n % 2)) for n in range(TOGETHER)],
        20_000,
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("history", "counts"),
    [
        pytest.param("cold", True, id="cold"),
        pytest.param("cold", False, id="cold, no counts", marks=pytest.mark.slow),
        pytest.param("warm", True, id="warm", marks=pytest.mark.slow),
        pytest.param("poisoned", True, id="poisoned", marks=pytest.mark.slow),
        pytest.param("poisoned", False, id="poisoned, no counts", marks=pytest.mark.slow),
    ],
)
async def test_sixty_four_at_once_on_room_for_ten(short_home: Path, shape: str, history: str, counts: bool) -> None:
    asks, limit = SHAPES[shape]
    async with fleet(short_home, counts=counts) as all_:
        for _ in range({"cold": 0, "warm": 25, "poisoned": 25}[history]):
            before = replace(asks[0], read=5, cached=0, writes=5) if history == "poisoned" else asks[0]
            await all_.ask(before)
        used = all_.provider.of("box2")
        all_.provider.billed.clear()
        await all_.limits(allowance(used + limit, "agent:box2"))
        statuses = await all_.ask_all(asks)
        billed = all_.provider.of("box2")
        print(f"{statuses.count(200)} answered, {billed} of {limit} billed; {all_.provider.counted} counted")
        assert len(all_.provider.billed) == statuses.count(200)
        if await all_.excess():
            # The one exception: it ran alone, and passed the limit by its input at most.
            (last,) = [each for each in all_.provider.billed[-1:]]
            assert last.beside == 0
            assert billed <= limit + last.tokens.all_input
        else:
            assert billed <= limit
        assert not any(each.short and each.beside for each in all_.provider.billed), "cut short while others were open"
        # Where the provider counts, or the text is short, the limit can be used.
        if counts and "id" not in shape:
            assert billed >= limit * 0.6


async def test_hidden_input_that_the_provider_counts_is_let_go(short_home: Path) -> None:
    ask = Ask(api="responses", hidden=20_000, body_bytes=300)
    async with fleet(short_home, allowance(110_000, "agent:box2")) as all_:
        statuses = await all_.ask_all([ask] * 10)
        assert (statuses.count(200), all_.provider.of("box2")) == (5, 110_000)
    async with fleet(short_home, allowance(110_000, "agent:box2"), counts=False) as all_:
        statuses = await all_.ask_all([ask] * 10)
        # It may be all that the model can read.
        assert set(statuses) == {400}
        assert all_.provider.billed == []


async def test_what_goes_on_from_a_known_response_is_bounded_by_that(short_home: Path) -> None:
    first = Ask(api="responses", read=3_000)
    async with fleet(short_home, allowance(30_000, "agent:box2"), counts=False) as all_:
        session = all_.plane.agents["box2"]
        async with session.post(PATHS["responses"], json=first.body()) as response:
            previous = (await response.json())["id"]
        body = Ask(api="responses", hidden=4_000, body_bytes=300).body() | {"previous_response_id": previous}
        async with session.post(PATHS["responses"], json=body) as response:
            assert response.status == 200
        body["previous_response_id"] = "resp_of_another"
        async with session.post(PATHS["responses"], json=body) as response:
            assert response.status == 400


async def test_a_request_of_a_real_client_is_let_go_up_to_the_limit(short_home: Path) -> None:
    """Claude Code declares 32,000 tokens of output with a body of 200 kB, most of which it reads from the cache."""
    ask = Ask(read=500, cached=49_500, writes=700, max_tokens=32_000, stream=True)
    async with fleet(short_home, allowance(100_000, "agent:box2")) as all_:
        statuses = [await all_.ask(ask) for _ in range(25)]
        billed = all_.provider.of("box2")
        each = all_.provider.billed[0].weighted
        # By worst cases alone it would end at 45,000; one at a time it goes on while an answer fits.
        assert billed >= 100_000 - 4_096 - each
        assert billed <= 100_000 + 50_000
        assert statuses[-1] == 403
        told = await all_.excess()
        assert told
        assert {each.agent for each in told} == {"box2"}
        assert "only if most of its input is read from the cache" in told[0].cause


async def test_who_pretends_to_a_cache_passes_the_limit_once_by_its_input(short_home: Path) -> None:
    ask = replace(Ask(read=60_000, writes=4_000, max_tokens=8_000), marked=True)
    async with fleet(short_home, allowance(20_000, "agent:box2")) as all_:
        statuses = await all_.ask_all([ask] * 8)
        assert statuses.count(200) == 1
        assert all_.provider.of("box2") <= 20_000 + 60_000
        assert len(await all_.excess()) == 1
    # Who marks nothing for the cache has no such excuse.
    async with fleet(short_home, allowance(20_000, "agent:box2")) as all_:
        assert set(await all_.ask_all([replace(ask, marked=False)] * 8)) == {403}


@pytest.mark.parametrize("stream", [False, True])
async def test_agents_in_one_pool_with_limits_of_their_own(short_home: Path, stream: bool) -> None:
    limits = (
        pool(30_000),
        pool(25_000, "account:main"),
        allowance(18_000, "agent:one"),
        allowance(18_000, "agent:two"),
        pool(0.2, unit="usd"),
    )
    async with fleet(short_home, *limits, agents=("one", "two")) as all_:
        asks = [
            Ask(agent=("one", "two")[n % 2], api=("anthropic", "responses")[n % 3 == 0], stream=stream)
            for n in range(TOGETHER)
        ]
        statuses = await all_.ask_all(asks)
        for row in all_.plane.egress.gate.standing()["limits"]:
            assert row["used"] <= row["limit"], row
            assert (row["reserved"], row["streaming"]) == (0, 0)
        assert statuses.count(200) >= 9
        assert all_.provider.of("one") + all_.provider.of("two") <= 30_000
        assert not any(each.short and each.beside for each in all_.provider.billed)


async def test_far_from_a_limit_nobody_waits_and_nothing_is_counted(short_home: Path) -> None:
    async with fleet(short_home, allowance(10_000_000, "agent:box2")) as all_:
        all_.provider.held.clear()
        asking = asyncio.ensure_future(all_.ask_all([Ask()] * TOGETHER))
        await until(lambda: all_.provider.open >= TOGETHER)
        all_.provider.held.set()
        assert set(await asking) == {200}
        assert all_.provider.counted == 0


async def test_a_waiting_client_that_leaves_holds_up_nobody(short_home: Path) -> None:
    async with fleet(short_home, allowance(20_000, "agent:box2")) as all_:
        all_.provider.held.clear()
        first = asyncio.ensure_future(all_.ask(Ask(max_tokens=10_000)))
        await until(lambda: all_.provider.open)
        gone = asyncio.ensure_future(all_.ask(Ask(max_tokens=15_000)))
        last = asyncio.ensure_future(all_.ask(Ask(max_tokens=2_000, read=300)))
        await until(lambda: all_.plane.egress.gate.waiting >= 2)
        gone.cancel()
        # The one behind it does not wait for the first.
        await until(lambda: all_.provider.open >= 2)
        assert all_.plane.egress.gate.waiting == 0
        all_.provider.held.set()
        assert [await first, await last] == [200, 200]


async def test_who_waits_while_the_egress_is_stopped_is_not_let_out(short_home: Path) -> None:
    async with fleet(short_home, allowance(20_000, "agent:box2")) as all_:
        all_.provider.held.clear()
        first = asyncio.ensure_future(all_.ask(Ask(max_tokens=10_000, stream=True)))
        await until(lambda: all_.provider.open)
        waiting = asyncio.ensure_future(all_.ask(Ask(max_tokens=15_000)))
        await until(lambda: all_.plane.egress.gate.waiting)
        await all_.plane.egress.proxy.close()
        assert await waiting == 503
        assert len(all_.provider.billed) == 1
        await asyncio.gather(first, return_exceptions=True)
        all_.provider.held.set()
