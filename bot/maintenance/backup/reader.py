"""The reader of backup files, which treats them as untrusted.

An archive of Muster's contains only plain files, under names inside its folder (`bot.maintenance.backup.archive`). Any
other archive is refused. The module does not use `TarFile.extractall`, whose protections have been bypassed before (PEP
706 and later).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Self

from bot.maintenance.backup import contents
from bot.maintenance.backup.archive import FORMAT, HEADER, MANIFEST, Header
from bot.text.errors import UserError

_BLOCK: Final = 2**20
#: Bytes.
_LONGEST_HEADER: Final = 2**16
_LONGEST_MANIFEST: Final = 2**28
#: Seconds since the epoch; the year 10000.
_END_OF_TIME: Final = 253402300800.0


class BadArchive(UserError):
    """The file is not a backup, or it is incomplete."""

    code = "backup.invalid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The contents of an archive according to its manifest."""

    files: Mapping[str, Mapping[str, Any]]
    folders: Mapping[str, int]
    links: Mapping[str, str]

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Parse a manifest.

        Raises:
            BadArchive: anything in it is invalid.
        """
        try:
            source = json.loads(content)
            files = {str(k): {"sha256": str(v["sha256"])} for k, v in source["files"].items()}
            made = cls(
                files=files,
                folders={str(k): int(v) & 0o777 for k, v in source["folders"].items()},
                links={str(k): str(v) for k, v in source["links"].items()},
            )
        except (ValueError, OverflowError, TypeError, KeyError, AttributeError, RecursionError):
            raise BadArchive("Its manifest cannot be read.") from None
        for place in (*made.files, *made.folders, *made.links):
            check_place(place)
        for place, leads_to in made.links.items():
            if not contents.may_link(place) or not leads_to or "\0" in leads_to:
                raise BadArchive(f"It has a link where none may be: {place[:200]!r}.")
        return made


def check_place(place: str) -> None:
    """Raise `BadArchive` unless a backup of Muster's may contain `place`."""
    parts = place.split("/")
    plain = all(part not in ("", ".", "..") for part in parts) and "\0" not in place
    inside = place == contents.REGISTER or (
        parts[0] == contents.CONFIG and parts[1:2] and parts[1] in contents.CONFIGURATION
    )
    inside = inside or (
        parts[0] == contents.STATE and len(parts) > 1 and (parts[1] == "workspaces" or contents.belongs(parts[1]))
    )
    if not plain or not inside:
        raise BadArchive(f"It has a name that no backup has: {place[:200]!r}.")


def header(file: Path) -> Header:
    """Return the header of an archive, from its first bytes.

    Raises:
        BadArchive: it is not a backup, or it was written by a newer Muster.
    """
    with _opened(file) as tar:
        return _header(file, tar)


def unpack(file: Path, folder: Path, progress: Callable[[str], None] = lambda _: None) -> Header:
    """Unpack an archive into an empty folder of Muster's, verify it, and return its header.

    Raises:
        BadArchive: it is not a backup, it is incomplete, or it contains anything else.
        UserError: it cannot be read.
        OSError: the disk is full.
    """
    with _opened(file) as tar:
        found = _header(file, tar)
        sums: dict[str, str] = {}
        manifest: Manifest | None = None
        told = 0.0
        while (member := tar.next()) is not None:
            if manifest is not None:
                raise BadArchive(f"{file.name} has data after its manifest.")
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                raise BadArchive(f"{file.name} contains something other than plain files: {member.name[:200]!r}.")
            stream = tar.extractfile(member)
            assert stream is not None
            if member.name == MANIFEST:
                if member.size > _LONGEST_MANIFEST:
                    raise BadArchive(f"The manifest of {file.name} is too long.")
                manifest = Manifest.read(stream.read())
                continue
            check_place(member.name)
            if member.name in sums:
                raise BadArchive(f"{file.name} has {member.name[:200]!r} twice.")
            sums[member.name] = _write(folder / member.name, stream, member)
            if time.monotonic() - told > 0.2:
                told = time.monotonic()
                progress(f"{len(sums)} files, {member.name}")
        while tar.fileobj is not None and tar.fileobj.read(_BLOCK):
            pass  # at its end stands the checksum of all of it, the manifest included
        if manifest is None:
            raise BadArchive(f"{file.name} is incomplete: its manifest is missing. Use another backup.")
        _compare(file, sums, manifest)
        _finish(folder, manifest)
    return found


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, "r:gz") as tar:
            yield tar
    except BadArchive as error:
        if file.name in str(error):
            raise
        raise BadArchive(f"{file} is refused. {error}") from error
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError, RecursionError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise BadArchive(f"{file} is damaged, or not a Muster backup ({reason}). Take another one.") from error
    except FileNotFoundError as error:
        if error.filename not in (str(file), file):
            raise
        raise UserError(f"There is no file {file}.", code="backup.unknown") from None
    except OSError as error:
        if error.errno in contents.NO_ROOM:
            raise  # it is for the caller to say what happens to it
        if error.strerror is None:  # gzip's own
            raise BadArchive(f"{file} is damaged, or not a Muster backup ({error}). Take another one.") from error
        raise UserError(f"{file} cannot be unpacked: {error.strerror}.", code="disk.unwritable") from error


