"""Names of branches, whatever an issue is called."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.publishing import branch_names

TITLES = st.one_of(
    st.text(max_size=300),
    st.sampled_from(
        [
            "../../etc/passwd", "-rf /", "a..b", "x.lock", "@{-1}", "refs/heads/main", "a b~c^d:e?f*g[h\\i",
            "\x00\x1b[31m",
            "Füße ändern", "修复构建", "İstanbul", "ﬁx", "HEAD", "//", ".", "a" * 5000, "--force", "x\ny", "K",
        ]
    ),
)  # fmt: skip
NUMBERS = st.integers(1, 10**18 - 1)


@given(NUMBERS, TITLES)
def test_a_name_is_plain_and_bounded_and_names_the_issue(number: int, title: str) -> None:
    name = branch_names.proposed(number, title)
    assert branch_names.is_ours(name)
    assert name.isascii()
    assert name == name.lower()
    assert len(name) <= len(f"muster/issue-{number}-") + branch_names.LONGEST_SLUG
    assert name.startswith(f"muster/issue-{number}")
    assert name == branch_names.proposed(number, title)
    assert branch_names.refusal(name, default_branch="main", protected=("main", "release/*")) is None


@given(st.lists(st.tuples(NUMBERS, TITLES), min_size=1, max_size=20))
def test_git_takes_every_name(issues: list[tuple[int, str]]) -> None:
    for number, title in issues[:3]:
        name = f"refs/heads/{branch_names.proposed(number, title)}"
        assert subprocess.run(["git", "check-ref-format", name], check=False, timeout=60).returncode == 0


@given(NUMBERS, TITLES, st.sets(st.integers(1, 49)), st.booleans())
def test_somebody_elses_branch_is_never_chosen(number: int, title: str, taken: set[int], upper: bool) -> None:
    first = branch_names.proposed(number, title)
    names = [first if attempt == 1 else f"{first}-{attempt}" for attempt in sorted(taken)]
    there = {name.upper() if upper else name: "theirs" for name in names}
    name = branch_names.chosen(number, title, taken=there, ours=lambda _: False)
    assert name is not None
    assert name not in names
    assert branch_names.is_ours(name)
    # Its own branch is found again, however many others there are.
    assert branch_names.chosen(number, title, taken={**there, name: "mine"}, ours=lambda sha: sha == "mine") == name


def test_names_that_people_see() -> None:
    assert branch_names.proposed(17, "Fix the build, please!") == "muster/issue-17-fix-the-build-please"
    assert branch_names.proposed(17, "Füße") == "muster/issue-17-fusse"
    assert branch_names.proposed(17, "修复") == "muster/issue-17"
    taken = {"muster/issue-17-x": "theirs"}
    assert branch_names.chosen(17, "x", taken=taken, ours=lambda _: False) == "muster/issue-17-x-2"
    # Git cannot keep a branch beside one that would be its folder.
    taken = {"muster/issue-17-x/y": "theirs"}
    assert branch_names.chosen(17, "x", taken=taken, ours=lambda _: False) == "muster/issue-17-x-2"


def test_when_all_names_are_somebody_elses_there_is_none() -> None:
    taken = {f"muster/issue-17-x{'' if number == 1 else f'-{number}'}": "theirs" for number in range(1, 200)}
    assert branch_names.chosen(17, "x", taken=taken, ours=lambda _: False) is None


@pytest.mark.parametrize("number", [0, -1, 10**18])
def test_a_number_that_is_no_issue_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="no issue"):
        branch_names.proposed(number, "x")


@pytest.mark.parametrize(
    ("name", "default", "protected", "why"),
    [
        ("main", "main", (), "no branch of Muster's"),
        ("muster/issue-1-a", "muster/issue-1-a", (), "default branch"),
        ("muster/issue-1-a", "main", ("muster/*",), "protects"),
        ("muster/issue-1-a", "main", ("**",), "protects"),
        ("muster/issue-1-a", "main", ("*/issue-1-?",), "protects"),
        ("muster/issue-1-a\n", "main", (), "no branch of Muster's"),
        ("muster/issue-01", "main", (), "no branch of Muster's"),
    ],
)
def test_branches_that_are_never_pushed_to(name: str, default: str, protected: tuple[str, ...], why: str) -> None:
    refusal = branch_names.refusal(name, default_branch=default, protected=protected)
    assert refusal is not None
    assert why in refusal
