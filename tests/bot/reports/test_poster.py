"""Reports come when they are due, once, and say so when they come late."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from bot.messaging.bridge import Bridge
from bot.messaging.composer import MessagePlace
from bot.pacing import window_series
from bot.reports import poster
from connectors.contract.messages import Capabilities
from core.redaction import SecretMasker
from database.engine.store import Store
from database.queries.operations import posted_reports, restored_backup
from database.queries.spending import usage_queries
from database.schema import findings, outbox, tasks
from database.schema import restores as restores_table
from scheduler.jobs import JobRecord, Jobs
from tests.bot.reports.poster import ROOM, SETUP, Newsroom, at, window

DAILY = "schedules: {daily: '0 9 * * *'}\n"
QUIET = "schedules: {daily: '0 6 * * *', quiet: {from: '22:00', to: '07:00'}}\n"
DAY = 86_400.0
#: Of a request that used none of them.
TOKENS = dict.fromkeys(usage_queries.TOKENS, 0)


@pytest.fixture
def room(store: Store, tmp_path: Path) -> Newsroom:
    """Since eight in the morning of Monday, the 23rd of November 2026, in Vienna."""
    return Newsroom(store, tmp_path, settings=DAILY, started_at=at("2026-11-23 08:00"))


async def test_a_daily_report_tells_of_yesterday_by_agent_and_task(room: Newsroom) -> None:
    await room.spend(1, "2026-11-22 00:30", agent="coder0", task="ab12cd34", input_tokens=4_000_000, usd=6.0)
    await room.spend(2, "2026-11-22 23:30", agent="coder1", input_tokens=1_000_000, usd=None)
    await room.spend(3, "2026-11-23 00:30", agent="tomorrow")
    await room.spend(4, "2026-11-21 23:30", agent="before")
    await room.sweep("2026-11-23 08:59")
    assert await room.posted() == []
    await room.sweep("2026-11-23 09:00")
    (text,) = await room.posted()
    assert "**Daily report**, Sun 22 Nov" in text
    assert "5M tokens, ?, in 2 requests" in text
    assert "| coder0 | 4M | $6.00 |" in text
    assert "| coder1 | 1M | ? |" in text
    assert "`ab12cd34`" in text
    assert "tomorrow" not in text
    assert "before" not in text
    assert "Due" not in text


async def test_it_comes_once_however_often_it_is_looked(room: Newsroom, store: Store, tmp_path: Path) -> None:
    for minute in range(5):
        await room.sweep(f"2026-11-23 09:{minute:02}")
    again = Newsroom(store, tmp_path, settings=DAILY, started_at=at("2026-11-23 09:06"))
    await again.sweep("2026-11-23 09:06")
    assert len(await room.posted()) == 1
    await again.sweep("2026-11-24 09:00")
    assert len(await room.posted()) == 2


async def test_one_that_is_late_says_since_when_and_why(room: Newsroom, store: Store, tmp_path: Path) -> None:
    await room.sweep("2026-11-23 08:30")
    later = Newsroom(store, tmp_path, settings=DAILY, started_at=at("2026-11-23 11:19"))
    await later.sweep("2026-11-23 11:20")
    (text,) = await later.posted()
    assert "Due 09:00, posted 11:20, since Muster was down." in text


async def test_a_process_that_was_there_and_could_not_post_does_not_say_that_it_was_down(room: Newsroom) -> None:
    await room.sweep("2026-11-23 08:30")
    await room.sweep("2026-11-23 11:20")
    (text,) = await room.posted()
    assert "Due 09:00, posted 11:20, since Muster could not post it before." in text


async def test_five_that_were_missed_are_one(room: Newsroom, store: Store, tmp_path: Path) -> None:
    await room.sweep("2026-11-23 09:00")
    await room.spend(1, "2026-11-24 12:00", agent="coder0", input_tokens=7_000_000)
    later = Newsroom(store, tmp_path, settings=DAILY, started_at=at("2026-11-28 12:00"))
    for minute in range(3):
        await later.sweep(f"2026-11-28 12:{minute:02}")
    _, text = await later.posted()
    assert "**Daily report**, Mon 23 Nov to Fri 27 Nov" in text, "no day is left out"
    assert "4 before it were missed" in text
    assert "| coder0 | 7M |" in text


async def test_what_was_due_before_it_was_ever_set_is_not_posted(room: Newsroom) -> None:
    await room.schedule("weekly", "0 8 * * *", set_at="2026-11-23 09:30")
    await room.sweep("2026-11-23 09:31")
    assert [text.split("**")[1] for text in await room.posted()] == ["Daily report"]
    await room.sweep("2026-11-24 08:00")
    assert [text.split("**")[1] for text in await room.posted()] == ["Daily report", "Weekly report"]


async def test_another_time_makes_what_was_due_by_it_no_late_report(room: Newsroom) -> None:
    await room.sweep("2026-11-23 09:00")
    await room.schedule("daily", "0 8 * * *", set_at="2026-11-23 12:00")
    await room.sweep("2026-11-23 12:01")
    assert len(await room.posted()) == 1


async def test_another_time_leaves_no_day_out(room: Newsroom) -> None:
    await room.schedule("daily", "0 9 * * mon-fri", set_at="2026-11-23 08:30")
    await room.sweep("2026-11-27 09:00")
    await room.schedule("daily", "0 10 * * mon-fri", set_at="2026-11-27 12:00")
    await room.sweep("2026-11-30 10:00")
    text = (await room.posted())[-1]
    assert "**Daily report**, Fri 27 Nov to Sun 29 Nov" in text
    assert "missed" not in text


async def test_what_was_off_for_long_begins_with_yesterday(room: Newsroom) -> None:
    await room.sweep("2026-11-23 09:00")
    await room.schedule("daily", "", set_at="2026-11-23 10:00")
    await room.sweep("2026-11-24 09:00")
    await room.schedule("daily", "0 9 * * *", set_at="2026-12-14 12:00")
    await room.sweep("2026-12-15 09:00")
    assert "**Daily report**, Mon 14 Dec\n" in (await room.posted())[-1]


async def test_what_a_command_set_a_moment_before_it_is_due_comes(room: Newsroom) -> None:
    await room.schedule("daily", "45 8 * * *", set_at="2026-11-23 08:44")
    await room.sweep("2026-11-23 08:45")
    assert len(await room.posted()) == 1


async def test_what_is_off_is_not_posted(room: Newsroom) -> None:
    await room.schedule("daily", "", set_at="2026-11-23 08:30")
    await room.sweep("2026-11-23 09:00")
    assert await room.posted() == []


async def test_a_schedule_keeps_the_zone_in_which_it_was_set(room: Newsroom) -> None:
    await room.schedule("daily", "0 9 * * *", set_at="2026-11-23 08:30", zone=ZoneInfo("America/New_York"))
    await room.sweep("2026-11-23 09:00")
    assert await room.posted() == []
    await room.sweep("2026-11-23 15:00")
    assert len(await room.posted()) == 1


# --- quiet hours -------------------------------------------------------------------------------------------------


async def test_what_is_due_in_quiet_hours_comes_at_their_end(store: Store, tmp_path: Path) -> None:
    room = Newsroom(store, tmp_path, settings=QUIET, started_at=at("2026-11-22 12:00"))
    for moment in ("2026-11-22 12:01", "2026-11-23 06:00", "2026-11-23 06:59"):
        await room.sweep(moment)
    assert await room.posted() == []
    await room.sweep("2026-11-23 07:00")
    (text,) = await room.posted()
    assert "Due 06:00, in quiet hours." in text
    assert "down" not in text


@pytest.mark.parametrize(
    ("night", "before", "after"),
    [
        # Clocks go forward at two, and back at three, in Vienna.
        ("the shorter one", "2026-03-29 06:59", "2026-03-29 07:00"),
        ("the longer one", "2026-10-25 06:59", "2026-10-25 07:00"),
    ],
)
async def test_quiet_hours_end_by_the_clock_on_the_wall(
    store: Store, tmp_path: Path, night: str, before: str, after: str
) -> None:
    del night
    room = Newsroom(store, tmp_path, settings=QUIET, started_at=at(before) - DAY)
    await room.sweep(at(before) - DAY + 60)
    await room.sweep(before)
    told = len(await room.posted())
    await room.sweep(after)
    assert len(await room.posted()) == told + 1


# --- a clock that is wrong ---------------------------------------------------------------------------------------


async def test_a_clock_that_jumps_a_year_ahead_and_back_posts_one_and_goes_on(room: Newsroom) -> None:
    await room.sweep("2026-11-23 09:00")
    await room.sweep("2027-11-25 12:00")
    await room.sweep("2027-11-25 12:01")
    assert len(await room.posted()) == 2, "one late report"
    await room.sweep("2026-11-23 12:02")
    assert len(await room.posted()) == 2, "none is due twice"
    await room.sweep("2026-11-24 09:00")
    assert len(await room.posted()) == 3, "days that were skipped are not skipped"


async def test_a_clock_that_jumps_a_year_back_posts_nothing_of_the_past(room: Newsroom) -> None:
    await room.sweep("2026-11-23 09:00")
    await room.sweep("2025-11-23 12:00")
    assert len(await room.posted()) == 1
    await room.sweep("2026-11-23 12:01")
    assert len(await room.posted()) == 1, "what was posted stays posted"


async def test_a_schedule_that_was_first_seen_in_a_wrong_year_holds_in_the_right_one(
    store: Store, tmp_path: Path
) -> None:
    ahead = Newsroom(store, tmp_path, settings=DAILY, started_at=at("2027-11-23 08:00"))
    await ahead.sweep("2027-11-23 08:01")
    await ahead.sweep("2026-11-23 12:00")
    assert await ahead.posted() == [], "nothing of the days before"
    await ahead.sweep("2026-11-24 09:00")
    assert len(await ahead.posted()) == 1


# --- after a restore ---------------------------------------------------------------------------------------------


async def test_what_was_due_before_a_backup_was_put_back_is_not_posted_again(room: Newsroom) -> None:
    await room.sweep("2026-11-23 08:30")
    # The register of eight o'clock comes back at noon: nine's report was posted, and it does not know that.
    moments = {"restored_at": at("2026-11-23 12:00"), "backup_at": at("2026-11-23 08:31")}
    await room.insert(restores_table, id="r1", **moments)
    async with room.store.read() as tx:
        assert await restored_backup.last(tx) == moments["restored_at"]
    await room.sweep("2026-11-23 12:01")
    assert await room.posted() == []
    await room.sweep("2026-11-24 09:00")
    assert len(await room.posted()) == 1


# --- what stands in them -----------------------------------------------------------------------------------------


async def test_who_was_down_is_told_also_when_it_is_over(room: Newsroom) -> None:
    down = {"kind": "silent", "agent": "coder1", "cause": "", "event": "w/1", "told_at": 0.0, "tells": 1}
    await room.insert(findings, key="silent/coder1", found_at=at("2026-11-22 14:02"), **down)
    await room.sweep("2026-11-22 14:03")
    await room.sweep("2026-11-22 14:14")
    async with room.store.write(SETUP) as tx:
        await tx.execute(findings.delete())
    await room.sweep("2026-11-22 14:20")
    await room.sweep("2026-11-23 09:00")
    text = (await room.posted())[-1]
    assert "**coder1** did not answer from Sun 22 Nov 14:02 for 12 min" in text
    assert "still" not in text


async def test_who_came_back_after_midnight_is_not_down_still(room: Newsroom) -> None:
    down = {"kind": "silent", "agent": "coder1", "cause": "", "event": "w/1", "told_at": 0.0, "tells": 1}
    await room.insert(findings, key="silent/coder1", found_at=at("2026-11-22 23:30"), **down)
    for moment in ("2026-11-22 23:30", "2026-11-23 00:10"):
        await room.sweep(moment)
    async with room.store.write(SETUP) as tx:
        await tx.execute(findings.delete())
    await room.sweep("2026-11-23 09:00")
    text = (await room.posted())[-1]
    assert "**coder1** did not answer from Sun 22 Nov 23:30 for 40 min" in text
    assert "still" not in text


async def test_who_was_down_is_told_with_why(room: Newsroom) -> None:
    """As it was first said: what is said later counts the minutes, and is the same event."""
    down = {"kind": "silent", "agent": "coder1", "event": "w/1", "told_at": 0.0, "tells": 1}
    begun = {"key": "silent/coder1", "found_at": at("2026-11-22 14:02")}
    for minute in (2, 3, 4):
        async with room.store.write(SETUP) as tx:
            await tx.execute(findings.delete())
        await room.insert(findings, cause=f"exec /bin/`x` [a](//b)\n| {minute} min", **begun, **down)
        await room.sweep(f"2026-11-22 14:{minute:02}")
    async with room.store.write(SETUP) as tx:
        await tx.execute(findings.delete())
    await room.sweep("2026-11-23 09:00")
    (line,) = [line for line in (await room.posted())[-1].splitlines() if "coder1" in line]
    assert line.endswith("for 2 min: ``exec /bin/`x` [a](//b) | 2 min``")


async def test_who_is_down_still_is_told_so(room: Newsroom) -> None:
    down = {"kind": "silent", "agent": "coder1", "cause": "", "event": "w/1", "told_at": 0.0, "tells": 1}
    await room.insert(findings, key="silent/coder1", found_at=at("2026-11-22 23:30"), **down)
    await room.sweep("2026-11-23 09:00")
    assert "from Sun 22 Nov 23:30 for 10 h, still" in (await room.posted())[-1]


async def test_windows_are_told_against_their_lines(room: Newsroom) -> None:
    room.board.put(window(used=0.4))
    await room.sweep("2026-11-26 09:00")
    (text,) = await room.posted()
    assert "| 🟢 main 7d | 40% | 48.2% |" in text


async def test_the_picture_follows_the_text_where_files_can_be_sent(room: Newsroom) -> None:
    room.board.put(window(used=0.4))
    room.canvas.png = b"\x89PNG\r\n\x1a\n"
    await room.sweep("2026-11-26 09:00")
    (picture,) = await room.pictures()
    assert picture.media_type == "image/png"
    assert len(await room.posted()) == 1
    assert room.canvas.figures[0].panels[0].title == "main 7d"


async def test_what_is_posted_is_posted_in_the_rooms_that_mirror_the_main_one_as_each_can_show_it(
    room: Newsroom,
) -> None:
    places = [MessagePlace(name, conversation=f"{name}'s") for name in ("discord", "pane")]
    room.services.bridge = Bridge(rooms=(MessagePlace("matrix", conversation=ROOM), *places))
    plain = room.services.capabilities("matrix")
    room.services.capabilities = lambda name: Capabilities() if name == "pane" else plain
    room.board.put(window(used=0.4))
    room.canvas.text, room.canvas.png = "drawn in letters", b"\x89PNG\r\n\x1a\n"
    await room.sweep("2026-11-26 09:00")
    await room.sweep("2026-11-26 09:01")
    first, second, third = await room.posted()
    assert first == second
    assert third.startswith(first)
    assert "drawn in letters" in third
    assert len(await room.pictures()) == 2
    assert len(room.canvas.figures) == 2, "two rooms share a picture"


async def test_without_a_picture_the_text_goes_out_alone(room: Newsroom) -> None:
    room.board.put(window(used=0.4))
    await room.sweep("2026-11-26 09:00")
    assert len(room.canvas.figures) == 1
    assert await room.pictures() == []
    assert len(await room.posted()) == 1


@pytest.mark.parametrize("can", [Capabilities(), Capabilities(files=True, pictures=False)])
async def test_where_nobody_sees_pictures_they_are_drawn_in_letters(room: Newsroom, can: Capabilities) -> None:
    room.services.capabilities = lambda _: can
    room.board.put(window(used=0.4))
    room.canvas.text, room.canvas.png = "drawn in letters", b"\x89PNG\r\n\x1a\n"
    await room.sweep("2026-11-26 09:00")
    (text,) = await room.posted()
    assert "drawn in letters" in text
    assert await room.pictures() == []


async def test_it_goes_to_the_room_that_is_set(store: Store, tmp_path: Path) -> None:
    settings = "schedules: {daily: '0 9 * * *', room: 'matrix:!news:example.org'}\n"
    room = Newsroom(store, tmp_path, settings=settings, started_at=at("2026-11-23 08:00"))
    await room.sweep("2026-11-23 09:00")
    async with store.read() as tx:
        rooms = list((await tx.execute(select(outbox.c.conversation))).scalars())
    assert rooms == ["!news:example.org"] != [ROOM]


# --- crossings ---------------------------------------------------------------------------------------------------


async def crossings(room: Newsroom) -> list[str]:
    return [line for text in await room.posted() for line in text.splitlines() if "are used" in line]


async def test_each_share_of_a_window_is_told_once(room: Newsroom) -> None:
    for used in (0.5, 0.8, 0.82, 0.96, 0.955, 0.99, 1.0):
        room.board.put(window(used=used))
        await room.sweep("2026-11-23 08:30")
    assert [line.split("**")[1] for line in await crossings(room)] == ["80%", "95%", "99%"]


async def test_they_are_told_again_in_the_next_window_and_not_after_a_jitter_of_its_reset(room: Newsroom) -> None:
    room.board.put(window(used=0.85))
    await room.sweep("2026-11-29 12:00")
    room.board.put(replace(window(used=0.86), resets_at=at("2026-11-30 00:01")))
    await room.sweep("2026-11-30 00:00:30")
    assert len(await crossings(room)) == 1
    room.board.put(replace(window(used=0.85), resets_at=at("2026-12-07 00:00")))
    await room.sweep("2026-11-30 12:00")
    assert len(await crossings(room)) == 2


async def test_what_a_provider_puts_right_and_says_again_is_told_once(room: Newsroom) -> None:
    for used in (0.99, 0.85, 0.60, 0.96, 1.0):
        room.board.put(window(used=used))
        await room.sweep("2026-11-23 08:30")
    assert [line.split("**")[1] for line in await crossings(room)] == ["99%"]
    for used in (0.02, 0.83):
        room.board.put(window(used=used))
        await room.sweep("2026-11-23 08:31")
    assert [line.split("**")[1] for line in await crossings(room)] == ["99%", "80%"], "it began anew before its time"


async def test_a_limit_that_was_raised_a_little_tells_nothing_of_what_is_passed_already(room: Newsroom) -> None:
    tokens: dict[str, Any] = {"key": "host/tokens/day", "scope": "host", "unit": "tokens"}
    for used, limit in ((990.0, 1000.0), (990.0, 1150.0), (1140.0, 1150.0)):
        room.board.put(window(**tokens, used=used, limit=limit))
        await room.sweep("2026-11-23 08:30")
    assert [line.split("**")[1] for line in await crossings(room)] == ["99%", "99%"]


async def test_a_limit_that_was_raised_is_told_when_it_is_passed(room: Newsroom) -> None:
    tokens: dict[str, Any] = {"key": "host/tokens/day", "scope": "host", "unit": "tokens", "used": 950.0}
    for limit in (1000.0, 2000.0):
        room.board.put(window(**{**tokens, "limit": limit}))
        await room.sweep("2026-11-23 08:30")
    room.board.put(window(**{**tokens, "limit": 2000.0, "used": 1700.0}))
    await room.sweep("2026-11-23 08:31")
    assert [line.split("**")[1] for line in await crossings(room)] == ["95%", "80%"]


async def test_a_use_that_is_not_known_passes_nothing(room: Newsroom) -> None:
    room.board.put(window(used=0.85))
    await room.sweep("2026-11-23 08:30")
    room.board.put(window(used=None))
    await room.sweep("2026-11-23 08:31")
    room.board.put(window(used=0.85))
    await room.sweep("2026-11-23 08:32")
    assert len(await crossings(room)) == 1


async def test_in_quiet_hours_only_what_stops_everything_is_told_and_the_rest_at_their_end(
    store: Store, tmp_path: Path
) -> None:
    room = Newsroom(store, tmp_path, settings=QUIET, started_at=at("2026-11-23 12:00"))
    room.board.put(window("account:main/7d", used=0.91))
    await room.sweep("2026-11-23 23:00")
    assert await crossings(room) == []
    room.board.put(window("account:other/7d", used=0.995))
    await room.sweep("2026-11-24 02:00")
    assert ["other" in line for line in await crossings(room)] == [True]
    await room.sweep("2026-11-24 07:00")
    assert ["90%" in line for line in await crossings(room)] == [False, True]


async def test_crossings_can_be_switched_off(room: Newsroom) -> None:
    await room.schedule("budget", "", set_at="2026-11-23 08:00")
    room.board.put(window(used=0.99))
    await room.sweep("2026-11-23 08:30")
    assert await room.posted() == []


async def test_a_weekly_report_says_which_role_will_use_how_much(room: Newsroom) -> None:
    budget: dict[str, Any] = {
        "key": "host/tokens/week",
        "scope": "host",
        "unit": "tokens",
        "limit": 1_000_000.0,
        "used": 600_000.0,
    }
    room.board.put(window(**budget))
    await room.schedule("weekly", "0 0 * * fri", set_at="2026-11-23 08:00")
    for day in range(16, 27):
        for seq, (role, used) in enumerate((("coder", 60_000), ("review", 20_000))):
            said = TOKENS | {"input_tokens": used}
            await room.spend(10 * day + seq, f"2026-11-{day} 10:10", role=role, **said)
    await room.sweep("2026-11-27 00:00")
    (text,) = [each for each in await room.posted() if "Weekly" in each]
    (line,) = [line for line in text.splitlines() if "at this rate" in line]
    # What is left are a Friday and a weekend.
    shares = dict(re.findall(r"(coder|review) ([\d.]+)%", line))
    assert line.startswith("Until `host week` resets, at this rate: coder ")
    assert float(shares["coder"]) == pytest.approx(3 * float(shares["review"]), abs=2)
    assert float(shares["coder"]) > 5


@pytest.mark.parametrize(("module", "name"), [(window_series, "gather_windows"), (poster, "figure_of")])
async def test_a_fault_in_what_is_drawn_costs_the_picture_alone(
    room: Newsroom, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    monkeypatch.setattr(module, name, None)
    room.board.put(window(used=0.995))
    await room.sweep("2026-11-23 08:30")
    assert [line.split("**")[1] for line in await crossings(room)] == ["99%"]


async def test_half_of_a_secret_is_not_told_either(room: Newsroom) -> None:
    secret = "correct horse battery staple"
    room.services.redact = SecretMasker(known=frozenset({secret}))
    task = {
        "kind": "", "urgency": "normal", "lane": "x", "operator": "matrix:@ana", "attachments": [], "attempt": 0,
        "retries": 0, "created_at": 0.0, "updated_at": 0.0, "tenant_id": "", "host": "", "state": "queued",
    }  # fmt: skip
    await room.insert(tasks, id="ab12cd34", text=f"Log in at the shop with the passphrase {secret}, please", **task)
    await room.sweep("2026-11-23 09:00")
    (text,) = await room.posted()
    assert "`Log in at the shop with the passphrase" in text
    assert "correct" not in text


async def test_the_curve_shows_when_it_was_used(room: Newsroom) -> None:
    """And ends where the window stands, whoever else used some of it."""
    budget: dict[str, Any] = {
        "key": "host/tokens/week",
        "scope": "host",
        "unit": "tokens",
        "limit": 1000.0,
        "used": 600.0,
    }
    room.board.put(window(**budget))
    await room.spend(1, "2026-11-24 10:10", **TOKENS | {"input_tokens": 100})
    await room.spend(2, "2026-11-25 10:10", **TOKENS | {"input_tokens": 200})
    await room.sweep("2026-11-26 09:00")
    (panel,) = room.canvas.figures[0].panels
    hours = [(round(at / 3600), round(share)) for at, share in panel.used]
    assert hours == [(0, 0), (34, 0), (35, 20), (58, 20), (59, 60), (81, 60)]


async def test_one_kind_that_fails_keeps_no_other_from_being_posted(
    room: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a fault of ours would, in what the first kind is made of."""
    monkeypatch.setattr(posted_reports, "waiting_first", None)
    await room.schedule("fleet", "0 9 * * *", set_at="2026-11-23 08:00")
    with pytest.raises(TypeError):
        await room.sweep("2026-11-23 09:00")
    assert [text.split("**")[1] for text in await room.posted()] == ["The fleet"]
    monkeypatch.undo()
    await room.sweep("2026-11-23 09:01")
    assert [text.split("**")[1] for text in await room.posted()] == ["The fleet", "Daily report"]


async def test_what_a_later_sweep_posted_leaves_nothing_wrong_until_tomorrow(
    room: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: asyncio.Queue[JobRecord] = asyncio.Queue()
    room.services.jobs = Jobs((), time.time, on_ended=ended.put_nowait)
    room.services.jobs.start()
    try:
        await room.sweep("2026-11-23 08:59")
        monkeypatch.setattr(posted_reports, "waiting_first", None)
        room.now = at("2026-11-23 09:00")
        room.services.jobs.soon("report daily", 0.0)
        async with asyncio.timeout(20):
            assert (await ended.get()).last_error is not None
        with pytest.raises(TypeError):
            await room.sweep("2026-11-23 09:01")
        assert [each.last_error is None for each in room.services.jobs.records()] == [False]
        monkeypatch.undo()
        await room.sweep("2026-11-23 09:02")
        assert [each.last_error for each in room.services.jobs.records()] == [None]
        assert ended.get_nowait().last_error is None, "whoever told of it hears that it is over"
        await room.sweep("2026-11-23 09:03")
        assert ended.empty()
    finally:
        room.services.jobs.stop()
