"""Which task begins, and what is said to those that wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget.dispatch.next_task import (
    Assign,
    DispatchAgent,
    DispatchLimits,
    DispatchPolicy,
    LaneHead,
    LiveTask,
    QueueView,
    RefuseTask,
    StartTask,
    TaskWait,
    aside,
    decide,
    lane_of,
    size_of,
)
from budget.windows import pace_admission
from budget.windows.even_spread_line import EvenSpreadLine, Window
from budget.windows.pace_admission import Cost, WindowState

HOUR = 3600.0
DAY = 24 * HOUR
NOW = 20_000 * DAY
COST = Cost(tokens=1000.0)


def head(number: int, **said: Any) -> LaneHead:
    plain: dict[str, Any] = {
        "id": f"t{number}", "seq": number, "kind": "task", "operator": "ana", "role": "coder", "agent": None,
        "urgency": "normal", "created_at": NOW,
    }  # fmt: skip
    return LaneHead(**plain | said)


def agent(name: str = "coder0", **said: Any) -> DispatchAgent:
    return DispatchAgent(**{"name": name, "role": "coder", "runtime": "sim", "readiness": "idle", **said})


def week(used: float, *, reserved: float = 0.0, limit: float = 700_000.0, day: float = 1.0) -> WindowState:
    """A window of seven days, so many days old, whose line goes straight from its beginning."""
    begins = NOW - day * DAY
    window = Window(
        key="host/tokens/7d", scope="host", unit="tokens", limit=limit, begins_at=begins, resets_at=begins + 7 * DAY,
        length_s=7 * DAY, certainty="user", used=used, used_at=NOW, per_token=None,
    )  # fmt: skip
    line = EvenSpreadLine(
        window=window.key, drawn_at=begins, drawn_used=0.0, limit=limit, resets_at=begins + 7 * DAY, cause="first"
    )
    return WindowState(window=window, line=line, reserved=reserved)


def view(heads: Sequence[LaneHead], agents: Sequence[DispatchAgent], **said: Any) -> QueueView:
    return QueueView(
        **{"now": NOW, "heads": heads, "agents": agents, "draw": lambda _: (), "cost": lambda *_: COST, **said}
    )


def step(given: QueueView) -> Assign | StartTask | RefuseTask | None:
    return decide(given).step


def wait(given: QueueView, task: str = "t1") -> TaskWait:
    return next(each for each in decide(given).waits if each.task == task)


# --- who begins ----------------------------------------------------------------------------------------------------


def test_critical_goes_first_and_then_the_queue_whose_turn_it_is() -> None:
    heads = [head(1, urgency="low"), head(2), head(3, urgency="high"), head(4, urgency="high")]
    found = step(view(heads, [agent()]))
    assert isinstance(found, Assign)
    assert (found.task, found.agent, found.cost) == ("t3", "coder0", COST)
    found = step(view([*heads, head(5, urgency="critical")], [agent()], ahead={"critical ana": 1e9}))
    assert isinstance(found, Assign)
    assert found.task == "t5"
    # Who was served for long lets the others go first.
    found = step(view(heads, [agent()], ahead={"high ana": 500.0, "normal ana": 400.0}))
    assert isinstance(found, Assign)
    assert found.task == "t3"
    found = step(view(heads, [agent()], ahead={"high ana": 1000.0, "normal ana": 900.0}))
    assert isinstance(found, Assign)
    assert found.task == "t1"


def test_an_agent_gets_what_is_for_it_or_its_role_and_whoever_was_free_longest_gets_it() -> None:
    agents = [agent("coder0", free_since=5.0), agent("coder1", free_since=2.0), agent("judge0", role="code-review")]
    found = step(view([head(1)], agents))
    assert isinstance(found, Assign)
    assert found.agent == "coder1"
    found = step(view([head(1, prefers="coder0")], agents))
    assert isinstance(found, Assign)
    assert found.agent == "coder0"
    found = step(view([head(1, agent="judge0", role="code-review")], agents))
    assert isinstance(found, Assign)
    assert found.agent == "judge0"


def test_operators_take_turns_by_what_their_tasks_cost() -> None:
    heads = [head(1, operator="ana"), head(2, operator="otto")]
    costs = {"t1": Cost(tokens=3000.0), "t2": COST}
    found = step(view(heads, [agent()], cost=lambda one, _: costs[one.id]))
    assert isinstance(found, Assign)
    assert found.task == "t2"
    assert found.charge is not None
    # Both have half of the weight of normal urgency.
    assert found.charge.on({}) == {"normal otto": 500.0}
    found = step(view(heads, [agent()], cost=lambda one, _: costs[one.id], ahead={"normal otto": 1500.0}))
    assert isinstance(found, Assign)
    assert found.task == "t1"


def test_ten_agents_that_work_for_one_person_get_no_more_turns_than_that_person() -> None:
    heads = [
        *(head(number, operator=f"agent:coder{number}", charged_to="ana") for number in range(1, 11)),
        *(head(number, operator="otto") for number in range(11, 21)),
    ]
    ahead: Mapping[str, float] = {}
    served: list[bool] = []
    while len(served) < 10:
        found = step(view(heads, [agent()], ahead=ahead))
        assert isinstance(found, Assign)
        assert found.charge is not None
        ahead = found.charge.on(ahead)
        heads = [each for each in heads if each.id != found.task]
        served.append(int(found.task[1:]) > 10)
    assert sum(served) == 5, "otto has half of the turns, and not one of eleven"


def test_somebody_who_can_be_started_is_started_once_nobody_who_could_do_it_runs() -> None:
    found = step(view([head(1)], [agent(readiness="startable")]))
    assert isinstance(found, StartTask)
    assert found.agent == "coder0"
    starting = view([head(1)], [agent(readiness="starting"), agent("coder1", readiness="startable")])
    assert step(starting) is None
    assert wait(starting).why == "starting"
    assert step(view([head(1)], [agent(readiness="startable")], policy=DispatchPolicy(start_agents=False))) is None
    busy = view([head(1)], [agent(readiness="busy"), agent("coder1", readiness="startable")])
    assert isinstance(step(busy), StartTask)


def test_whoever_was_stopped_is_started_only_for_what_was_asked_for_since() -> None:
    stopped = agent(readiness="startable", stopped_at=NOW - 10)
    assert step(view([head(1, created_at=NOW - 20)], [stopped])) is None
    assert isinstance(step(view([head(1, created_at=NOW - 5)], [stopped])), StartTask)


def test_words_to_an_agent_wait_for_the_pace_alone() -> None:
    said = head(1, kind="turn", agent="coder0")
    for readiness in ("busy", "away", "down"):
        found = step(view([said], [agent(readiness=readiness)], limits=DispatchLimits(host=0)))
        assert isinstance(found, Assign)
    assert wait(view([said], [agent(readiness="busy")], draw=lambda _: [week(300_000)])).why == "pace"


# --- why others wait -----------------------------------------------------------------------------------------------


def test_what_has_no_room_in_a_window_waits_until_it_has() -> None:
    given = view([head(1)], [agent()], draw=lambda _: [week(130_000)])
    found = wait(given)
    assert step(given) is None
    assert (found.why, found.windows, found.scope, found.unit) == ("pace", ("host/tokens/7d",), "host", "tokens")
    assert found.look_at is not None
    assert NOW < found.look_at < NOW + DAY
    assert decide(given).look_at == found.look_at
    assert found.authorize is not None
    later = replace(given, now=found.look_at + 60)
    assert isinstance(step(later), Assign)


def test_no_more_are_under_way_at_once_than_may_be() -> None:
    live = [LiveTask(role="coder", runtime="sim", account="main")] * 2
    for limits in (
        DispatchLimits(host=2),
        DispatchLimits(roles={"coder": 2}),
        DispatchLimits(runtimes={"sim": 2}),
        DispatchLimits(accounts={"main": 2}),
    ):
        given = view([head(1)], [agent(account="main")], live=live, limits=limits)
        assert wait(given).why == "concurrency"
        assert step(given) is None
    roomy = DispatchLimits(host=3, roles={"coder": 3, "research": 0}, runtimes={"claude": 1}, accounts={"other": 1})
    assert isinstance(step(view([head(1)], [agent(account="main")], live=live, limits=roomy)), Assign)


def test_whoever_waits_is_told_for_whom() -> None:
    assert wait(view([head(1)], [])).text == "No agent has the role coder."
    assert wait(view([head(1, agent="coder9")], [])).text == "There is no agent coder9."
    assert wait(view([head(1)], [agent(readiness="away")])).text.endswith("coder0 is frozen or cut off.")
    busy = wait(view([head(1)], [agent(readiness="busy", holds="abc")]))
    assert (busy.why, busy.text) == (
        "busy",
        "Every agent of the role coder is busy; coder0 waits for your word on task abc.",
    )
    assert wait(view([head(1, not_before=NOW + 60)], [agent()])).look_at == NOW + 60
    # A clock that went back since it failed does not hold it for as long.
    assert isinstance(step(view([head(1, not_before=NOW + 365 * DAY)], [agent()])), Assign)


# --- deadlines -----------------------------------------------------------------------------------------------------


def test_a_task_is_refused_only_if_no_window_opens_before_its_deadline() -> None:
    full = [week(200_000)]
    opens = wait(view([head(1)], [agent()], draw=lambda _: full)).look_at
    assert opens is not None
    assert step(view([head(1, deadline=opens + 1)], [agent()], draw=lambda _: full)) is None
    found = step(view([head(1, deadline=opens - 1)], [agent()], draw=lambda _: full))
    assert isinstance(found, RefuseTask)
    assert "before its deadline" in found.why
    # Another agent draws on a window with room.
    draws = {"coder0": full, "coder1": []}
    other = view([head(1, deadline=opens - 1)], [agent(), agent("coder1")], draw=lambda one: draws[one.name])
    assert isinstance(step(other), Assign)


def test_a_task_is_not_refused_for_what_tasks_under_way_may_leave_unused() -> None:
    held = [week(0, reserved=200_000)]
    given = view([head(1, deadline=NOW + HOUR)], [agent()], draw=lambda _: held)
    found = wait(given)
    assert step(given) is None
    assert (found.why, found.look_at) == ("pace", NOW + HOUR)
    assert isinstance(step(replace(given, draw=lambda _: [week(0)])), Assign)
    # What is used does not come back.
    used = step(replace(given, draw=lambda _: [week(200_000, reserved=10_000)]))
    assert isinstance(used, RefuseTask)


def test_what_waits_for_nobody_knows_what_is_refused_at_its_deadline() -> None:
    given = view([head(1, deadline=NOW + 60)], [])
    assert decide(given).look_at == NOW + 60
    assert step(replace(given, now=NOW + 60)) == RefuseTask(task="t1", why="its deadline is past")


def test_what_is_more_than_a_window_holds_is_refused_with_a_deadline_and_said_without() -> None:
    standing = [week(0, limit=500.0)]
    found = wait(view([head(1)], [agent()], draw=lambda _: standing))
    assert (found.why, found.never) == ("limit", True)
    assert isinstance(step(view([head(1, deadline=NOW + 30 * DAY)], [agent()], draw=lambda _: standing)), RefuseTask)


# --- nobody waits for ever -----------------------------------------------------------------------------------------


def test_whose_turn_it_is_waits_for_the_line_and_the_others_wait_for_it() -> None:
    standing = [week(95_000)]
    costs = {"t1": Cost(tokens=60_000.0), "t2": COST, "t3": COST}
    ahead = {"normal otto": 50_000.0, "high vera": 50_000.0}
    heads = [head(1), head(2, operator="otto")]
    given = view(heads, [agent()], draw=lambda _: standing, cost=lambda one, _: costs[one.id], ahead=ahead)
    assert step(given) is None
    found = wait(given, "t2")
    assert (found.why, found.text) == ("fairness", "It is not its turn yet: task t1 comes first on host/tokens/7d.")
    # It is told about when its turn comes, and what lets both begin now.
    first = wait(given)
    assert first.look_at is not None
    assert found.look_at is not None
    assert NOW < first.look_at < NOW + DAY / 2
    assert first.look_at < found.look_at < NOW + DAY
    assert [each.amount for each in found.leave] == [pytest.approx(38_000, rel=0.01)]
    # What draws on another window does not wait for it, nor does what is critical.
    assert isinstance(step(replace(given, draw=lambda _: ())), Assign)
    urgent = step(replace(given, heads=[*heads, head(3, urgency="critical", operator="vera")]))
    assert isinstance(urgent, Assign)
    assert urgent.task == "t3"


def test_high_reads_the_line_ahead_of_whose_turn_it_is_until_it_had_its_share() -> None:
    standing = [week(118_000)]
    costs = {"t1": Cost(tokens=8_000.0), "t2": COST}
    heads = [head(1), head(2, operator="vera", urgency="high")]
    given = view(heads, [agent()], draw=lambda _: standing, cost=lambda one, _: costs[one.id])
    found = step(replace(given, ahead={"high vera": 1990.0}))
    assert isinstance(found, Assign)
    assert found.task == "t2"
    assert step(replace(given, ahead={"high vera": 2010.0})) is None


def test_what_no_agent_can_take_or_is_large_or_held_by_a_limit_of_its_own_has_nobody_wait() -> None:
    small = head(2, operator="otto")
    ahead = {"normal otto": 1e6}
    costs = {"t1": Cost(tokens=60_000.0), "t2": COST}
    plain = view([small], [agent()], draw=lambda _: [week(95_000)], cost=lambda one, _: costs[one.id], ahead=ahead)
    for first in (head(1, role="judge"), head(1, agent="gone"), head(1, not_before=NOW + 60)):
        found = step(
            replace(plain, heads=[first, small], agents=[agent(), agent("judge0", role="judge", readiness="busy")])
        )
        assert isinstance(found, Assign)
        # Its queue keeps its distance meanwhile.
        assert found.charge is not None
        assert found.charge.held == {"normal ana"}
        assert found.charge.on({"normal ana": 7.0, **ahead})["normal ana"] == 7.0
    for tokens in (110_000.0, 400_000.0, 900_000.0):
        costs["t1"] = Cost(tokens=tokens)
        found = step(replace(plain, heads=[head(1), small]))
        assert isinstance(found, Assign), tokens
        assert found.task == "t2"
    own = replace(week(700_000), window=replace(week(700_000).window, key="agent:x/tokens/7d", scope="agent:x"))
    costs["t1"] = COST
    draws = {"coder0": [week(95_000)], "x": [week(95_000), own]}
    found = step(
        replace(
            plain, heads=[head(1, agent="x"), small], agents=[agent(), agent("x")], draw=lambda one: draws[one.name]
        )
    )
    assert isinstance(found, Assign)
    assert found.task == "t2"


def test_while_the_use_is_unknown_nothing_stands_still_for_a_large_task() -> None:
    """A reset that nobody saw, a large task that waited for long, and nothing under way: one begins, as a probe."""
    unknown = replace(week(0), window=replace(week(0).window, used=None, at_least=0.0))
    costs = {"t1": Cost(tokens=300_000.0), "t2": COST}
    large = head(1, created_at=NOW - 13 * HOUR)
    given = view(
        [large, head(2, operator="otto")], [agent()], draw=lambda _: [unknown], cost=lambda one, _: costs[one.id]
    )
    assert isinstance(step(given), Assign)
    too_large = {**costs, "t1": Cost(tokens=800_000.0)}
    found = step(replace(given, cost=lambda one, _: too_large[one.id]))
    assert isinstance(found, Assign)
    assert found.task == "t2"
    busy = [replace(unknown, under_way=1)]
    assert {wait.why for wait in decide(replace(given, draw=lambda _: busy)).waits} == {"unknown"}
    urgent = step(replace(given, heads=[head(3, urgency="critical")], draw=lambda _: busy, cost=lambda *_: COST))
    assert isinstance(urgent, Assign)


def test_five_hundred_lanes_and_two_hundred_agents_ask_little_of_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in looks at windows, not in time."""
    shared = [week(300_000), replace(week(300_000), window=replace(week(300_000).window, key="host/tokens/month"))]
    looked = 0
    look = pace_admission.wait_at

    def count(*given: Any) -> Any:
        nonlocal looked
        looked += 1
        return look(*given)

    monkeypatch.setattr(pace_admission, "wait_at", count)
    heads = [head(number, operator=f"o{number}") for number in range(500)]
    agents = [agent(f"a{number}") for number in range(200)]
    found = decide(view(heads, agents, draw=lambda _: shared))
    assert (found.step, len(found.waits)) == (None, 500)
    assert looked == len(shared)
    assert [wait.why for wait in found.waits] == ["pace", *["fairness"] * 499]


