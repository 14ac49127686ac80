"""The budget of a project is called by the project's name."""

from __future__ import annotations

import pytest

from budget.scope_names import shown_scope, stored_scope


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("profile:project-web", "project:web"),
        ("profile:project-web/account:main", "project:web/account:main"),
        ("profile:project-web/tokens/day", "project:web/tokens/day"),
        ("profile:web", "profile:web"),
        ("agent:project-web", "agent:project-web"),
        ("host", "host"),
    ],
)
def test_a_scope_is_shown_as_it_can_be_written(stored: str, shown: str) -> None:
    assert shown_scope(stored) == shown
    assert stored_scope(shown) == stored
