"""Whether the disks take what Muster writes."""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: Bytes that are tried: more than a command and its answer take.
_TRIED: Final = 64 * 1024
#: Seconds for that. A network file system can hang.
_PATIENCE_S: Final = 5.0


async def condition(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return what `health` shows: an entry for each disk, of which the first of its folders is named."""
    found = []
    for folder in await asyncio.to_thread(_one_a_disk, folders):
        try:
            async with asyncio.timeout(_PATIENCE_S):
                problem = await asyncio.to_thread(unwritable, folder)
        except TimeoutError:
            problem = f"{folder} does not answer. Look at its disk."
        found.append({"name": str(folder), "reachable": problem is None, "detail": problem or f"{folder} takes writes"})
    return found


def unwritable(folder: Path) -> str | None:
    """Try to write into a folder; return why it does not work, or None if it does. Blocking.

    How much room a file system says that it has is not asked: quotas, reserved blocks and inodes are not in it.
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
