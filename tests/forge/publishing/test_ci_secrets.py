"""What operators are told of secrets that a branch reaches."""

from __future__ import annotations

import pytest

from forge.publishing import ci_secrets


@pytest.mark.parametrize("kind", ["github", "gitea", "forgejo"])
def test_a_branch_in_the_repository_reaches_its_secrets_and_one_in_a_fork_does_not(kind: str) -> None:
    own, fork = ci_secrets.reached(kind, by_fork=False), ci_secrets.reached(kind, by_fork=True)
    assert "`on: push`" in own
    assert "they get the secrets" in own
    assert "get no secrets" in fork
    assert "`pull_request_target`" in fork


def test_another_forge_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="forgejo, gitea, github"):
        ci_secrets.reached("gitlab", by_fork=True)
