"""What is said of tasks that wait."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from bot.commands.syntax import command_line
from bot.pacing import wait_text
from bot.read_models.tasks import TaskLine, TasksModel
from bot.tasks import text as task_words
from bot.tasks import wait_reasons
from bot.text import amount_input, timestamps
from budget.dispatch.next_task import TaskWait
from budget.windows.pace_admission import Leave
from database.queries.tasks import Task, TaskStep

NOON, ZONE = 1_796_040_000.0, ZoneInfo("UTC")


def test_every_command_that_is_needed_to_run_a_task_now_is_named() -> None:
    leave = (
        Leave(scope="host", unit="tokens", amount=52_341.2),
        Leave(scope="account:main", unit="share", amount=0.03),
    )
    wait = TaskWait(task="t", why="pace", text="x", look_at=NOON + 60, leave=leave)
    said = wait_text.when(wait, NOON, ZONE)
    assert re.findall(r"budget authorize (\S+) (\S+) --for 1h", said) == [("host", "52400"), ("account:main", "3%")]
    assert "It runs about 12:01" in said


@pytest.mark.parametrize(
    ("amount", "unit"), [(0.2, "tokens"), (999_999.5, "tokens"), (12_345.644, "usd"), (0.004, "usd"), (0.0301, "share")]
)
def test_the_amount_that_is_named_can_be_written_and_is_enough(amount: float, unit: str) -> None:
    said = re.search(r"authorize host (\S+) --for", wait_text.authorize_command("host", amount, unit))
    assert said is not None
    count, read = amount_input.read(said[1])
    assert read == unit
    assert count >= amount


def test_at_a_limit_it_is_said_what_helps_instead_of_an_authorization() -> None:
    wait = TaskWait(task="t", why="limit", text="x", look_at=NOON + 60, scope="host", critical=True)
    said = wait_text.when(wait, NOON, ZONE)
    assert "a higher limit" in said
    assert "--urgency critical" in said
    assert "budget authorize" not in said


@pytest.mark.parametrize("key", ["account:main/7d", "role:coder/share/account:main/7d"])
def test_where_no_time_can_be_told_it_is_said_how_to_tell_the_reset(key: str) -> None:
    said = wait_text.when(TaskWait(task="t", why="pace", text="x", windows=(key,), reset_unknown=True), NOON, ZONE)
    assert "budget set account:main 100% --window 7d --reset-at" in said
    unnamed = wait_text.when(TaskWait(task="t", why="pace", text="x", reset_unknown=True), NOON, ZONE)
    assert "it is unknown when that window resets" in unnamed


def test_what_an_admin_may_still_let_begin_is_not_called_hopeless() -> None:
    leave = (Leave(scope="host", unit="tokens", amount=5e6),)
    said = wait_text.when(TaskWait(task="t", why="limit", text="x", never=True, leave=leave), NOON, ZONE)
    assert "Only another limit" not in said
    assert "budget authorize host" in said


def test_what_was_told_of_a_wait_is_told_again_until_it_waits_for_something_else() -> None:
    leave = (Leave(scope="host", unit="usd", amount=2.5),)
    wait = TaskWait(task="t", why="limit", text="x", look_at=NOON, leave=leave, critical=True)
    kept = json.loads(json.dumps(wait_reasons.decision_of(wait)))
    told = TaskStep(task="t", at=NOON, state="told", decision=kept)
    task = Task(
        id="t", kind="task", text="do it", lane="l", operator="ana", why="limit", reason="x", look_at=NOON,
        created_at=NOON, updated_at=NOON,
    )  # fmt: skip
    assert wait_reasons.wait_of(task, told) == wait
    assert wait_reasons.wait_of(replace(task, why="pace"), told) == TaskWait(
        task="t", why="pace", text="x", look_at=NOON
    )
    assert wait_reasons.wait_of(replace(task, why=None), told) is None


def test_a_time_that_is_years_away_says_its_year_and_one_of_next_week_does_not() -> None:
    assert timestamps.shown(1_577_836_800.0, ZONE, NOON) == "2020-01-01 00:00"
    assert timestamps.shown(NOON + 40 * 86_400, ZONE, NOON) == "Sat 9 Jan 12:00"


@pytest.mark.parametrize(
    ("projected", "why"), [(600_000.0, "no more of an agent's estimate counts"), (2e6, "mostly use that much")]
)
def test_an_agent_is_told_that_its_word_is_bounded(projected: float, why: str) -> None:
    task = Task(
        id="t",
        kind="task",
        text="x",
        role=None,
        lane="l",
        operator="agent:lead0",
        estimate=1e6,
        created_at=0.0,
        updated_at=0.0,
    )
    assert why in (task_words.projected_otherwise(task, projected) or "")
    assert task_words.projected_otherwise(replace(task, operator="memory:@ana"), 1e6) is None


def queued(**said: object) -> Task:
    plain: dict[str, object] = {"id": "aa11", "kind": "task", "text": "x", "lane": "l", "operator": "ana",
                                "created_at": NOON, "updated_at": NOON}  # fmt: skip
    return Task(**plain | said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "behind", "sentence"),
    [
        (
            {"why": "pace", "reason": "The window 7d of host is used evenly.", "look_at": NOON + 7200},
            0,
            "waits (pace): The window 7d of host is used evenly; it will likely begin at about 14:00 (UTC), and "
            "{now} lets it begin now.",
        ),
        (
            {"why": "fairness", "reason": "It is not its turn yet: task bb22 comes first on host/tokens/7d."},
            0,
            "waits (fairness): It is not its turn yet: task bb22 comes first on host/tokens/7d; when it begins is not "
            "known, and {now} lets it begin now.",
        ),
        (
            {"why": "busy", "reason": "coder0 is busy."},
            0,
            "waits (busy): coder0 is busy; it begins once an agent is free, and another agent for it lets it begin "
            "now.",
        ),
        (
            {"why": "retry", "reason": "Attempt 1 failed.", "look_at": NOON + 60},
            0,
            "waits (retry): Attempt 1 failed; it begins at about 12:01 (UTC), and nothing lets it begin now.",
        ),
        ({"why": "in line"}, 3, "waits: 3 more of its lane go first; it begins after them."),
        ({}, 0, "waits: not looked at yet."),
    ],
)
def test_one_sentence_says_why_a_task_waits_when_it_begins_and_what_lets_it_begin_now(
    said: dict[str, object], behind: int, sentence: str
) -> None:
    now = command_line("task now aa11")
    assert task_words.why_it_waits(queued(**said), behind, NOON, ZONE) == sentence.format(now=now)
    assert sentence.format(now=now) in task_words.whole(queued(**said), str, [], behind, NOON, ZONE)


def test_the_queue_shows_what_a_running_task_used_so_far_and_says_if_there_is_more() -> None:
    running = TaskLine(
        id="ab12", kind="task", text="Fix it.", role="coder", operator="memory:@ana", state="running", created_at=NOON,
        projected_tokens=80_000.0, used_tokens=45_000.0,
    )  # fmt: skip
    over = replace(running, id="cd34", state="done", used_tokens=None, actual_tokens=70_000.0)
    model = TasksModel(open=(running,), ended=(over,), counts={"running": 1}, more=True)
    said = task_words.queue_text(model, NOON, ZONE, ended=True)
    first, second = [line for line in said.splitlines() if "Fix it." in line]
    assert "| 80k | 45k so far |" in first
    assert "| 80k | 70k |" in second
    assert said.startswith("1 running\n")
    assert said.endswith("More tasks wait than are shown here.")
    assert "tasks --all" in task_words.queue_text(TasksModel(), NOON, ZONE, ended=False)
    assert task_words.task_json(running)["used_tokens"] == 45_000.0
