"""Muster and the egress are killed around an authorization: never more passes than the limit and what is authorized."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import aiohttp
import pytest

from bot.egress_client.process import pid_of
from budget.tokens import Weights
from fleet.sim.provider.server import Provider
from tests.synapse import Synapse
from tests.system.installation import LIMIT
from tests.system.matrix_installation import Installation, installation

pytestmark = [pytest.mark.synapse, pytest.mark.slow]

BUDGET, GIVEN = 4_000, 1_000
#: What a request may need, so that one which needs more than is left may leave so much.
_REQUEST = 200


class Greedy:
    """A program beside the agent's that asks the model by its way out, as often as it may."""

    def __init__(self, home: Installation, models: Provider) -> None:
        self._home, self._models, self._asked = home, models, 0

    @property
    def used(self) -> int:
        """What the provider billed in all, in weighted tokens."""
        return sum(Weights().weigh(entry.tokens) for entry in self._models.ledger.entries)

    async def spend(self, most: int | None = None) -> None:
        """Ask until that is refused, or so often. Where nobody listens it is tried again."""
        url = self._url()
        async with aiohttp.ClientSession() as http, asyncio.timeout(LIMIT):
            while most is None or most > 0:
                try:
                    status = await self._ask(http, url)
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
                    continue
                if status != 200:
                    assert status in (403, 429)
                    assert most is None, "so much was to be left"
                    return
                most = None if most is None else most - 1

    async def _ask(self, http: aiohttp.ClientSession, url: str) -> int:
        self._asked += 1
        body = {
            "model": "claude-sonnet-4-5",
            "max_tokens": 150,
            "messages": [{"role": "user", "content": f"{self._asked} [[stream: 80 word]]"}],
        }
        async with http.post(f"{url}/v1/messages", json=body, headers={"x-api-key": "none"}) as response:
            await response.read()
            return response.status

    def _url(self) -> str:
        for pid, _ in self._home.processes():
            with contextlib.suppress(OSError):
                for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    name, _, value = each.decode(errors="replace").partition("=")
                    if name == "ANTHROPIC_BASE_URL":
                        return value
        raise AssertionError(f"nobody has a way out: {self._home.processes()}")


async def test_never_more_passes_than_the_limit_and_what_is_authorized_whoever_is_killed(
    tmp_path: Path, synapse: Synapse, models: Provider
) -> None:
    budgets = {"host": {"tokens": BUDGET, "window": "7d"}}
    async with installation(tmp_path, synapse, models, budgets=budgets, pacing={"spread": "off"}) as home:
        await home.start()
        await home.joined()
        await home.launch("coder0")
        greedy = Greedy(home, models)
        await greedy.spend()
        assert BUDGET - _REQUEST < greedy.used <= BUDGET

        # Killed before and after the leave is written, and where it is written down as used; given once.
        await home.kill()
        async with home.revived(["command.step.before", "command.step.after", "pace.kept.after"]) as deaths:
            given = await home.ask("!budget authorize host 1k --for 1h")
            assert "may spend 1k tokens faster than its pace" in given
            assert deaths[:2] == ["command.step.before", "command.step.after"]
            await greedy.spend(3)
        # Nobody is there but the egress, then not even that; then both come back.
        await home.kill()
        await greedy.spend(2)
        egress = pid_of(home.paths)
        assert egress is not None
        os.kill(egress, signal.SIGKILL)
        await home.start()
        await greedy.spend()
        # What is given counts from what was used, so that the rest of the budget is no part of it.
        assert BUDGET + GIVEN - 2 * _REQUEST < greedy.used <= BUDGET + GIVEN
        await _balanced(home, greedy, drawn=greedy.used - BUDGET)

        # Whoever starts anew gives nothing of it again.
        before = greedy.used
        for ends in (home.kill, home.stop):
            await ends()
            await home.start()
            await greedy.spend()
        assert greedy.used <= BUDGET + GIVEN
        assert greedy.used - before < _REQUEST

        # What is taken back is gone, and what is given anew is what is given.
        await home.ask("!budget authorize host 1k --for 1h")
        await greedy.spend(2)
        before = greedy.used
        assert "revoked" in await home.ask("!budget authorize host 0")
        await greedy.spend()
        assert greedy.used == before
        await home.ask("!budget authorize host 1k --for 1h")
        await greedy.spend()
        assert greedy.used <= before + GIVEN
        await _balanced(home, greedy)


async def _balanced(home: Installation, greedy: Greedy, *, drawn: int | None = None) -> None:
    """Wait until the register has all that the provider billed, and so much as used of the leave that holds.

    Raises:
        AssertionError: the one and the other stay apart.
    """
    told = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LIMIT):
            while True:
                pace = (await home.gateway("POST", "/v1/commands/pace", {}))["data"]
                (budget,) = (await home.gateway("POST", "/v1/commands/budget", {}))["data"]
                (window,) = pace["windows"]
                told = {"egress": budget["used"], "register": window["used"], "left": window["authorized"]}
                if told["egress"] == told["register"] == greedy.used and (
                    drawn is None or GIVEN - round(float(window["authorized"])) == drawn
                ):
                    return
                await asyncio.sleep(0.05)
    raise AssertionError(f"{greedy.used} was billed, and {told} is told\n{home.last_words()}")
