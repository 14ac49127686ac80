"""Killed while it posts, Muster posts what is missing afterwards, and nothing twice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from bot.reports.poster import POST, REMEMBER
from tests import forkserver
from tests.bot.reports import crash_subject

LIMIT_S = 60.0

#: On one register, one after the other; each passage is the first that is still to be made.
CHAIN = [f"{step}.{side}" for step in (REMEMBER, POST, POST, POST) for side in ("before", "after")]
#: On a register each. Steps are passed for three messages, and for two kinds of things that are remembered.
EACH = [
    f"{step}.{side}:{passage}"
    for step, passages in ((POST, (1, 2, 3)), (REMEMBER, (1, 2)))
    for side in ("before", "after")
    for passage in passages
]


def ended(folder: Path, place: str | None) -> int | None:
    process = forkserver.process(crash_subject.live, str(folder), f"sqlite:///{folder / 'register.db'}", place)
    process.start()
    process.join(LIMIT_S)
    return process.exitcode


def test_killed_again_and_again_it_posts_each_report_once(tmp_path: Path) -> None:
    for place in CHAIN:
        assert ended(tmp_path, place) == -signal.SIGKILL, place
    assert ended(tmp_path, None) == 0


@pytest.mark.soak
@pytest.mark.parametrize("place", EACH)
def test_killed_at_this_place_a_report_is_posted_once(tmp_path: Path, place: str) -> None:
    assert ended(tmp_path, place) == -signal.SIGKILL
    assert ended(tmp_path, None) == 0
