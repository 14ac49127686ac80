"""What tests of the egress share."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def short_home() -> Iterator[Path]:
    """A folder with a short path: names of unix sockets have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="mx-"))
    yield folder
    shutil.rmtree(folder)
