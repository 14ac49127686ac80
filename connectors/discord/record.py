"""Which messages are ours, and under which nonce each was sent.

Discord forgets nonces after minutes and shows them in no history. So whatever it took is written down here before
anything else is sent in that conversation; what stands there and is not in the record is what a crash kept from it.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from typing import TYPE_CHECKING

import structlog

from register import files

if TYPE_CHECKING:
    from pathlib import Path

FILE = "sent"
_MOST = 10_000

_log = structlog.get_logger(__name__)


class Record:
    """Nonces and the messages that have them, the latest ten thousand."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._messages: OrderedDict[str, str] = OrderedDict()
        self._nonces: dict[str, str] = {}
        self._lines = 0
        self._begun = False
        self._writing = asyncio.Lock()
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        for line in lines:
            # The last line may have been cut off in the middle.
            nonce, _, message = line.partition(" ")
            if nonce and message.endswith("."):
                self._keep(nonce, message[:-1])
        self._lines = len(lines)

    def message(self, nonce: str) -> str | None:
        """The message that was sent under a nonce."""
        return self._messages.get(nonce)

    def knows(self, message: str) -> bool:
        """Whether it is known under which nonce this message was sent."""
        return message in self._nonces

    async def put(self, nonce: str, message: str) -> None:
        """Write one down. What cannot be written is known until the next start."""
        known = self._messages.get(nonce) == message
        if not known:
            self._keep(nonce, message)
        async with self._writing:
            if known:
                return  # whoever put it first has written it by now
            whole = None
            if self._lines >= 2 * _MOST:
                whole = "".join(f"{nonce} {message}.\n" for nonce, message in self._messages.items())
            try:
                await asyncio.to_thread(self._write, f"{nonce} {message}.\n", whole)
            except OSError as error:
                _log.error("discord_sent_not_kept", reason=str(error))

    def _keep(self, nonce: str, message: str) -> None:
        self._messages[nonce] = message
        self._messages.move_to_end(nonce)
        self._nonces[message] = nonce
        if len(self._messages) > _MOST:
            _, oldest = self._messages.popitem(last=False)
            self._nonces.pop(oldest, None)

    def _write(self, line: str, whole: str | None) -> None:
        if whole is not None:
            files.write(self._path, whole)
            self._lines = whole.count("\n")
            return
        number = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # The first line is one of its own, also after one that was cut off.
            os.write(number, (line if self._begun else f"\n{line}").encode())
        finally:
            os.close(number)
        self._begun = True
        self._lines += 1
