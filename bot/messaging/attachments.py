"""Pictures and text files that operators send to agents."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.messaging import private_files
from bot.text import markdown
from connectors.contract.connector_protocol import Connector, MessageRefused
from connectors.contract.messages import Attachment, Inbound

#: Maximum size of a picture in bytes; models take no larger ones.
LARGEST = 5 * 1024 * 1024
#: Maximum number of pictures in a message, and their total size in bytes: an agent host takes no more at once.
MOST = 8
LARGEST_TOGETHER = 11 * 1024 * 1024
#: Maximum size of a text file in bytes.
LONGEST_TEXT = 64 * 1024
_MEDIA_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


@dataclass(frozen=True, slots=True)
class Fetched:
    kept: Sequence[Mapping[str, Any]]
    """``path``, ``name`` and ``media_type`` of each picture."""
    refused: Sequence[str]
    """A sentence for each attachment that is not passed on."""
    words: Sequence[str] = ()
    """The content of each text file, after its name. Chat programs turn long pasted texts into files."""


@dataclass(frozen=True, slots=True)
class Pictures:
    folder: Path
    connector: Callable[[str], Connector | None]

    async def fetch(self, inbound: Inbound, attachments: Sequence[Attachment]) -> Fetched:
        """Download the pictures and texts among `attachments`.

        Raises:
            TryLater: the chat system is unavailable; the event is handled again.
        """
        kept: list[Mapping[str, Any]] = []
        refused: list[str] = []
        words: list[str] = []
        source = self.connector(inbound.connector)
        room = LARGEST_TOGETHER
        for index, attachment in enumerate(attachments):
            name = markdown.one_line(attachment.name, 60)
            is_text = attachment.media_type.startswith("text/")
            if not is_text and attachment.media_type not in _MEDIA_TYPES:
                refused.append(
                    f"{markdown.code(name)} was not passed on: agents get texts, and PNG, JPEG, GIF and WebP pictures."
                )
            elif index >= MOST or source is None:
                refused.append(f"{markdown.code(name)} was not passed on: a message may have {MOST} files.")
            else:
                try:
                    content = await source.download(attachment, limit=min(LONGEST_TEXT if is_text else LARGEST, room))
                except MessageRefused as error:
                    refused.append(f"{markdown.code(name)} was not passed on: {error}")
                    continue
                room -= len(content)
                if is_text:
                    words.append(f"{name}:\n{markdown.code_block(content.decode('utf-8', 'replace'))}")
                    continue
                path = self._path(inbound, index)
                await asyncio.to_thread(private_files.put, path, content)
                kept.append({"path": str(path), "name": name, "media_type": attachment.media_type})
        return Fetched(kept, refused, words)

    def _path(self, inbound: Inbound, index: int) -> Path:
        digest = hashlib.blake2s(f"{inbound.connector}\0{inbound.event_id}\0{index}".encode(), digest_size=12)
        return self.folder / digest.hexdigest()


def encoded(picture: Mapping[str, object]) -> dict[str, str]:
    """Return a stored picture in the format of the control protocol.

    Raises:
        OSError: the picture cannot be read.
    """
    return {
        "name": str(picture["name"]),
        "media_type": str(picture["media_type"]),
        "data": base64.b64encode(Path(str(picture["path"])).read_bytes()).decode(),
    }
