"""Which task a message carries is read off its id, and off nothing that only looks like one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.control.task_attempt_ids import attempt_of, message_of, task_of
from fleet.host import current_turn_file


def test_the_id_of_a_message_says_which_attempt_at_which_task_it_carries() -> None:
    assert attempt_of(message_of("0a1b2c3d", 2)) == ("0a1b2c3d", 2)


OTHERS = ["", "m0a1b2c3d", "task-", "task-0a1b2c3d", "task-0A1B2C3D-1", "task-0a1b2c3d-0", "task-0a1b2c3d-1x"]


@pytest.mark.parametrize("other", [*OTHERS, "task-0a1b2c3d-1\n"])
def test_other_messages_carry_none(other: str) -> None:
    assert task_of(other) is None


def test_the_turn_file_says_for_which_task_the_turn_is(tmp_path: Path) -> None:
    current_turn_file.write(tmp_path, session="s", turn="1-1", message=message_of("0a1b2c3d", 1))
    assert json.loads((tmp_path / "turn.json").read_text()) == {"session": "s", "turn": "1-1", "task": "0a1b2c3d"}
    current_turn_file.write(tmp_path, session="s", turn="1-2", message="m1")
    assert json.loads((tmp_path / "turn.json").read_text())["task"] is None
    current_turn_file.write(tmp_path, session="s", turn=None)
    assert json.loads((tmp_path / "turn.json").read_text())["task"] is None
