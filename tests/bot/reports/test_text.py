"""What reports say: complete, short, and nothing of what agents and strangers wrote is spoken."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.config.reports import QuietHours
from bot.read_models.limits import UsageRow, WindowPace, WindowProjection
from bot.reports import text as wording
from bot.reports.commands_service import facts_json
from bot.reports.loader import span_of
from bot.reports.model import AgentFacts, Down, ReportFacts, TaskFacts
from bot.reports.schedule import quiet_until
from bot.reports.threshold_alerts import Crossing
from bot.text import markdown
from tests.bot.reports.poster import ZONE, at

NOW = at("2026-11-23 09:00")
HOSTILE = "](https://evil) ![x](https://evil) `` ``` | # **b** @room <img src=x> \u202e \x1b[31m $x$ [a](b)"
FACTS = ReportFacts(kind="daily", now=NOW, zone=ZONE, begin=at("2026-11-22 00:00"), end=at("2026-11-23 00:00"))


def task(number: int, **said: object) -> TaskFacts:
    plain = TaskFacts(id=f"ab12cd{number:02}", text=HOSTILE, whose="coder0", state="queued", created_at=NOW - 7200)
    return replace(plain, reason=HOSTILE, look_at=NOW + 3600, **said)  # type: ignore[arg-type]


def full() -> ReportFacts:
    spent = [
        UsageRow(by="agent", name=f"coder{number}", requests=3, tokens=1_200_000, usd=None, estimated=1)
        for number in range(40)
    ]
    tasks = [task(number) for number in range(12)]
    return replace(
        FACTS,
        total=UsageRow(by="all", name="", requests=120, tokens=48_000_000, usd=12.5, estimated=2),
        agents=spent,
        tasks=[replace(each, name=f"ab12cd{number:02}") for number, each in enumerate(spent[:20])],
        names=[(each.id, each.text) for each in tasks],
        waiting=tasks,
        waiting_count=57,
        ended=[replace(tasks[0], state="failed", ended_at=NOW)],
        ended_counts=[("done", 5), ("failed", 1)],
        downs=[Down(agent="coder1", kind="silent", since=NOW - 3600, until=None)],
        behind="The egress does not answer.",
    )


def test_everything_is_in_it_and_a_long_list_says_how_much_more_there_is() -> None:
    text = wording.report(full())
    for words in (
        "48M tokens, $12.50, in 120 requests", "Of 2 it is an estimate", "28 more: 33.6M tokens",
        "**Waiting**: 57 tasks", "45 more", "5 done, 1 failed", "Next look 10:00",
        "**coder1** did not answer from 08:00 for 60 min, still", "⚠️ The egress does not answer.",
    ):  # fmt: skip
        assert words in text, text


def test_nothing_that_was_written_by_others_is_spoken() -> None:
    """Neither in letters nor as HTML: no link, no picture, no mark of a table, no sequence of a terminal."""
    message = markdown.message(wording.report(full()))
    assert message.html is not None
    assert "<a " not in message.html
    assert "<img" not in message.html
    assert "\x1b" not in message.text
    assert "\u202e" not in message.text
    rows = [line for line in message.text.splitlines() if line.startswith("| `ab12cd")]
    assert len(rows) == 12
    assert message.html.count("<th>") == 6, "two tables of three columns"
    assert "<td>1.2M</td>" in message.html.split("ab12cd00")[1].split("</tr>")[0], "the columns are where they were"


def test_no_table_is_wider_than_a_phone() -> None:
    windows = [
        WindowPace(
            key="role:coder/share/account:subscription/7d", scope="role:coder", unit="share", limit=0.4, used=0.39,
            reserved=0.0, line=0.2, begins_at=NOW - 86_400, resets_at=NOW + 86_400, certainty="estimated",
            projection=WindowProjection(expected=0.5, low=0.41, high=0.9),
        )
    ]  # fmt: skip
    text = wording.report(replace(FACTS, kind="budget", windows=windows))
    assert "| 🔴 coder of subscription 7d | 97.5% | 50% | 102 to 225%, ≈ Tue 24 Nov 09:00 |" in text
    assert max(line.count("|") for line in text.splitlines()) <= 5


def test_what_was_passed_names_the_command_of_its_scope_and_of_no_other() -> None:
    windows = [
        WindowPace(
            key=f"account:main/{name}", scope="account:main", unit="share", limit=1.0, used=0.81, reserved=0.0,
            line=0.5, begins_at=NOW - 9_000, resets_at=NOW + 9_000, certainty="provider",
        )
        for name in ("5h", "7d")
    ]  # fmt: skip
    text = wording.crossed([Crossing(window=each, share=0.8) for each in windows], ZONE)
    assert text.count("budget authorize account:main AMOUNT") == 1
    assert "SCOPE" not in text


def test_a_window_that_was_not_seen_for_long_says_what_is_known_of_it() -> None:
    quiet = WindowPace(
        key="account:main/7d", scope="account:main", unit="share", limit=1.0, used=None, reserved=0.0, line=0.57,
        begins_at=NOW - 4 * 86_400, resets_at=NOW + 3 * 86_400, certainty="provider", at_least=0.41,
        outdated_at=NOW - 9 * 3_600, outdated_used=0.38, outdated_tokens=1_200_000,
    )  # fmt: skip
    text = wording.report(replace(FACTS, windows=[quiet]))
    assert "| ❔ main 7d | ≥ 41% | 57% |" in text
    assert "❔ `main 7d`: 38% was seen 9 h ago, and 1.2M tokens went through here since." in text
    (told,) = facts_json(replace(FACTS, windows=[quiet]))["windows"]
    assert (told["used"], told["at_least"], told["seen_at"]) == (None, 0.41, "2026-11-22T23:00:00.000Z")
    unseen = replace(quiet, at_least=None, outdated_at=NOW - 9e5, outdated_used=None, outdated_tokens=0)
    text = wording.report(replace(FACTS, windows=[unseen]))
    assert "it was seen 10 d ago, before it reset, and 0 tokens went through here since" in text
    assert "| ❔ main 7d | ? |" in text


def test_the_fleet_is_told_with_how_its_states_are_known() -> None:
    agent = AgentFacts(
        name="coder0", role="coder", state="working", evidence="protocol", evidence_at=NOW - 3,
        tasks_done=4, tokens=None,
    )  # fmt: skip
    text = wording.report(replace(FACTS, kind="fleet", fleet=[agent], fleet_count=1, fleet_states=[("working", 1)]))
    assert "| coder0 | working (protocol, 3 s) | 4 | ? |" in text
    assert "1 agent: 1 working." in text


@pytest.mark.parametrize(
    ("due", "last", "begin"),
    [
        ("2026-11-23 09:00", None, "2026-11-22 00:00"),
        ("2026-11-23 09:00", "2026-11-20 09:00", "2026-11-20 00:00"),
        ("2026-11-23 18:00", "2026-11-23 09:00", "2026-11-22 00:00"),
        ("2026-11-23 09:00", "2025-11-23 09:00", "2026-10-23 00:00"),
        # Days of 23 and of 25 hours.
        ("2026-03-30 09:00", None, "2026-03-29 00:00"),
        ("2026-10-26 09:00", None, "2026-10-25 00:00"),
    ],
)
def test_a_daily_report_is_about_whole_days_of_the_operators(due: str, last: str | None, begin: str) -> None:
    span = span_of("daily", at(due), ZONE, None if last is None else at(last))
    assert span == (at(begin), at(due.replace(due[-5:], "00:00")))


MINUTES = st.integers(0, 24 * 60 - 1).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")


@given(
    st.floats(at("2026-01-01 00:00"), at("2027-01-01 00:00")),
    MINUTES,
    MINUTES,
    st.sampled_from(["Europe/Vienna", "America/St_Johns", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
)
def test_quiet_hours_end_within_a_day(moment: float, begin: str, end: str, name: str) -> None:
    if begin == end:
        return
    hours, zone = QuietHours.model_validate({"from": begin, "to": end}), ZoneInfo(name)
    until = quiet_until(hours, zone, moment)
    if until is not None:
        assert moment < until <= moment + 25 * 3600
        # Elsewhere an hour of the night may come twice.
        assert name not in ("UTC", "Asia/Kathmandu") or quiet_until(hours, zone, until) is None
