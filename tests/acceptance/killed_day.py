"""A Muster that is killed while an operator works with it, and the operator's own books of what must come of it.

Balanced is what can be seen: each answer and each reply stands once, no receipt is doubled, nothing is left lying. What
the model was asked is compared with it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from bot.config.paths import Paths
from connectors.contract import connector_registry
from connectors.contract.messages import Capabilities
from fleet.sim.provider.server import Provider
from tests.acceptance import seats
from tests.acceptance.conftest import STANDING, configuration
from tests.acceptance.operator import Operator, Said
from tests.acceptance.seat import Seat
from tests.system.installation import LIMIT, Premises

Scene: TypeAlias = Callable[["Stage"], Awaitable[None]]


#: Seconds that it may take to start, do what is to be done, and die, on a busy machine.
_LIFE = 15.0
#: How often it is let come up before it is killed.
_WELL = 0.8


@dataclass(slots=True, kw_only=True)
class SeatHome(Premises):
    """`muster up` for one seat."""

    seat: Seat

    def secrets(self) -> Mapping[str, str]:
        return self.seat.environment()


@dataclass(slots=True)
class Stage:
    """An operator who keeps books, and an agent that is always there."""

    home: SeatHome
    ana: Operator
    messages: dict[str, Said] = field(default_factory=dict)
    """What was said to agents, by the word that stands in it alone."""
    commands: list[str] = field(default_factory=list)
    """Words that stand in one reply each."""
    _words: int = 0

    def token(self) -> str:
        """A word that stands nowhere else, and in no other word."""
        self._words += 1
        return f"tok{self._words}x"

    async def message(self, agent: str = STANDING, orders: str = "") -> str:
        """Write to an agent, which answers in one piece at the end of its orders. Returns the message's own word."""
        token = self.token()
        self.messages[token] = await self.ana.tell(agent, f"{orders} [[say: {_answer(token)}]]")
        return token

    async def command(self) -> None:
        """Give a command whose reply can be told from all others."""
        word = f"nobody{self.token()}"
        self.commands.append(word)
        await self.ana.say(f"!stop {word}")

    async def answered(self, token: str) -> None:
        """Wait for the answer to a message."""
        await self.ana.heard(_answer(token), after=self.messages[token])

    async def asked(self, about: str) -> None:
        """Allow what an agent asks for."""
        question = await self.ana.heard(f"> {about}`")
        await self.ana.answer(question, "✅", "allow", tap=self.ana.seat.keeps_taps)

    async def balance(self) -> None:
        """Wait until everything has come to its end, and compare what was said with what came of it.

        Raises:
            AssertionError: something is missing, or there twice.
        """
        for token in self.messages:
            await self.answered(token)
            await self.ana.marked(self.messages[token], "✅")
        for word in self.commands:
            await self.ana.heard(word)
        await self.ana.ask("!dead-letters", "Everything was delivered")
        await self._quiet()
        asked = [entry.text for entry in self.home.models.ledger.entries if entry.results == 0]
        wrong = []
        for token, said in self.messages.items():
            times = sum(_answer(token) in text for text in asked)
            stands = sum(_answer(token) in each.text for each in await self.ana.standing(token))
            wrong += [f"{token} reached the model {times} times"] * (times != 1)
            wrong += [f"the answer to {token} stands {stands} times"] * (stands != 1)
            if self.ana.can().reactions:
                marks = Counter(await self.ana.seat.receipts(said.id, said.place))
                wrong += [f"{token} has {dict(marks)}"] * (max(marks.values()) > 1)
        for word in self.commands:
            stands = len(await self.ana.standing(word))
            wrong += [f"the reply about {word} stands {stands} times"] * (stands != 1)
        own = Counter((each.place, each.text) for each in await self.ana.standing("guest"))
        wrong += [f"{text!r} stands {times} times" for (_, text), times in own.items() if times > 1]
        wrong += [each.text for each in await self.ana.standing("too late for request")]
        assert not wrong, "\n".join([*wrong, self.home.last_words(80)])

    async def _quiet(self) -> None:
        """Wait until nothing waits to be said."""
        async with asyncio.timeout(LIMIT):
            while (await self.home.gateway("GET", "/v1/health"))["status"] == "down":
                await self.ana.seat.news()


def _answer(token: str) -> str:
    return f"answer to **{token}**"


