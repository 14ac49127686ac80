"""What is kept of setting a homeserver up, so that the same command goes on where it was stopped.

In the folder ``conduit`` of Muster's state, for this user alone, for each connector::

    NAME.json                what was done: names, ids, devices
    NAME.token               the bot's access token, to which muster.yaml refers
    NAME.bot-password        with which a new token is had when that one is over
    NAME.operator-password   the person's first one; theirs to put elsewhere and delete
    NAME.acting              there while we are logged in as the operator

A secret is on the disk before the homeserver hears it, or the account would be lost with this process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.config.loader import Paths
from conduit.errors import ProvisionError
from core import crash_points, durable_files

KEEP = crash_points.declare("provision.keep")
TOKEN = crash_points.declare("provision.token")

#: Bytes of chance in a password: 32 characters, none of which must be quoted anywhere.
_PASSWORD = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class SetupRecord:
    """How far it came. No secrets."""

    homeserver: str
    operator: str
    """The name, as it was asked for."""
    bot: str
    device: str
    """The bot's: Muster's messages are told apart within one device, so it stays when the token changes."""
    mark: str
    """Is in the room that is made, and in no other."""
    operator_id: str | None = None
    """The whole id, once the homeserver knows the user."""
    bot_id: str | None = None
    room_begun: bool = False
    """Whether a room was asked for, whose id may not have come back."""
    room: str | None = None
    lifted: bool = False
    """Whether the homeserver lets the bot write as fast as it likes, or will not."""
    former_room: str | None = None
    """The one before, which is out of reach."""


class RecordFolder:
    """The folder, held against a second provisioning while it is open."""

    def __init__(self, paths: Paths, connector: str) -> None:
        self._folder = paths.state / "conduit"
        self._connector = connector

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep others out.

        Raises:
            ProvisionError: someone is in, or the folder cannot be made.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ProvisionError(f"The folder {self._folder} cannot be used: {error.strerror}.") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ProvisionError("Another provisioning is under way here. Wait until it has ended.") from None
            yield
        finally:
            os.close(handle)

    @property
    def token_file(self) -> Path:
        """The bot's access token."""
        return self._place("token")

    @property
    def operator_password_file(self) -> Path:
        """The operator's first password."""
        return self._place("operator-password")

    @property
    def record_file(self) -> Path:
        """What was done."""
        return self._place("json")

    def record(self) -> SetupRecord | None:
        """Return how far it came; None when it was never begun.

        Raises:
            ProvisionError: what is there cannot be understood.
        """
        text = self._read("json")
        if text is None:
            return None
        try:
            found: Any = json.loads(text)
            return SetupRecord(**found)
        except (ValueError, TypeError):
            raise ProvisionError(
                f"{self.record_file} cannot be understood; another version wrote it, or it was edited. Move it away "
                "and run the same command again: what there is on the homeserver is found by the kept passwords."
            ) from None

    def write(self, record: SetupRecord) -> SetupRecord:
        """Put down how far it came."""
        with crash_points.around(KEEP):
            self._write("json", json.dumps(dataclasses.asdict(record), indent=2) + "\n")
        return record

    def password(self, whose: str) -> str | None:
        """Return the kept one of ``bot`` or ``operator``."""
        return self._read(f"{whose}-password")

    def new_password(self, whose: str) -> str:
        """Return one that no one knows, on the disk before it is used; the kept one if there is one."""
        found = self.password(whose)
        if found is None:
            found = secrets.token_urlsafe(_PASSWORD)
            self._write(f"{whose}-password", found + "\n")
        return found

    def drop_unlike(self, whose: str, password: str) -> None:
        """`password` is theirs: a kept one that is another, from a run that failed, opens nothing."""
        if self.password(whose) not in (None, password):
            self._place(f"{whose}-password").unlink(missing_ok=True)

    def token(self) -> str | None:
        """Return the bot's access token."""
        return self._read("token")

    def write_token(self, token: str) -> None:
        """Keep the bot's access token."""
        with crash_points.around(TOKEN):
            self._write("token", token + "\n")

    def is_acting(self) -> bool:
        """Return whether we are logged in as the operator, or may be: a run was killed meanwhile."""
        return self._place("acting").exists()

    def begin_acting(self) -> None:
        """We are about to log in as the operator."""
        self._write("acting", "")

    def end_acting(self) -> None:
        """We are not, any more."""
        self._place("acting").unlink(missing_ok=True)

    def _place(self, kind: str) -> Path:
        return self._folder / f"{self._connector}.{kind}"

    def _read(self, kind: str) -> str | None:
        place = self._place(kind)
        try:
            return place.read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ProvisionError(f"{place} cannot be read: {error}. Fix it, or move it away.") from error

    def _write(self, kind: str, text: str) -> None:
        place = self._place(kind)
        try:
            durable_files.write(place, text)
        except OSError as error:
            raise ProvisionError(
                f"{place} cannot be written: {error.strerror}. Then run the same command again."
            ) from error
