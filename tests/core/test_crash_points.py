"""A test pulls the plug at one place, and the process dies there and nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from core import crash_points

PROGRAM = """
from core.crash_points import around, declare, passing

STEP = declare("drill.commit")
print("begun", flush=True)
for number in range(3):
    try:
        with around(STEP):
            print("did", number, flush=True)
            if number == 0:
                raise KeyError
    except KeyError:
        print("failed", number, flush=True)
passing("drill.place")
print("ended", flush=True)
"""


def run(crash: str | None) -> tuple[int, list[str]]:
    environment = {key: value for key, value in os.environ.items() if key != crash_points.ENVIRONMENT_VARIABLE}
    if crash is not None:
        environment[crash_points.ENVIRONMENT_VARIABLE] = crash
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout.splitlines()


WHOLE = ["begun", "did 0", "failed 0", "did 1", "did 2", "ended"]


@pytest.mark.parametrize(
    ("crash", "reached"),
    [
        ("drill.commit.before", ["begun"]),
        ("drill.commit.before:2", ["begun", "did 0", "failed 0"]),
        ("drill.commit.after", ["begun", "did 0", "failed 0", "did 1"]),
        ("drill.commit.after:2", ["begun", "did 0", "failed 0", "did 1", "did 2"]),
        ("drill.place", ["begun", "did 0", "failed 0", "did 1", "did 2"]),
    ],
)
def test_the_process_dies_exactly_there(crash: str, reached: list[str]) -> None:
    assert run(crash) == (-signal.SIGKILL, reached)


@pytest.mark.parametrize("crash", [None, "", "another.place.before", "drill.commit", "drill.commit.after:3"])
def test_a_place_that_is_not_passed_kills_nobody(crash: str | None) -> None:
    assert run(crash) == (0, WHOLE)


def test_every_declared_step_has_two_places() -> None:
    step = crash_points.declare("test.step")
    assert crash_points.declare("test.step") == step
    assert {"test.step.before", "test.step.after"} <= crash_points.places()


def test_a_step_that_fails_fails_as_it_would_without_a_place() -> None:
    with pytest.raises(KeyError), crash_points.around(crash_points.declare("test.fails")):
        raise KeyError
