"""The backup file: a compressed tar of plain files, with a header at its start and a manifest at its end.

    muster-backup.json     what wrote it and when: read first, so that an unsupported archive is refused at once
    config/...  state/...  register.db
    manifest.json          every file with its size and SHA-256, the folders, the links

Folders and links are listed in the manifest only, so an archive contains nothing but plain files.
`bot.maintenance.backup.reader` reads it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import secrets
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from bot.maintenance.backup import contents
from bot.text.errors import UserError
from core.crash_points import around, declare
from core.durable_files import sync_folder

WRITE = declare("backup.write")

#: Increased when older versions of Muster could no longer read an archive.
FORMAT: Final = 1

HEADER: Final = "muster-backup.json"
MANIFEST: Final = "manifest.json"
_LEVEL: Final = 3
_ABANDONED_AFTER: Final = 3600.0  # seconds after which a draft is what a crash left behind


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The metadata at the start of an archive."""

    muster: str
    #: The revision of the register's schema.
    schema: str
    #: Seconds since the epoch.
    made_at: float
    host: str
    #: sqlite or postgresql: the kind of register.
    register: str
    #: The number of rows in each table.
    rows: Mapping[str, int]
    workspaces: bool
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenArchive:
    """A completed archive."""

    file: Path
    size: int
    files: int
    left_out: tuple[str, ...]
    #: Files that changed while they were copied.
    changed: tuple[str, ...]


class ArchiveWriter:
    """A writer for one archive. The target name is only used by `publish`, after `finish`."""

    def __init__(self, draft: Path, header: Header, progress: Callable[[str], None]) -> None:
        self._progress = progress
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._stream = open(descriptor, "wb")  # noqa: SIM115 (`close` does)
        try:
            self._tar = tarfile.open(  # noqa: SIM115 (`finish` does)
                fileobj=self._stream, mode="w:gz", compresslevel=_LEVEL, format=tarfile.PAX_FORMAT
            )
        except BaseException:
            self._stream.close()
            raise
        self._files: dict[str, Any] = {}
        self._changed: list[str] = []
        self._told = 0.0
        self._own(HEADER, json.dumps(asdict(header)).encode())

    def take(self, place: str, stream: BinaryIO, status: os.stat_result) -> None:
        """Add a file of exactly `status.st_size` bytes: growth is ignored, and a shortfall is filled with zeros."""
        member = tarfile.TarInfo(place)
        member.size, member.mtime, member.mode = status.st_size, int(status.st_mtime), status.st_mode & 0o777
        source = _Exactly(stream, status.st_size)
        self._tar.addfile(member, source)
        after = os.fstat(stream.fileno())
        if source.short or (after.st_mtime_ns, after.st_size) != (status.st_mtime_ns, status.st_size):
            self._changed.append(place)
        self._files[place] = {"size": status.st_size, "sha256": source.digest.hexdigest(), "mode": member.mode}
        if time.monotonic() - self._told > 0.2:
            self._told = time.monotonic()
            self._progress(f"{len(self._files)} files, {place}")

    def finish(self, found: contents.Selection) -> tuple[int, list[str]]:
        """Write the manifest; return the number of files, and the files that changed while they were copied."""
        manifest = {
            "files": self._files,
            "folders": found.folders,
            "links": found.links,
            "left_out": found.left_out,
            "changed": self._changed,
        }
        self._own(MANIFEST, json.dumps(manifest).encode())
        self._tar.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return len(self._files), self._changed

    def close(self) -> None:
        """Close the file, finished or not."""
        with contextlib.suppress(OSError):
            self._stream.close()

    def _own(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o600
        self._tar.addfile(member, io.BytesIO(content))


class _Exactly:
    """A reader of exactly `size` bytes with their checksum; a shorter stream is filled with zeros."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size
        self.digest = hashlib.sha256()
        self.short = False

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        block = self._stream.read(wanted) if not self.short else b""
        if len(block) < wanted:
            self.short = True
            block += b"\0" * (wanted - len(block))
        self._left -= len(block)
        self.digest.update(block)
        return block


@contextlib.contextmanager
def drafted(target: Path) -> Iterator[Path]:
    """Yield a folder for drafts beside `target`, and delete it with its content at the end of the block.

    Raises:
        UserError: `target` exists, or its folder is not writable.
    """
    if os.path.lexists(target):
        raise UserError(f"{target} is there already. Name another file, or move it away.", code="backup.exists")
    try:
        for abandoned in target.parent.glob(".muster-backup.*.part"):
            if time.time() - abandoned.stat().st_mtime > _ABANDONED_AFTER:
                shutil.rmtree(abandoned, ignore_errors=True)
        folder = target.parent / f".muster-backup.{secrets.token_hex(4)}.part"
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise UserError(
            f"{target.parent} cannot be written: {error.strerror}. Name another place.", code="disk.unwritable"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(draft: Path, target: Path) -> None:
    """Give a finished archive its name; a file that was created there meanwhile is not overwritten."""
    with around(WRITE):
        try:
            os.link(draft, target)
        except FileExistsError:
            raise UserError(
                f"{target} is there already. Name another file, or move it away.", code="backup.exists"
            ) from None
        except OSError:  # a file system that knows no second names
            if os.path.lexists(target):
                raise
            os.rename(draft, target)
        sync_folder(target.parent)


def free_name(folder: Path, made_at: float) -> Path:
    """Return the default name of a backup: the time to the second, with a number if that name is taken."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(made_at))
    names = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    files = (folder / f"muster-backup-{stamp}{more}.tar.gz" for more in names)
    return next(file for file in files if not os.path.lexists(file))
