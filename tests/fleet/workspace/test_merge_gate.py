"""What a branch asks of merges is read strictly, and no spelling of a path gets past it."""

from __future__ import annotations

import pytest

from fleet.workspace import merge_gate
from fleet.workspace.merge_gate import InvalidGate, MergeGate

GATE = MergeGate(protected=(".muster", "ci", "Makefile", "deploy/prod/*.yml", "**/CODEOWNERS", "café"))


def test_the_file_is_read() -> None:
    found = merge_gate.read(b"test: make test\ntimeout: 15m\nprotected: [ci/, ./a/b.txt, '**/x']\n".replace(b"./", b""))
    assert found == MergeGate(test="make test", timeout_s=900, protected=(".muster", "ci", "a/b.txt", "**/x"))
    assert merge_gate.read(b"# nothing yet\n") == MergeGate()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tests: make\n", "merge.yaml:1:1: tests"),
        ("test: ''\n", "expected one command line"),
        ("test: |\n  a\n  b\n", "expected one command line"),
        ("timeout: 3h\n", "expected a time from 1s to 1h"),
        ("protected: ['../x']\n", "expected a path from the root"),
        ("protected: ['/']\n", "expected a path from the root"),
        ("protected: ['a/**/b']\n", "expected a path from the root"),
        ("protected: ci\n", "protected"),
        ("- a\n", "merge.yaml"),
        ("test: !!python/object:os.system x\n", "Tags are not taken"),
        ("a: &a [*a]\n", "refers to what it stands in"),
    ],
)
def test_a_file_that_is_not_understood_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidGate) as refused:
        merge_gate.read(text.encode())
    assert why in str(refused.value)


def test_a_file_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidGate, match="UTF-8"):
        merge_gate.read(b"\xff\xfe")


@pytest.mark.parametrize(
    "path",
    [
        ".muster/merge.yaml", ".muster", ".MUSTER/x", ".muster./merge.yaml", ".mus\u200dter/merge.yaml",
        "ci", "ci/run.sh", "CI/run.sh", "\uff43\uff49/run.sh", "ci /run.sh", "Makefile", "MAKEFILE", "ma\u212aefile",
        "deploy/prod/a.yml", "deploy/prod/a.yml/below", "deploy", "deploy/prod", "DEPLOY/Prod/A.YML",
        "CODEOWNERS", "docs/deep/codeowners", "caf\u00e9/x", "cafe\u0301/x",
    ],
)  # fmt: skip
def test_a_protected_path_is_found_however_it_is_spelled(path: str) -> None:
    assert merge_gate.touched(GATE, [path]) == [path]


@pytest.mark.parametrize(
    "path", ["cinema/x", "src/ci/x", "src/Makefile", "deploy/test/a.yml", "deploy/prod/a.txt", "x", "b\udcff"]
)
def test_other_paths_are_free(path: str) -> None:
    assert merge_gate.touched(GATE, [path]) == []
