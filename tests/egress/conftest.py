"""What tests of the egress share."""

from __future__ import annotations

import shutil
import tempfile
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """What runs in a test's own loop, runs on the loop that the egress's process has."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def short_home() -> Iterator[Path]:
    """A folder with a short path: names of unix sockets have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="mx-"))
    yield folder
    shutil.rmtree(folder)
