"""A dispatcher over a real register, with agents that only exist on paper, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.pacing.window_status import PaceSnapshot
from budget.dispatch.next_task import DispatchAgent, DispatchLimits, DispatchPolicy, TaskWait, lane_of
from budget.windows.pace_admission import PacePolicy, WindowState
from core.crash_points import declare
from database.engine.store import Store
from database.queries import tasks
from database.queries.tasks import Task
from scheduler.dispatch.dispatch_inputs import Able
from scheduler.dispatch.dispatch_loop import Dispatcher

STEP = declare("tests.dispatch")
NOW = 1_800_000_000.0


def task(number: int, **said: Any) -> Task:
    """A task for any coder."""
    plain: dict[str, Any] = {
        "id": f"{number:08x}", "kind": "task", "text": f"task {number}", "role": "coder", "operator": "ana",
        "agent": None, "urgency": "normal", "created_at": NOW, "updated_at": NOW,
    } | said  # fmt: skip
    lane = lane_of(
        **{name: plain[name] for name in ("kind", "operator", "role", "agent", "urgency")},
        estimate=plain.get("estimate"),
    )
    return Task(**{"lane": lane, **plain})


@dataclass(slots=True)
class Paper:
    """Agents by name, and what was done to them."""

    agents: dict[str, DispatchAgent] = field(default_factory=dict)
    given: list[tuple[str, str]] = field(default_factory=list)
    """Which task went to whom, as it was committed."""
    heard: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    no_start: TaskWait | None = None
    _writing: list[tuple[str, str]] = field(default_factory=list)

    async def able(self, live: Sequence[Task]) -> Sequence[Able]:
        busy = {each.assigned for each in live}
        found = []
        for agent in self.agents.values():
            taken = agent.name in busy and agent.readiness == "idle"
            found.append(
                Able(
                    agent=DispatchAgent(
                        name=agent.name,
                        role=agent.role,
                        runtime=agent.runtime,
                        readiness="busy" if taken else agent.readiness,
                    )
                )
            )
        return found

    async def hand_over(self, tx: AsyncConnection, task: Task, agent: str) -> bool:
        del tx
        self._writing = [(task.id, agent)]
        return agent in self.agents

    def handed_over(self, agent: str) -> None:
        del agent
        self.given += self._writing

    async def start(self, task: Task, agent: str) -> TaskWait | None:
        self.started.append(f"{task.id} {agent}")
        return self.no_start

    async def refused(self, tx: AsyncConnection, task: Task, why: str) -> None:
        del tx
        self.heard.append(f"{task.id} refused: {why}")

    async def waits(self, tx: AsyncConnection, task: Task, wait: TaskWait) -> None:
        del tx
        self.heard.append(f"{task.id} {wait.why}")

    def told(self) -> None:
        """Nothing is to be sent here."""


@dataclass(slots=True)
class Desk:
    """A register with a queue, and what dispatches it."""

    store: Store
    paper: Paper
    dispatcher: Dispatcher
    now: float = NOW
    standings: Mapping[str, WindowState] = field(default_factory=dict)
    limits: DispatchLimits = field(default_factory=DispatchLimits)
    policy: DispatchPolicy = field(default_factory=DispatchPolicy)
    filled: int = 1

    @classmethod
    async def open(cls, folder: Path | None = None, *, url: str = "") -> Desk:
        store = await Store.open(url or f"sqlite:///{folder}/register.db")
        paper = Paper()

        async def snapshot() -> PaceSnapshot:
            return PaceSnapshot(now=desk.now, policy=PacePolicy(), standings=desk.standings)

        dispatcher = Dispatcher(
            store=store,
            clock=lambda: desk.now,
            assigner=paper,
            snapshot=snapshot,
            limits=lambda: desk.limits,
            policy=lambda: desk.policy,
        )
        desk = cls(store=store, paper=paper, dispatcher=dispatcher)
        return desk

    async def put(self, *given: Task) -> None:
        """Queue tasks."""
        async with self.store.write(STEP) as tx:
            for each in given:
                await tasks.add(tx, each)

    async def fill(self, count: int, *, roles: int = 5, operators: int = 3) -> None:
        """Queue very many tasks more, of several operators, roles and urgencies."""
        urgencies = ("low", "normal", "high", "critical")
        first, self.filled = self.filled, self.filled + count
        await self.put(
            *(
                task(
                    number,
                    role=f"role{number % roles}",
                    operator=f"operator{number // roles % operators}",
                    urgency=urgencies[number // (roles * operators) % 4],
                )
                for number in range(first, first + count)
            )
        )

    async def of(self, number: int) -> Task:
        """A task as it stands."""
        async with self.store.read() as tx:
            found = await tasks.get(tx, f"{number:08x}")
        assert found is not None
        return found
