"""What an agent on an issue can read and write at the forge."""

from __future__ import annotations

import dataclasses

import pytest

from forge.model.references import IssueReference, RepositoryName
from forge.scope import IssueScope, OutsideScope

SHOP = RepositoryName("acme", "shop")
SCOPE = IssueScope(IssueReference(SHOP, 17))


def test_everything_in_the_repository_can_be_read_and_only_the_issue_written() -> None:
    for number in (1, 17, 18, 999):
        SCOPE.check_read(IssueReference(SHOP, number))
    SCOPE.check_write(IssueReference(SHOP, 17))
    with pytest.raises(OutsideScope, match=r"acme/shop#18 cannot be written to.*acme/shop: #17\.") as refusal:
        SCOPE.check_write(IssueReference(SHOP, 18))
    assert refusal.value.code == "forge.outside_scope"


def test_a_pull_request_makes_a_new_scope_and_leaves_the_old_one() -> None:
    both = SCOPE.with_pull_request(23).with_pull_request(18).with_pull_request(23)
    assert (SCOPE.writable, both.writable) == ((17,), (17, 18, 23))
    both.check_write(IssueReference(SHOP, 18))
    with pytest.raises(OutsideScope, match=r"acme/shop#19 cannot be written to.*#17, #18, #23\."):
        both.check_write(IssueReference(SHOP, 19))
    with pytest.raises(dataclasses.FrozenInstanceError):
        both.pull_requests = ()  # type: ignore[misc]


@pytest.mark.parametrize("other", ["acme/shop2", "evil/shop", "acme/sho"])
def test_the_same_number_in_another_repository_is_out_of_reach(other: str) -> None:
    target = IssueReference(RepositoryName.parse(other), 17)
    with pytest.raises(OutsideScope, match=f"{other}#17 cannot be read: .*Everything in acme/shop can be read"):
        SCOPE.check_read(target)
    with pytest.raises(OutsideScope, match=f"{other}#17 cannot be written to"):
        SCOPE.check_write(target)


def test_the_case_of_a_repository_does_not_matter_as_at_the_forge() -> None:
    SCOPE.check_write(IssueReference(RepositoryName("Acme", "SHOP"), 17))


@pytest.mark.parametrize("number", [0, -3, 17])
def test_what_cannot_be_a_pull_request_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="cannot be a pull request of acme/shop#17"):
        SCOPE.with_pull_request(number)
