"""Leave for words that are held is for what stands before them, too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.tasks.deferred_demand import DeferredDemand, needed
from budget.windows.pace_admission import Cost, PacePolicy, WindowState
from core.crash_points import declare
from database.engine.store import Store
from database.queries import tasks
from database.queries.tasks import Task
from tests.bot.pacing.fake_pace import SetPace

NOW = 1_000_000.0
WRITTEN = declare("test.held words")


def window(key: str) -> WindowState:
    """Of 1000 tokens a day, of which a tenth is used and little more is allowed by now."""
    pace = SetPace(lambda: NOW)
    pace.put(key, 100.0, unit="tokens", limit=1000.0, resets_at=NOW + 80_000.0, length_s=86_400.0)
    line = replace(pace.standings[key].line, drawn_at=NOW, drawn_used=100.0)
    return replace(pace.standings[key], line=line)


def test_what_fits_by_itself_needs_leave_for_what_goes_first_on_the_same_window() -> None:
    cost, held = Cost(tokens=10.0, high_tokens=10.0), Cost(tokens=200.0)
    first = DeferredDemand(cost=held, count=1, windows=frozenset({"host/day"}))
    elsewhere = DeferredDemand(cost=held, count=5, windows=frozenset({"agent:other/day"}))

    def found(*ahead: DeferredDemand) -> tuple[int, float]:
        answer = needed(ahead, [window("host/day")], cost, NOW, PacePolicy())
        assert answer.helpless is None
        return answer.before, sum(each.amount for each in answer.leave)

    assert found() == (0, 0.0)
    assert found(elsewhere) == (0, 0.0)
    before, amount = found(first, elsewhere)
    assert before == 1
    assert 150 < amount <= 210
    assert found(first, replace(first, count=2))[0] == 3
    assert found(first, first)[1] == pytest.approx(amount + 200.0, rel=1e-3)


def test_where_no_leave_helps_it_is_said_why() -> None:
    ahead = [DeferredDemand(cost=Cost(tokens=900.0), count=2, windows=frozenset({"host/day"}))]
    answer = needed(ahead, [window("host/day")], Cost(tokens=10.0), NOW, PacePolicy())
    assert not answer.leave
    assert answer.helpless == "it needs, with the 2 before it, more than is left of a limit that nothing may pass"


async def test_what_held_words_cost_is_summed_up_by_agent(store: Store) -> None:
    plain = Task(id="", kind="turn", text="x", role="coder", lane="l", operator="ana", created_at=NOW, updated_at=NOW)
    async with store.write(WRITTEN) as tx:
        for number, (agent, usd, state) in enumerate(
            [("a", 0.5, "queued"), ("a", 0.25, "queued"), ("a", 1.0, "cancelled"), ("b", None, "queued")]
        ):
            task = replace(plain, id=f"{number}", agent=agent, state=state, projected_tokens=10.0, projected_usd=usd)
            await tasks.add(tx, task)
        await tasks.add(tx, replace(plain, id="9", agent="a", kind="task", projected_tokens=99.0))
    async with store.read() as tx:
        assert await tasks.held_costs(tx) == {"a": (2, 20.0, 0.75), "b": (1, 10.0, None)}
