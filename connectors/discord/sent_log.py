"""Which messages are ours, and under which nonce each was sent.

Discord forgets nonces after minutes and shows them in no history. So whatever it took is written down here before
anything else is sent in that conversation; what is there and is not in the record is what a crash kept from it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import structlog

from connectors.discord.append_only_file import LineFile
from core.crash_points import declare

WRITE = declare("discord.sent")

FILE = "sent"
#: Sent messages whose ids are remembered.
MOST_KEPT = 10_000

_log = structlog.get_logger(__name__)


class SentLog:
    """Nonces and the messages that have them, the latest ten thousand."""

    def __init__(self, path: Path) -> None:
        self._messages: OrderedDict[str, str] = OrderedDict()
        self._nonces: dict[str, str] = {}
        self._file = LineFile(path, WRITE, most=2 * MOST_KEPT)
        for line in self._file.read():
            # The last line may have been cut off in the middle.
            nonce, _, message = line.partition(" ")
            if nonce and message.endswith("."):
                self._keep(nonce, message[:-1])

    def message(self, nonce: str) -> str | None:
        """Return the message that was sent under a nonce."""
        return self._messages.get(nonce)

    def knows(self, message: str) -> bool:
        """Return whether it is known under which nonce this message was sent."""
        return message in self._nonces

    async def put(self, nonce: str, message: str) -> None:
        """Write one down. What cannot be written is known until the next start."""
        if self._messages.get(nonce) == message:
            await self._file.appended()  # whoever put it first has written it by now
            return
        self._keep(nonce, message)
        try:
            await self._file.append(_line(nonce, message), all_lines=self._lines)
        except OSError as error:
            _log.error("discord_sent_not_kept", reason=str(error))

    def _lines(self) -> Iterator[str]:
        return (_line(nonce, message) for nonce, message in self._messages.items())

    def _keep(self, nonce: str, message: str) -> None:
        self._messages[nonce] = message
        self._messages.move_to_end(nonce)
        self._nonces[message] = nonce
        if len(self._messages) > MOST_KEPT:
            _, oldest = self._messages.popitem(last=False)
            self._nonces.pop(oldest, None)


def _line(nonce: str, message: str) -> str:
    return f"{nonce} {message}."