# --- scenes --------------------------------------------------------------------------------------------------------


async def life(stage: Stage) -> None:
    """An agent that never was before comes, answers and goes."""
    name = f"guest{stage.token()}"
    place = await stage.ana.launch(name)
    await stage.answered(await stage.message(name))
    await stage.command()
    said = await stage.ana.say(f"!stop {name}")
    await stage.ana.heard("Stopped", place=place, after=said)


async def talk(stage: Stage) -> None:
    """Words, and an approval."""
    proof = f"proof{stage.token()}"
    token = await stage.message(orders=f"[[run: echo x >> {proof}]]")
    waiting = await stage.message()
    await stage.asked(proof)
    await stage.answered(token)
    await stage.answered(waiting)
    assert (stage.home.paths.workspace(STANDING) / proof).read_text() == "x\n", "what was allowed once is done once"


async def confirmed(stage: Stage) -> None:
    """An agent is killed, which asks for a confirmation."""
    name = f"guest{stage.token()}"
    await stage.ana.launch(name)
    question = await stage.ana.ask(f"!kill {name}", "cannot be undone")
    await stage.ana.answer(question, "✅", "rite", tap=stage.ana.seat.keeps_taps)
    await stage.ana.heard(f"{name} is killed")


# --- killing -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def staged(
    name: str, folder: Path, models: Provider, request: pytest.FixtureRequest, **settings: Any
) -> AsyncIterator[Stage]:
    """A stage whose standing agent is ready, and whose orchestrator was killed; the books are balanced at the end."""
    paths = Paths.of({"MUSTER_HOME": str(folder / "home"), "HOME": str(folder)})
    paths.prepare()
    async with seats.opened(name, paths, request) as seat:
        home = SeatHome(folder=folder, models=models, paths=paths, kind=seat.kind, seat=seat)
        paths.muster_yaml.write_text(yaml.safe_dump(configuration(seat, models, **settings)))
        can = _capabilities(seat, folder)
        stage = Stage(home, Operator(seat, lambda: can))
        try:
            await home.start()
            await seat.arrived()
            await stage.ana.launch(STANDING)
            await home.kill()
            try:
                yield stage
                if home.process is None:
                    await home.start()
                await stage.balance()
            except AssertionError as error:
                raise AssertionError(f"{error}\n{home.last_words()}") from None
        finally:
            # First: a living orchestrator opens its session in tmux again.
            await home.kill()
            await seat.leave()
            await home.close()


def _capabilities(seat: Seat, folder: Path) -> Capabilities:
    """What a connector for the seat can do; this one never starts."""
    block = {key: value for key, value in seat.block().items() if key != "fleet_room"}
    settings = connector_registry.settings_model(seat.kind).model_validate(block)
    return connector_registry.make(seat.kind, seat.kind, settings, folder / "unused").capabilities


async def kill_at(stage: Stage, scene: Scene, crashes: Sequence[str]) -> None:
    """Play a scene, again and again, until the orchestrator has died at each of these places."""
    # All of them can lie in the way of one answer.
    stage.ana.seat.patience = LIMIT + _LIFE * len(crashes)
    await stage.home.killed_at(crashes, scene.__name__, lambda: scene(stage))
    stage.ana.seat.patience = LIMIT


async def kill_at_random(stage: Stage, rng: random.Random, kills: int) -> None:
    """Talk without a pause while the orchestrator is killed again and again at any moment."""
    async with stage.home.revived() as deaths, asyncio.TaskGroup() as people:
        enough = asyncio.Event()
        people.create_task(_talk(stage, rng, enough))
        for kill in range(1, kills + 1):
            if rng.random() < _WELL:
                await stage.home.ready()
            await asyncio.sleep(rng.uniform(0.1, 3.0))
            async with asyncio.timeout(LIMIT):
                while len(deaths) < kill:
                    stage.home.strike()
                    await asyncio.sleep(0.02)
        enough.set()
    print(f"{len(deaths)} kills, {len(stage.messages)} messages, {len(stage.commands)} commands")


async def _talk(stage: Stage, rng: random.Random, enough: asyncio.Event) -> None:
    while not enough.is_set():
        await (stage.message() if rng.random() < 0.5 else stage.command())
        await asyncio.sleep(rng.uniform(0.0, 0.5))
