"""What tests of several packages share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.synapse import Synapse, SynapseMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def synapse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synapse]:
    """The homeserver that tests share: raised limits. Make users of your own on it; do not stop it."""
    server = Synapse(tmp_path_factory.mktemp("synapse"))
    _start(server)
    yield server
    server.stop()


@pytest.fixture
def private_synapse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Synapse]]:
    """Homeservers of one's own, to be stopped, killed and limited: call it as `Synapse` without a folder."""
    servers: list[Synapse] = []

    def make(**settings: object) -> Synapse:
        server = Synapse(tmp_path_factory.mktemp("synapse"), **settings)  # type: ignore[arg-type]
        servers.append(server)
        _start(server)
        return server

    yield make
    for server in servers:
        server.stop()


def _start(server: Synapse) -> None:
    try:
        server.start()
    except SynapseMissing as missing:
        pytest.skip(str(missing))
