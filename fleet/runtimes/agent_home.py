"""An agent's home, seen from outside.

The agent writes in it as it likes, so to whoever acts on the host it is hostile: a file there may be a link to one of
the operator's. Nothing here follows links below the home.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from fleet.errors import FleetError

#: Bytes of a file in which keys are set; one that is larger is replaced.
_LARGEST_NOTED = 4 * 2**20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def place(home: Path, name: PurePosixPath, content: bytes) -> None:
    """Write `content` to the file `name` below `home`, 0600, whole or not at all; make the folders on the way.

    Raises:
        FleetError: there is a link or a file where a folder should be.
    """
    with _folder(home, name.parent) as folder:
        part = f".{name.name}.{secrets.token_hex(4)}"
        descriptor = os.open(
            part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
        )
        with open(descriptor, "wb") as file:
            file.write(content)
        os.rename(part, name.name, src_dir_fd=folder, dst_dir_fd=folder)


def note(home: Path, name: PurePosixPath, keys: Mapping[str, object]) -> None:
    """Set keys in the JSON object in the file `name` below `home`, and keep its others. What is no object is replaced.

    Raises:
        FleetError: there is a link or a file where a folder should be.
    """
    try:
        known = json.loads(_content(home, name) or b"{}")
    except (ValueError, RecursionError):
        known = {}
    known = known if isinstance(known, dict) else {}
    noted = {**known, **keys}
    if noted != known:
        place(home, name, json.dumps(noted, indent=2).encode())


def _content(home: Path, name: PurePosixPath) -> bytes | None:
    """Return what a plain file holds, as far as it is not too large; None where there is none."""
    try:
        with _folder(home, name.parent, make=False) as folder:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(name.name, flags, dir_fd=folder)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        return file.read(_LARGEST_NOTED) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def make_folder(home: Path, name: PurePosixPath) -> None:
    """Make the folder `name` below `home`, 0700, if it is not there.

    Raises:
        FleetError: there is a link or a file in its place.
    """
    with _folder(home, name):
        pass


def renew(home: Path, name: PurePosixPath, *, folder: bool) -> None:
    """Put an empty file (or `folder`) in place of whatever is called `name` below `home`.

    What cannot be deleted (folders that the agent closed, or nested too deep) is put aside under another name.

    Raises:
        FleetError: there is a link or a file where a folder should be.
    """
    with _folder(home, name.parent):
        remove(home, name)
    if folder:
        make_folder(home, name)
    else:
        place(home, name, b"")


def remove(home: Path, name: PurePosixPath) -> None:
    """Take away whatever is called `name` below `home`, if there is such a thing.

    Raises:
        FleetError: there is a link or a file where a folder should be.
    """
    with contextlib.suppress(FileNotFoundError), _folder(home, name.parent, make=False) as parent:
        found = os.stat(name.name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            _remove(name.name, parent)
        else:
            os.unlink(name.name, dir_fd=parent)


def _remove(name: str, parent: int) -> None:
    try:
        shutil.rmtree(name, dir_fd=parent)
    except (OSError, RecursionError):
        os.rename(name, f".{name}.{secrets.token_hex(4)}", src_dir_fd=parent, dst_dir_fd=parent)


def modified(home: Path, name: PurePosixPath) -> float | None:
    """Return when the file `name` below `home` was last written, in epoch seconds; None where there is no plain
    file."""
    try:
        with _folder(home, name.parent, make=False) as folder:
            found = os.stat(name.name, dir_fd=folder, follow_symlinks=False)
    except (FleetError, FileNotFoundError):
        return None
    return found.st_mtime if stat.S_ISREG(found.st_mode) else None


@contextlib.contextmanager
def _folder(home: Path, name: PurePosixPath, *, make: bool = True) -> Iterator[int]:
    current = os.open(home, _FOLDER)
    try:
        for part in name.parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=current)
            try:
                below = os.open(part, _FOLDER, dir_fd=current)
            except FileNotFoundError:
                raise
            except OSError:
                raise FleetError(
                    f"{home / name}: there is a link or a file where a folder should be. Move it away.",
                    code="home.unusable",
                ) from None
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)
