"""What befalls a fleet in a week, as its operator sees it: the same story in any room.

A plan grants ten million tokens in seven days, six of them to the large model. On the first morning somebody asks for
more than the pace allows; in the last evening a turn uses up what is left.
"""

from __future__ import annotations

import json
import re
from typing import Any

from database.queries import tasks
from fleet.sim.provider.quota_headers import SimQuota
from tests.week.simulated_clock import Week

OPUS = "claude-opus-4-5"
LIMITS = SimQuota(
    tokens_per_five_hours=20_000_000, tokens_per_week=10_000_000, families={"opus": 6_000_000}, refuses=True
)
#: A login of a plan, as it looks; the windows of a plan are told to such alone.
KEY = "sk-ant-oat01-test-not-a-real-token"
ROSTER = f"""\
preset: minimal
agents:
  - {{name: coder0, role: coder, runtime: sim, sandbox: none, model: {OPUS}}}
  - {{name: coder1, role: coder, runtime: sim, sandbox: none, model: {OPUS}}}
"""
DONE = f"[[tool: mcp__muster__task_done {json.dumps({'status': 'done', 'summary': 'It works now.'})}]]"
#: Weighted tokens that each of the tasks uses, and how many there are.
EACH, TASKS = 200_000, 8


def settings(daily: str = "0 9 * * *") -> dict[str, Any]:
    """muster.yaml, but for the connectors, operators and accounts."""
    return {
        "timezone": "Europe/Vienna",
        # Agents are heard by the machine's clock; on ours a day may go by between two heartbeats.
        "agents": {"runtime": "sim", "sandbox": "none", "heartbeat": "1s", "freshness": "30d"},
        "pacing": {"ladder": ["opus", "sonnet"], "stagger": "1s"},
        "dispatch": {"start_agents": False},
        "schedules": {"daily": daily},
    }


async def live(week: Week) -> None:
    """A week, from its first morning to the morning after its last day. Asserts what the operator is to see."""
    await _good_morning(week)
    await _a_queue_forms(week)
    await _a_session_starts_smaller(week)
    await _an_admin_lets_it_go_faster(week)
    await _a_queue_dissolves(week)
    await _quiet_days(week)
    await _an_agent_stops_and_goes_on(week)


async def live_a_day(week: Week) -> None:
    """The first day, to the morning after it."""
    await _good_morning(week)
    await _a_queue_forms(week)
    before = await _waiting(week)
    await week.advance_to(1, 9.01)
    assert await _waiting(week) < before
    told = await week.room.heard("waits. The window 7d")
    assert "is used evenly" in told
    assert "!budget authorize account:main" in told


async def _good_morning(week: Week) -> None:
    room = week.room
    await room.ask("!launch coder0")
    await room.heard("Ready")
    await room.say("[[cache: 0 20000]][[say: good morning]]", "coder0")
    await room.heard("good morning")


async def _a_queue_forms(week: Week) -> None:
    room = week.room
    await week.advance_to(0, 9.5)
    assert "guess" in await room.ask("!estimate 'Mend a part.' --role coder")
    answers = [
        await room.ask(f"!task add 'Mend part {n}. [[cache: 0 {EACH}]]{DONE}[[say: over]]' --role coder")
        for n in range(TASKS)
    ]
    assert "goes to coder0" in answers[0], answers
    assert all("is queued" in answer for answer in answers[1:])
    await week.quiet()
    await week.advance_to(0, 9.6)
    shown = await room.ask("!tasks")
    assert f"{TASKS - 1} queued" in shown
    assert re.search(r"queued: pace until \d\d:\d\d", shown), shown


async def _a_session_starts_smaller(week: Week) -> None:
    """While what is used of the large model's window is at its line."""
    room = week.room
    await room.ask("!launch coder1 --task '[[say: hello from below]]'")
    told = await room.heard("It starts with `sim:sonnet` instead of `claude-opus-4-5`")
    assert "7d_opus" in told, told
    await room.heard("hello from below")
    models = [entry.model for entry in week.models.ledger.entries if "hello from below" in entry.text]
    assert models == ["sonnet"]
    await week.quiet()


async def _an_admin_lets_it_go_faster(week: Week) -> None:
    room = week.room
    await week.advance_to(0, 15)
    before = await _waiting(week)
    said = await room.ask("!budget authorize account:main 6% --for 2h")
    assert "account:main" in said
    await week.quiet()
    await week.orchestrator.services.dispatcher.look()
    await week.quiet()
    assert await _waiting(week) < before, said
    await week.advance_to(0, 17.1)
    await room.heard("authorized for `account:main` (6%) is ")


async def _a_queue_dissolves(week: Week) -> None:
    room = week.room
    counts = [await _waiting(week)]
    for day in (1, 2, 3):
        await week.advance_to(day, 9.01)
        counts.append(await _waiting(week))
    assert counts == sorted(counts, reverse=True), counts
    assert counts[0] > 0 == counts[-1], counts
    told = await room.heard("waits. The window 7d")
    assert "is used evenly" in told
    assert re.search(r"It runs about \d\d:\d\d \(Europe/Vienna\)", told), told
    assert "!budget authorize account:main" in told
    assert "No task waits" in await room.ask("!tasks")
    estimate = await room.ask("!estimate 'Mend a part.' --role coder")
    assert f"By {TASKS} ended tasks (role coder, kind task)." in estimate
    assert re.search(rf"Of {TASKS} past estimates, \d+ held", estimate), estimate


async def _quiet_days(week: Week) -> None:
    """A little is done each morning, so that what providers say of their windows is not out of date in reports."""
    for day in (3, 4, 5, 6):
        await week.advance_to(day, 8.5 if day > 3 else 9.5)
        await week.room.say(f"[[cache: 0 50000]][[say: good morning on day {day}]]", "coder0")
        await week.room.heard(f"good morning on day {day}")


async def _an_agent_stops_and_goes_on(week: Week) -> None:
    room = week.room
    await week.advance_to(6, 20)
    assert "idle" in await room.ask("!ps")
    await room.say("[[cache: 0 9000000]][[tool: mcp__muster__ps {}]][[say: all of it]]", "coder0")
    assert "nothing left until its window begins anew" in await room.heard("The turn failed")
    told = await room.heard("It stopped at a limit")
    assert "It goes on by itself at about 02:00 (Europe/Vienna)" in told
    await week.advance_to(7, 1.9)
    await room.heard("**99%** of `main 7d")
    assert not [text for text in await room.texts() if "it goes on" in text]
    await week.advance_to(7, 9.01)
    await room.heard("The limit is over: it goes on.")
    # The new window has begun, and what was asked for last is of it.
    assert week.models.ledger.entries[-1].at >= week.at(7, 2)
    assert week.models.ledger.entries[-1].status == 200
    await week.quiet()


async def _waiting(week: Week) -> int:
    async with week.orchestrator.store.read() as tx:
        return (await tasks.counts(tx))["queued"]


async def daily_reports(week: Week) -> list[str]:
    """The days that daily reports tell of, as they were posted; of each there is one, and none is odd."""
    found = [text for text in await week.room.texts() if "**Daily report**" in text]
    days = [text.partition("**Daily report**, ")[2].partition("\n")[0] for text in found]
    assert len(set(days)) == len(days), days
    for text in found:
        assert "unified" not in text, "that is a word on all windows together"
        assert "did not answer" not in text
        assert "late" not in text
    return days
