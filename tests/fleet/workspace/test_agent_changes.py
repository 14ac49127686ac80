"""What git prints about an agent's changes, and what is made of it."""

from __future__ import annotations

import pytest

from fleet.workspace import agent_changes
from fleet.workspace.agent_changes import ChangedFile

RAW = ":100644 100755 1a 00 M\0one\0:100644 100644 1a 1a R090\0old\0new\0"
COUNTS = "3\t0\tone\0001\t2\t\0old\0new\0"


@pytest.mark.parametrize("end", range(len(RAW + COUNTS) + 1))
def test_a_list_that_was_cut_has_the_complete_entries(end: int) -> None:
    whole = agent_changes.files(RAW + COUNTS)
    assert whole == (
        ChangedFile(path="new", status="renamed", added=1, removed=2, was="old"),
        ChangedFile(path="one", status="modified", added=3, removed=0, modes=("100644", "100755")),
    )
    for each in agent_changes.files((RAW + COUNTS)[:end]):
        [full] = [known for known in whole if known.path == each.path]
        assert (each.status, each.was, each.modes) == (full.status, full.was, full.modes)
        assert (each.added, each.removed) in ((None, None), (full.added, full.removed))


def test_a_log_that_was_cut_has_the_complete_commits() -> None:
    said = "\0aa\0001700000000\0bb\0ana\0Fix it\0\n 2 files changed, 3 insertions(+), 1 deletion(-)\n"
    merge = "\0cc\0001700000001\0aa dd\0\0\0\n"
    one, two = agent_changes.commits(said + merge)
    assert (one.subject, one.at, one.files, one.added, one.removed) == ("Fix it", 1_700_000_000, 2, 3, 1)
    assert two.merge
    assert agent_changes.commits((said + merge)[: len(said) + 10]) == (one,)