def _header(file: Path, tar: tarfile.TarFile) -> Header:
    first = tar.next()
    stream = tar.extractfile(first) if first is not None and first.isreg() else None
    if first is None or stream is None or first.name != HEADER or first.size > _LONGEST_HEADER:
        raise BadArchive(f"{file} is not a Muster backup.")
    try:
        source = json.loads(stream.read())
        form = source["format"]
        if isinstance(form, int) and form > FORMAT:
            raise BadArchive(
                f"{file} was written by a newer Muster ({str(source.get('muster'))[:40]}), and this one does not know "
                "its format. Install that version first."
            )
        made_at = float(source["made_at"])
        if not 0 <= made_at < _END_OF_TIME:
            raise ValueError(made_at)
        return Header(
            muster=str(source["muster"])[:40],
            schema=str(source["schema"])[:40],
            made_at=made_at,
            host=str(source["host"])[:255],
            register=str(source["register"])[:40],
            rows={str(name): int(count) for name, count in source["rows"].items()},
            workspaces=bool(source["workspaces"]),
            format=int(form),
        )
    except (ValueError, OverflowError, TypeError, KeyError, AttributeError, RecursionError):
        raise BadArchive(f"{file} is not a Muster backup: its header cannot be read.") from None


def _write(path: Path, stream: IO[bytes], member: tarfile.TarInfo) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    left = member.size
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        while left:
            block = stream.read(min(_BLOCK, left))
            if not block:
                raise EOFError("it ends in the middle of a file")
            digest.update(block)
            file.write(block)
            left -= len(block)
        file.flush()
        os.fchmod(file.fileno(), member.mode & 0o777 | 0o400)
        os.utime(file.fileno(), (member.mtime, member.mtime))
    return digest.hexdigest()


def _compare(file: Path, sums: Mapping[str, str], manifest: Manifest) -> None:
    for place in sorted(sums.keys() | manifest.files.keys()):
        if place not in sums:
            raise BadArchive(f"{file} is damaged: {place[:200]!r} is missing. Use another backup.")
        if place not in manifest.files:
            raise BadArchive(f"{file} has a file that its manifest does not list: {place[:200]!r}.")
        if sums[place] != manifest.files[place]["sha256"]:
            raise BadArchive(f"{file} is damaged: {place[:200]!r} is not what was put in. Take another backup.")
    if contents.REGISTER not in sums:
        raise BadArchive(f"{file} holds no register.")


def _finish(folder: Path, manifest: Manifest) -> None:
    """Create folders and then links, after all files: so nothing is ever written through a link."""
    for place in sorted(manifest.folders):
        (folder / place).mkdir(mode=0o700, parents=True, exist_ok=True)
    taken = set(manifest.files) | set(manifest.folders)
    for place, leads_to in manifest.links.items():
        above = [str(each) for each in PurePosixPath(place).parents]
        if place in taken or any(each in manifest.links for each in above):
            raise BadArchive(f"It has a link in the way of something else: {place[:200]!r}.")
        (folder / place).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.symlink(leads_to, folder / place)
    for place in sorted(manifest.folders, reverse=True):
        # Muster's own folders are closed to others, whatever the archive says. Agents' own folders keep their mode.
        (folder / place).chmod(manifest.folders[place] | 0o700 if contents.may_link(f"{place}/x") else 0o700)
