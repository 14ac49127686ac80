"""Checks that the disks accept Muster's writes."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bot.read_models.health import PartHealth

#: Bytes of a trial write: more than a command and its answer need.
_TRIED: Final = 64 * 1024
#: Seconds that a trial write may take. A network file system can hang.
_PATIENCE_S: Final = 5.0


async def condition(folders: Iterable[Path]) -> list[PartHealth]:
    """Return one part per disk, named after the first of its folders."""
    found = []
    for folder in await asyncio.to_thread(_one_a_disk, folders):
        try:
            async with asyncio.timeout(_PATIENCE_S):
                problem = await asyncio.to_thread(unwritable, folder)
        except TimeoutError:
            problem = f"{folder} does not answer. Check its disk."
        detail = problem or f"{folder} takes writes"
        found.append(PartHealth(name=str(folder), kind="disk", reachable=problem is None, detail=detail))
    return found


def unwritable(folder: Path) -> str | None:
    """Try to write into a folder; return why it fails, or None if it works. Blocking.

    The file system's free space is not checked, because it ignores quotas, reserved blocks and inodes.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            written = 0
            while written < _TRIED:
                written += file.write(bytes(_TRIED - written))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return f"{folder} cannot be written: {reason}. Make room on its disk; nothing is lost meanwhile."
    return None


def _one_a_disk(folders: Iterable[Path]) -> list[Path]:
    found: dict[int, Path] = {}
    for folder in folders:
        try:
            found.setdefault(os.stat(folder).st_dev, folder)
        except OSError:
            found.setdefault(-1, folder)
    return list(found.values())
