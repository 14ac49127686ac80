from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.connectors.tmux.server import Server, server_of_ones_own


@pytest.fixture
def tmux(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with server_of_ones_own(monkeypatch) as server:
        yield server