def test_flows_are_charged_what_the_agent_that_gets_it_is_projected_to_use() -> None:
    """It is what is corrected in the end; by what anybody uses, the dear models of one would be on the others."""
    heads = [head(1, operator="ana"), head(2, operator="otto", role="judge")]

    def cost(_: LaneHead, able: DispatchAgent | None) -> Cost:
        return Cost(tokens=5000.0) if able is not None and able.role == "coder" else COST

    found = step(view(heads, [agent(), agent("judge0", role="judge")], cost=cost))
    assert isinstance(found, Assign)
    assert found.task == "t2"
    alone = step(view(heads[:1], [agent()], cost=cost))
    assert isinstance(alone, Assign)
    assert alone.charge is not None
    assert alone.charge.on({}) == {"normal ana": 1250.0}


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_whatever_comes_in_each_task_begins_some_day(data: st.DataObject) -> None:
    """One agent, a task an hour, always more urgent ones behind: the least urgent still has its turn."""
    late = data.draw(st.lists(st.sampled_from(["normal", "high"]), min_size=80, max_size=80))
    operators = data.draw(st.lists(st.sampled_from(["ana", "otto", "vera"]), min_size=80, max_size=80))
    waiting = [head(0, urgency="low", created_at=NOW)]
    ahead: Mapping[str, float] = {}
    for hour, (urgency, operator) in enumerate(zip(late, operators, strict=True)):
        now = NOW + hour * HOUR
        waiting.append(head(hour + 1, urgency=urgency, operator=operator, created_at=now))
        found = decide(view(waiting, [agent()], now=now, ahead=ahead)).step
        assert isinstance(found, Assign)
        assert found.charge is not None
        ahead = found.charge.on(ahead)
        waiting = [each for each in waiting if each.id != found.task]
        if found.task == "t0":
            # Each queue that waits alone has 8 or 4 shares to its one, and there are three of each.
            assert hour <= 3 * 8 + 3 * 4 + 6
            return
    raise AssertionError("the task never began")


