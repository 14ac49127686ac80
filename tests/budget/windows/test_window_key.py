"""The keys of windows say what they are keys of."""

from __future__ import annotations

import pytest

from budget.windows import window_key
from budget.windows.window_key import WindowKey


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("host/tokens/day", WindowKey(scope="host", unit="tokens", window="day")),
        ("account:main/usd/all", WindowKey(scope="account:main", unit="usd", window="all")),
        ("account:main/7d_opus", WindowKey(scope="account:main", unit="share", window="7d_opus", account="main")),
        (
            "role:coder/share/account:main/7d",
            WindowKey(scope="role:coder", unit="share", window="7d", account="main", is_share=True),
        ),
    ],
)
def test_a_key_is_written_as_it_is_read(key: str, said: WindowKey) -> None:
    assert WindowKey.parse(key) == said
    if said.is_share:
        written = window_key.of_share(said.scope, said.account, said.window)
    elif said.account:
        written = window_key.of_quota(said.account, said.window)
    else:
        written = window_key.of_limit(said.scope, said.unit, said.window)
    assert written == key
