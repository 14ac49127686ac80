"""`muster backup`: save an installation to one file, whether or not it is running.

The register is copied first, as a snapshot, and the files afterwards. Journals only grow, so those in the backup
contain everything that the register knows as reported, and perhaps more.
"""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bot.config.database import password
from bot.config.loader import Settings, load
from bot.config.paths import Paths
from bot.egress_client.process import places
from bot.maintenance import atomic_swap, versions
from bot.maintenance.backup import archive, contents
from bot.maintenance.backup.archive import Header, WrittenArchive
from bot.maintenance.interruptible import in_thread
from bot.text.errors import UserError
from database.engine import dsn as addresses
from database.engine import snapshot


@dataclass(frozen=True, kw_only=True, slots=True)
class Backup:
    """A completed backup."""

    written: WrittenArchive
    header: Header


async def backup(
    paths: Paths,
    environ: Mapping[str, str],
    *,
    now: float,
    target: Path | None = None,
    workspaces: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Backup:
    """Write a backup.

    Args:
        paths: the installation.
        environ: the environment, which may contain the register's password.
        now: seconds since the epoch.
        target: the file, or a folder, where the file gets a default name; None for the folder `backups` of the state.
        workspaces: include the agents' workspaces.
        progress: called with a short progress message.

    Raises:
        UserError: the backup cannot be written, or there is no installation.
        RegisterError: the register cannot be read.
    """
    settings = load(paths)
    if not paths.state.is_dir():
        raise UserError(
            f"There is no installation here yet: {paths.state} does not exist. `muster up` creates it.",
            code="installation.missing",
        )
    await atomic_swap.settle(paths, environ)
    file = _target(paths, target, now)
    with archive.drafted(file) as folder:
        try:
            copied = await snapshot.take(
                settings.register_url,
                folder / contents.REGISTER,
                password=password(settings.register_password, environ),
                progress=lambda table, rows, total: progress(f"register, {table}: {rows} of {total}"),
            )
            header = Header(
                muster=versions.of_this(),
                schema=copied.revision,
                made_at=now,
                host=socket.gethostname(),
                register=copied.kind,
                rows=copied.rows,
                workspaces=workspaces,
            )
            written = await in_thread(partial(_write, paths, settings, folder, file, header), progress)
        except OSError as error:
            if error.errno in contents.NO_ROOM:
                raise UserError(
                    f"The disk of {file.parent} is full. No partial backup was left; make room, or name another place.",
                    code="disk.full",
                ) from error
            raise UserError(
                f"The backup {file} cannot be written: {error.strerror or error}.", code="disk.unwritable"
            ) from error
    return Backup(written=written, header=header)


def _write(
    paths: Paths, settings: Settings, folder: Path, file: Path, header: Header, progress: Callable[[str], None]
) -> WrittenArchive:
    draft, found = folder / "archive", contents.Selection(elsewhere=_register(paths, settings))
    writer = archive.ArchiveWriter(draft, header, progress)
    try:
        contents.one(folder / contents.REGISTER, contents.REGISTER, writer.take)
        if _copy_ledger(paths, folder / contents.LEDGER):
            contents.one(folder / contents.LEDGER, f"{contents.STATE}/{contents.LEDGER}", writer.take)
        for name in contents.CONFIGURATION:
            source = paths.config / name
            if source.is_dir():
                found.folders[f"{contents.CONFIG}/{name}"] = 0o700
                for page in sorted(source.glob("*.md")):
                    contents.one(page, f"{contents.CONFIG}/{name}/{page.name}", writer.take)
            elif source.exists():
                contents.one(source, f"{contents.CONFIG}/{name}", writer.take)
        for path in _of_state(paths, workspaces=header.workspaces):
            place = f"{contents.STATE}/{path.name}"
            if place in found.elsewhere or path.name == contents.LEDGER:
                continue
            if path.is_dir():
                contents.walk(path, place, writer.take, found)
            elif path.is_file():
                contents.one(path, place, writer.take)
        files, changed = writer.finish(found)
    finally:
        writer.close()
    archive.publish(draft, file)
    return WrittenArchive(
        file=file,
        size=file.stat().st_size,
        files=files,
        left_out=tuple(found.left_out),
        changed=tuple(changed),
    )


def _copy_ledger(paths: Paths, target: Path) -> bool:
    """Copy a snapshot of the egress's ledger, which may be in use. Return False if there is none."""
    source = places(paths).ledger
    if not source.is_file():
        return False
    try:
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=10)) as reading,
            closing(sqlite3.connect(target)) as writing,
        ):
            reading.backup(writing)
    except sqlite3.Error as error:
        raise UserError(f"The ledger {source} cannot be copied: {error}.", code="backup.failed") from error
    return True


def _register(paths: Paths, settings: Settings) -> frozenset[str]:
    """Return the places of the register's files, which the snapshot replaces in the backup."""
    register = addresses.parse(settings.register_url)
    place = contents.within(paths.state, register.file) if isinstance(register, addresses.FileAddress) else None
    if place is None:
        return frozenset()
    return frozenset(f"{contents.STATE}/{place.with_name(name)}" for name in contents.files_of(place.name))


def _of_state(paths: Paths, *, workspaces: bool) -> list[Path]:
    return [
        path
        for path in sorted(paths.state.iterdir())
        if contents.belongs(path.name) or (workspaces and path.name == "workspaces")
    ]


def _target(paths: Paths, target: Path | None, now: float) -> Path:
    try:
        if target is None:
            target = paths.state / "backups"
            target.mkdir(mode=0o700, exist_ok=True)
        target = target.absolute()
        if target.is_dir():
            return archive.free_name(target, now)
        if not target.parent.is_dir():
            raise UserError(
                f"There is no folder {target.parent}. Create it, or name another place.", code="disk.unwritable"
            )
    except OSError as error:
        raise UserError(
            f"The backup cannot be written to {target}: {error.strerror}. Name another place.", code="disk.unwritable"
        ) from error
    return target
