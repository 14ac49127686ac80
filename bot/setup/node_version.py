"""Whether the Node.js of this machine is new enough for a runtime."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from typing import Final

from fleet.runtimes import Runtime

_PATIENCE: Final = 10.0
_VERSION: Final = re.compile(r"v(\d{1,4})\.(\d{1,4})\.(\d{1,4})", re.ASCII)


def too_old(runtime: Runtime, which: Callable[[str], str | None] = shutil.which) -> str | None:
    """Return why a runtime does not run on the Node.js here, and what to do; None if it does, or if that is not known.

    Blocks for a moment, the first time.
    """
    place = which("node") if runtime.node else None
    version = None if place is None else _version(place, _changed(place))
    if version is None or version >= runtime.node:
        return None
    least, here = (".".join(map(str, numbers)) for numbers in (runtime.node, version))
    return f"{runtime.title} needs Node.js {least} or newer, and {place} is {here}. Install a newer one."


def _changed(place: str) -> int:
    try:
        return os.stat(place).st_mtime_ns
    except OSError:
        return 0


@cache
def _version(place: str, changed: int) -> tuple[int, ...] | None:
    try:
        done = subprocess.run(
            [place, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.match(done.stdout.decode("ascii", "replace"))
    return None if found is None else tuple(map(int, found.groups()))
