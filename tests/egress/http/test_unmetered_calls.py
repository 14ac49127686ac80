"""What uses no tokens passes, at a pace, and is counted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from egress.http import unmetered_calls
from egress.http.unmetered_calls import CallRateLimiter
from egress.settings import AccountSettings
from tests.egress.whole_egress import anthropic, plane

HEADERS = {"anthropic-version": "2023-06-01"}


def test_an_agent_gets_its_burst_and_then_two_a_second_for_ever() -> None:
    now = 1_000.0
    pace = CallRateLimiter(lambda: now)
    assert [pace.take() for _ in range(unmetered_calls.BURST)] == [None] * unmetered_calls.BURST
    assert pace.take() == 1
    now += 0.5
    assert (pace.take(), pace.take()) == (None, 1)
    now += 3_600
    assert [pace.take() for _ in range(unmetered_calls.BURST + 1)] == [None] * unmetered_calls.BURST + [1]
    now -= 7_200
    assert pace.take() == 1, "a clock that goes back gives nothing"
    assert (pace.passed, pace.held_back) == (2 * unmetered_calls.BURST + 1, 4)


async def test_who_lists_and_counts_without_end_is_told_to_wait_and_nobody_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unmetered_calls, "BURST", 3)
    monkeypatch.setattr(unmetered_calls, "PER_SECOND", 0.001)
    async with plane(tmp_path) as made:
        agent, other = await made.agent(), await made.agent("coder1")
        answers = [await agent.post("/anthropic/v1/messages/count_tokens", json=anthropic()) for _ in range(2)]
        answers.append(await agent.get("/openai/v1/models"))
        assert [answer.status for answer in answers] == [200, 200, 200]
        for path, kind in (("/anthropic/v1/models", "rate_limit_error"), ("/openai/v1/models", "requests")):
            held = await agent.get(path, headers=HEADERS)
            assert held.status == 429
            assert 0 < int(held.headers["Retry-After"]) <= 1_000
            assert (await held.json())["error"]["type"] == kind
        assert (await agent.post("/anthropic/v1/messages", json=anthropic())).status == 200, "models answer meanwhile"
        assert (await other.get("/anthropic/v1/models", headers=HEADERS)).status == 200
        assert made.egress.status()["harmless"] == {
            "coder0": {"passed": 3, "held_back": 2},
            "coder1": {"passed": 1, "held_back": 0},
        }
        # Registered anew, it has no more than before.
        again = await made.agent()
        assert (await again.get("/anthropic/v1/models", headers=HEADERS)).status == 429
        assert len(await made.entries(1)) == 1


async def test_what_is_only_counted_may_not_be_as_long_as_what_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unmetered_calls, "LONGEST", 50_000)
    async with plane(tmp_path) as made:
        agent = await made.agent()
        long = anthropic("x " * 40_000)
        refused = await agent.post("/anthropic/v1/messages/count_tokens", json=long)
        assert refused.status == 413
        assert (await refused.json())["error"]["type"] == "request_too_large"
        assert "50000" in await refused.text()
        assert (await agent.post("/anthropic/v1/messages", json=long)).status == 200


async def test_quotas_that_a_list_of_models_tells_are_kept(tmp_path: Path) -> None:
    async def models(_: web.Request) -> web.Response:
        told = {"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "20"}
        return web.json_response({"data": []}, headers=told)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        account = AccountSettings(name="main", provider="anthropic", upstream=site.name)
        async with plane(tmp_path, accounts=(account,)) as made:
            agent = await made.agent()
            before = made.egress.ledger.head
            assert (await agent.get("/anthropic/v1/models")).status == 200
            async with asyncio.timeout(10):
                await made.egress.ledger.newer(before, 10)
            found = [seen for _, seen in await made.egress.ledger.observations_after(0, 10)]
            assert [(seen.account, seen.window, seen.limit, seen.remaining) for seen in found] == [
                ("main", "requests", 50.0, 20.0)
            ]
    finally:
        await runner.cleanup()
