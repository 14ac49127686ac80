"""What an operator or a webhook names an issue by."""

from __future__ import annotations

import pytest

from forge.model.references import IssueReference, RepositoryName


def test_a_reference_is_read_and_written() -> None:
    reference = IssueReference.parse("some.org/my_repo-2#17")
    assert reference == IssueReference(RepositoryName("some.org", "my_repo-2"), 17)
    assert str(reference) == "some.org/my_repo-2#17"


def test_the_case_of_a_repository_does_not_matter() -> None:
    assert RepositoryName("Acme", "SHOP").is_same(RepositoryName("acme", "shop"))
    assert not RepositoryName("acme", "shop").is_same(RepositoryName("acme", "shop2"))


@pytest.mark.parametrize(
    "text",
    [
        *("", "17", "#17", "repo#17", "a/b", "a/b#", "a/b#0", "a/b#-1", "a/b#1x", "a/b#1\n", "a/b/c#1", "a b/c#1"),
        *("../x#1", "x/..#1", "./x#1", "x/.#1", "a/b#" + "9" * 19, "a/\N{CYRILLIC SMALL LETTER A}#1", "a/b#\u0661"),
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Write it as owner/repo#17"):
        IssueReference.parse(text)


@pytest.mark.parametrize("text", ["a", "a/b/c", "a/..", "../b", "a/b#1", "a/b\n", "https://forge.example/a/b"])
def test_what_is_no_repository_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Write it as owner/repo"):
        RepositoryName.parse(text)
