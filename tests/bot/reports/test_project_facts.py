"""Reports tell of each project what its topics used and became, and what is left of its budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.read_models.limits import UsageRow
from bot.reports import text as wording
from bot.reports.commands_service import facts_json
from bot.reports.model import BudgetLeft, ProjectFacts, ReportFacts
from database.engine.store import Store
from database.queries.chat import topics
from database.queries.chat.topics import Topic
from tests.bot.reports.poster import SETUP, ZONE, Newsroom, at, window

SETTINGS = """\
schedules: {daily: '0 9 * * *'}
projects:
  web: {repo: /srv/web, budget: [{tokens: 2M, window: day}, {usd: 50}]}
  api: {repo: /srv/api}
"""
DAY = 86_400.0


@pytest.fixture
def room(store: Store, tmp_path: Path) -> Newsroom:
    """Since eight in the morning of Monday, the 23rd of November 2026, in Vienna."""
    return Newsroom(store, tmp_path, settings=SETTINGS, started_at=at("2026-11-23 08:00"))


async def add(room: Newsroom, number: int, opened: str, *, project: str = "web", **said: Any) -> None:
    """A topic that was opened then."""
    moment = at(opened)
    ended = at(said.pop("ended")) if "ended" in said else None
    plain = Topic(
        id=f"{project}{number}", project=project, number=number, agent=f"{project}-{number}", title="mend it",
        connector="matrix", room="!web:example.org", thread_key=f"th/{project}{number}", asked_by="matrix:@ana",
        state="open" if ended is None else "ended", queued_at=moment, active_at=moment, created_at=moment,
        ended_at=ended,
    )  # fmt: skip
    async with room.store.write(SETUP) as tx:
        await topics.add(tx, replace(plain, **said))


class Egress:
    """As much of it as reports ask."""

    def behind(self) -> None:
        return None

    async def standing(self) -> dict[str, Any]:
        limit = {
            "kind": "pool", "scope": "profile:project-web", "agent": None, "account": None, "unit": "usd",
            "window": None, "limit": 50.0, "used": 12.5, "reserved": 0.5, "policy": "cutoff",
        }  # fmt: skip
        return {"limits": [limit, {**limit, "scope": "host"}], "quotas": []}


async def test_a_daily_report_tells_of_each_project(room: Newsroom) -> None:
    await room.spend(1, "2026-11-22 10:00", agent="web-1", profile="project-web", input_tokens=1_200_000, usd=3.2)
    await room.spend(2, "2026-11-22 11:00", agent="web-2", profile="project-web", input_tokens=300_000, usd=0.8)
    await room.spend(3, "2026-11-22 11:00", agent="coder0", profile="none", input_tokens=9_000_000, usd=9.0)
    await room.spend(4, "2026-11-21 11:00", agent="web-1", profile="project-web", input_tokens=7_000_000, usd=9.0)
    await add(room, 1, "2026-11-20 09:00", outcome="merge", ended="2026-11-22 12:00")
    await add(room, 2, "2026-11-22 09:00", outcome="keep", ended="2026-11-22 13:00")
    await add(room, 3, "2026-11-22 09:30", ended="2026-11-22 09:40")
    await add(room, 4, "2026-11-22 10:00")
    await add(room, 5, "2026-11-22 10:00", state="waiting")
    await add(room, 6, "2026-11-19 10:00", outcome="discard", ended="2026-11-21 12:00")
    begin = at("2026-11-23 00:00")
    room.board.put(
        window(
            "profile:project-web/tokens/day", unit="tokens", limit=2_000_000.0, used=500_000.0, begins_at=begin,
            resets_at=begin + DAY, length_s=DAY, used_at=begin, certainty="provider",
        )
    )  # fmt: skip
    room.services.egress_client = Egress()
    await room.sweep("2026-11-23 09:00")
    (text,) = await room.posted()
    assert "**Projects**" in text
    web, api = (line for line in text.splitlines() if line.startswith(("- **web**", "- **api**")))
    assert web == (
        "- **web**: 1.5M tokens, $4.00. Topics: 4 opened, 1 merged, 1 kept, 1 closed, 1 waiting now. "
        "Left: 1.5M of 2M a day, $37.00 of $50.00."
    )
    assert api == "- **api**: nothing spent."


async def test_a_project_that_was_removed_is_told_of_while_it_did_something(room: Newsroom) -> None:
    await room.spend(1, "2026-11-22 10:00", agent="old-1", profile="project-old", input_tokens=1_000, usd=None)
    await room.sweep("2026-11-23 09:00")
    (text,) = await room.posted()
    assert "- **old**: 1k tokens, ?." in text
    # The egress does not run, so that nobody knows what is left.
    assert "- **web**: nothing spent. Left: ? of $50.00." in text


async def test_without_projects_nothing_is_said_of_them(store: Store, tmp_path: Path) -> None:
    room = Newsroom(store, tmp_path, settings="schedules: {daily: '0 9 * * *'}\n", started_at=at("2026-11-23 08:00"))
    await room.spend(1, "2026-11-22 10:00", agent="coder0", profile="none")
    await room.sweep("2026-11-23 09:00")
    (text,) = await room.posted()
    assert "Projects" not in text


def test_programs_get_the_scope_as_commands_take_it() -> None:
    project = ProjectFacts(
        name="web", spent=UsageRow(by="project", name="web", requests=2, tokens=1_500, usd=0.25), opened=3,
        ended={"merge": 2}, waiting=1,
        budget=[BudgetLeft(unit="tokens", window="day", limit=2e6, used=5e5, left=1.5e6, resets_at=0.0)],
    )  # fmt: skip
    facts = ReportFacts(kind="weekly", now=0.0, zone=ZONE, begin=0.0, end=1.0, projects=[project])
    (told,) = facts_json(facts)["projects"]
    assert told == {
        "project": "web", "scope": "project:web", "requests": 2, "tokens": 1_500, "usd": 0.25, "estimated": 0,
        "topics": {"opened": 3, "merged": 2, "kept": 0, "discarded": 0, "closed": 0, "waiting": 1},
        "budget": [
            {
                "unit": "tokens", "window": "day", "limit": 2e6, "used": 5e5, "remaining": 1.5e6,
                "reset_at": "1970-01-01T00:00:00.000Z",
            }
        ],
    }  # fmt: skip
    many = replace(facts, projects=[replace(project, name=f"p{number}") for number in range(15)])
    assert "- 3 more: " in wording.report(many)
