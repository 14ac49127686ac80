"""`kill -9` at a place, and at another, then a process that lives: everything was done, and once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import (
    command_runs,
    job_alerts,
    mirroring,
    offline_orders,
    progress,
    reports,
    runs,
    topics,
    unasked,
    web_logins,
)
from tests.crash.deaths import Subject

SUBJECTS: dict[str, Subject] = {
    "a command": command_runs.COMMANDS,
    "a long command": progress.PROGRESS,
    "what is mirrored": mirroring.MIRRORED,
    "what waits in vain": mirroring.ABANDONED,
    "a failing job": job_alerts.JOBS,
    "reports": reports.REPORTS,
    "each report": reports.EACH_REPORT,
    "runs": runs.RUNS,
    "topics": topics.TOPICS,
    "each step of a topic": topics.EACH_TOPIC,
    "a topic that is forgotten": topics.FORGOTTEN_TOPIC,
    "an agent that is told to go on": unasked.GONE_ON,
    "a runaway": unasked.RUNAWAY,
    "an order without Muster": offline_orders.OFFLINE_ORDERS,
    "a browser's log-in": web_logins.WEB_LOGINS,
}


def visited() -> set[str]:
    """Every place at which some subject is killed, without the number of its passage."""
    return {place.partition(":")[0] for subject in SUBJECTS.values() for walk in subject.walks for place in walk}


CASES = [
    pytest.param(subject, places, id=f"{name}: {', '.join(places)}", marks=subject.marks)
    for name, subject in SUBJECTS.items()
    for places in subject.walks
]


@pytest.mark.parametrize(("subject", "places"), CASES)
def test_killed_there_it_is_done_once(tmp_path: Path, subject: Subject, places: tuple[str, ...]) -> None:
    subject.check(tmp_path, places)
