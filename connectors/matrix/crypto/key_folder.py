"""The folder with our device's keys, and the thread in which they are used.

    STATE/keys/NAME/                0700
        pickle.key                  0600, random: what the secrets in the stores are encrypted with
        DIGEST.db                   0600, one for each device that Muster ever was

A device whose keys are lost cannot be made again: its name is known to others by keys that no one has any more. So a
store that is gone or broken is never replaced by a new one under the same device id.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import vodozemac

from connectors.contract.connector_protocol import NotReady
from connectors.matrix.crypto.key_store import KeyStore
from connectors.matrix.crypto.olm_machine import Machine
from core import durable_files
from core.errors import MusterError

_P = ParamSpec("_P")
_T = TypeVar("_T")

PICKLE_KEY = "pickle.key"
#: Seconds for which room keys are kept.
_KEPT = 180 * 86_400.0
#: What passes without harm to the keys: a disk that is full or fails just now, or someone else who holds the file.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
    }
)
_PASSING_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})


class KeysLost(MusterError):
    """The keys of this device are not there, or cannot be read; the message says which."""


class KeyFolder:
    """The keys of one device. Whatever touches them runs in one thread, one after the other."""

    def __init__(self, thread: ThreadPoolExecutor, machine: Machine) -> None:
        self._thread = thread
        self.machine = machine

    @classmethod
    async def open(
        cls, folder: Path, user: str, device: str, *, may_make: bool, clock: Callable[[], float]
    ) -> tuple[KeyFolder, bool]:
        """Return the keys of a device, and whether they were made just now.

        Args:
            folder: where it keeps keys.
            user: whose device it is.
            device: its id.
            may_make: whether no one knows of keys of this device yet, so that new ones may be made.
            clock: seconds since the epoch.

        Raises:
            KeysLost: there are none and none may be made, or they cannot be read.
            NotReady: the disk does not give or take them now.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="matrix-keys")
        loop = asyncio.get_running_loop()
        try:
            machine, made = await loop.run_in_executor(thread, _open, folder, user, device, may_make, clock)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(thread, machine), made

    async def run(self, function: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
        """Do something with the keys. It is done to its end even when no one waits for it any more.

        Raises:
            NotReady: the disk does not take it now; nothing of it was done.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*arguments, **named))
        except sqlite3.Error as error:
            raise _not_now(error) from error

    async def close(self) -> None:
        """Let go of the files, once what is under way has ended."""
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self.machine.store.close)
        self._thread.shutdown(wait=False)
        await asyncio.shield(closing)


def _file(folder: Path, device: str) -> Path:
    # Device ids are the homeserver's to choose: as names of files they are not.
    return folder / f"{hashlib.sha256(device.encode()).hexdigest()[:16]}.db"


def files_of(folder: Path, device: str) -> tuple[Path, Path]:
    """Return where the keys of a device are, and what opens them."""
    return _file(folder, device), folder / PICKLE_KEY


def _open(folder: Path, user: str, device: str, may_make: bool, clock: Callable[[], float]) -> tuple[Machine, bool]:
    file = _file(folder, device)
    try:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        exists = file.exists()
        if not exists and not may_make:
            raise KeysLost(f"{file} is gone")
        store = KeyStore(file, _pickle_key(folder, may_make=not exists))
    except (OSError, sqlite3.Error, ValueError) as error:
        if _passes(error):
            raise _not_now(error) from error
        raise KeysLost(f"{file} cannot be read: {error}") from error
    try:
        account = store.account()
        made = account is None
        if account is None:
            if not may_make:
                raise KeysLost(f"{file} is empty")
            with store.transaction():
                store.make_account(vodozemac.Account(), user, device)
        elif store.owner() != (user, device):
            raise KeysLost(f"{file} is of another device")
        store.prune(clock() - _KEPT)
    except (sqlite3.Error, ValueError) as error:
        store.close()
        if _passes(error):
            raise _not_now(error) from error
        raise KeysLost(f"{file} cannot be read with {folder / PICKLE_KEY}: {error}") from error
    except BaseException:
        store.close()
        raise
    return Machine(user=user, device=device, store=store, clock=clock), made


def _passes(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error):
        # The lower byte is the kind of error, whose kinds the rest tells apart.
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING
    return isinstance(error, OSError) and error.errno in _PASSING_ERRORS


def _not_now(error: Exception) -> NotReady:
    return NotReady(f"The keys of encrypted rooms cannot be written or read: {error}.")


def _pickle_key(folder: Path, *, may_make: bool) -> bytes:
    place = folder / PICKLE_KEY
    if not place.exists() and may_make:
        durable_files.write(place, secrets.token_hex(32))
    key = bytes.fromhex(place.read_text().strip())
    if len(key) != 32:
        raise ValueError(f"{place} is no key")
    os.chmod(place, 0o600)
    return key