@given(st.integers(0, 3), st.floats(0, 1e6), st.booleans())
def test_the_same_view_gives_the_same_decision(place: int, used: float, more: bool) -> None:
    urgency = ("low", "normal", "high", "critical")[place]
    heads = [head(1, urgency=urgency), *([head(2, operator="otto")] if more else [])]
    given = view(heads, [agent(), agent("coder1")], draw=lambda _: [week(used)])
    assert decide(given) == decide(given)


def test_lanes_part_operators_targets_urgencies_kinds_and_sizes() -> None:
    plain: dict[str, Any] = {"kind": "task", "operator": "ana", "role": "coder", "agent": None, "urgency": "normal"}
    others = (
        {"kind": "turn", "agent": "coder0"}, {"agent": "coder0"}, {"operator": "otto"}, {"urgency": "high"},
        {"kind": "fix"}, {"estimate": 2000.0}, {"estimate": 300_000.0},
    )  # fmt: skip
    lanes = {lane_of(**plain), *(lane_of(**{**plain, **other}) for other in others)}
    assert len(lanes) == 8
    assert aside(aside(lane_of(**plain))) == aside(lane_of(**plain)) not in lanes
    assert lane_of(**plain, estimate=1100.0) == lane_of(**plain, estimate=3900.0)
    sizes = [size_of(0.0), *(size_of(10.0**power) for power in range(20))]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) <= 10
