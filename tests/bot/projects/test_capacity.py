"""Who may run is bounded per project and for the fleet, in the order of asking."""

from __future__ import annotations

from bot.config.projects import ProjectBlock
from bot.projects.capacity import TopicLimits, can_begin, idle_ones, place_in_line, wait_for_agents
from database.queries.chat.topics import Topic, TopicState

LIMITS = TopicLimits(
    projects={"web": ProjectBlock(repo="/web", topics=2, idle=600.0), "api": ProjectBlock(repo="/api", topics=2)},
    at_once=3,
)


def one(number: int, state: TopicState, *, project: str = "web") -> Topic:
    return Topic(
        id=f"{project}{number}",
        project=project,
        number=number,
        agent=f"{project}-{number}",
        title="it",
        connector="memory",
        room="room",
        thread_key=f"th/{number}",
        asked_by="memory:@ana",
        state=state,
        queued_at=float(number),
        active_at=float(number),
        created_at=float(number),
    )


def names(topics: list[Topic]) -> list[str]:
    return [each.agent for each in topics]


def test_a_full_project_holds_up_no_other() -> None:
    topics = [one(1, "open"), one(2, "ending"), one(3, "waiting"), one(4, "waking", project="api")]
    assert names(can_begin(topics, LIMITS)) == ["api-4"]
    assert place_in_line(topics, LIMITS, topics[3]) is None
    assert place_in_line(topics, LIMITS, topics[2]) == 0


def test_a_full_fleet_holds_up_everybody_in_order() -> None:
    topics = [one(1, "open"), one(2, "open"), one(3, "open", project="api")]
    topics += [one(4, "waiting", project="api"), one(5, "waking")]
    assert can_begin(topics, LIMITS) == []
    assert place_in_line(topics, LIMITS, topics[4]) == 1


def test_one_that_cannot_begin_lets_the_next_one_go() -> None:
    topics = [one(1, "open"), one(2, "waiting"), one(3, "waiting")]
    assert names(can_begin(topics, LIMITS, not_now={"web2"})) == ["web-3"]


def test_a_topic_of_a_project_that_is_gone_comes_up_and_is_not_kept_waiting() -> None:
    assert names(can_begin([one(1, "waiting", project="gone")], LIMITS)) == ["gone-1"]


def test_the_longest_idle_makes_room_for_one_that_waits_after_a_minute() -> None:
    since = {"web1": 100.0, "web2": 50.0}
    topics = [one(1, "open"), one(2, "open"), one(3, "waiting")]
    assert names(idle_ones(topics, LIMITS, lambda each: since.get(each.id), 105.0)) == []
    assert names(idle_ones(topics, LIMITS, lambda each: since.get(each.id), 120.0)) == ["web-2"]
    assert names(idle_ones(topics[:2], LIMITS, lambda each: since.get(each.id), 120.0)) == []
    assert names(idle_ones(topics[:2], LIMITS, lambda each: since.get(each.id), 700.0)) == ["web-2", "web-1"]


def test_a_busy_topic_makes_no_room() -> None:
    topics = [one(1, "open"), one(2, "open"), one(3, "waiting")]
    assert idle_ones(topics, LIMITS, lambda _: None, 10_000.0) == []


def test_news_of_agents_matter_while_a_topic_ends_or_waits_for_a_place() -> None:
    idle = [one(1, "open"), one(2, "idle")]
    assert not wait_for_agents(idle, [])
    assert wait_for_agents([*idle, one(3, "ending")], [])
    waiting = one(3, "waiting")
    assert wait_for_agents([*idle, waiting], [])
    assert not wait_for_agents([*idle, waiting], [waiting])
