from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.connectors.tmux.server import Server, server_of_ones_own

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def tmux(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with server_of_ones_own(monkeypatch) as server:
        yield server
