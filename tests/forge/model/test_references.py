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


@pytest.mark.parametrize(
    "text",
    [
        "a/b#17",
        "https://git.example/x/a/b/issues/17",
        "https://git.example/x/a/b/issues/17/",
        "https://git.example/x/a/b/issues/17?q=1#c",
    ],
)
def test_an_issue_is_called_by_its_name_or_the_address_of_its_page(text: str) -> None:
    for base in ("https://git.example/x", "https://git.example/x/"):
        assert str(IssueReference.of_issue(text, base)) == "a/b#17"


@pytest.mark.parametrize(
    "text",
    [
        "https://git.example/a/b/issues/17", "https://git.example/xa/b/issues/17", "https://git.example/x/a/b/pulls/17",
        "https://git.example.evil/x/a/b/issues/17", "https://git.example/x/../b/issues/17", "file:///x/a/b/issues/17",
        "https://git.example/x/a/b/issues/017", "https://git.example/x/a/b/issues/17/edit", "//git.example/x", "://",
    ],
)  # fmt: skip
def test_an_address_of_something_else_is_no_issue(text: str) -> None:
    for base in ("https://git.example/x", ""):
        with pytest.raises(ValueError, match="Write it as owner/repo"):
            IssueReference.of_issue(text, base)


@pytest.mark.parametrize("text", ["a", "a/b/c", "a/..", "../b", "a/b#1", "a/b\n", "https://forge.example/a/b"])
def test_what_is_no_repository_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Write it as owner/repo"):
        RepositoryName.parse(text)
