"""Retention of files: delete the oldest chat files, and cut logs that are too large.

Files that are still needed are kept: attachments that are not sent yet, or that an agent has not received yet.
`bot.agents.service.Agents.prune` deletes journals, because it knows how far they were reported.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.config.paths import Paths
from budget.dispatch.next_task import TURN
from core import log_rotation
from database.engine.store import Store
from database.schema import agent_messages, outbox, tasks
from fleet.supervision import host_lock
from fleet.supervision.host_lifecycle import LOG

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptFile:
    """A file in a folder of chat files."""

    path: Path
    size: int
    #: Seconds since the epoch.
    at: float


def superfluous(files: Iterable[KeptFile], *, before: float, limit: int, wanted: Collection[Path]) -> list[Path]:
    """Return the files to delete: those older than `before`, then the oldest until `limit` bytes are left."""
    gone = []
    left = sorted(files, key=lambda file: (file.at, file.path.name))
    total = sum(file.size for file in left)
    for file in left:
        if file.path in wanted or (file.at >= before and total <= limit):
            continue
        gone.append(file.path)
        total -= file.size
    return gone


async def sweep_files(store: Store, folders: Sequence[Path], *, before: float, limit: int) -> int:
    """Delete superfluous files of each folder and return their number.

    Args:
        store: the register, which knows the files that are still needed.
        folders: the folders to clean.
        before: files older than this are deleted, in seconds since the epoch.
        limit: bytes to keep in each folder.
    """
    async with store.read() as tx:
        wanted = await _wanted(tx)
    removed = 0
    for folder in folders:
        removed += await asyncio.to_thread(_sweep, folder, before, limit, wanted)
    return removed


async def _wanted(tx: AsyncConnection) -> set[Path]:
    found = set()
    for content in (
        await tx.execute(select(outbox.c.content).where(outbox.c.state.in_(("pending", "dead"))))
    ).scalars():
        if isinstance(content, dict) and isinstance(content.get("path"), str):
            found.add(Path(content["path"]))
    waiting = (
        select(agent_messages.c.attachments).where(agent_messages.c.state.in_(("pending", "dead"))),
        # Messages that wait for pacing.
        select(tasks.c.attachments).where(tasks.c.state == "queued", tasks.c.kind == TURN),
    )
    for those in waiting:
        for attachments in (await tx.execute(those)).scalars():
            for item in attachments or ():
                if isinstance(item, dict) and isinstance(item.get("path"), str):
                    found.add(Path(item["path"]))
    return found


def _sweep(folder: Path, before: float, limit: int, wanted: Collection[Path]) -> int:
    files = []
    # The installation may have been addressed through another path when the wanted files were recorded.
    folder, wanted = folder.resolve(), {path.resolve() for path in wanted}
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if path.is_file():
                files.append(KeptFile(path=path, size=status.st_size, at=status.st_mtime))
    gone = superfluous(files, before=before, limit=limit, wanted=wanted)
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)


async def bound_logs(paths: Paths, limit: int) -> None:
    """Cut logs larger than `limit` bytes: Muster's own, and those of stopped agent hosts.

    A running agent host bounds its own log; two processes must not cut the same file.
    """
    await asyncio.to_thread(_bound_logs, paths, limit)


def _bound_logs(paths: Paths, limit: int) -> None:
    found = [paths.log]
    found += [folder / LOG for folder in paths.agents.glob("*") if folder.is_dir() and host_lock.holder(folder) is None]
    for path in found:
        try:
            if log_rotation.bound(path, limit):
                log.info("log.cut", path=str(path), limit=limit)
        except OSError as error:
            log.warning("log.not_cut", path=str(path), reason=error.strerror)
