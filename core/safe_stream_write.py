"""Writes to a stream whose peer may be gone. uvloop treats a write to a closed stream as an error."""

from __future__ import annotations

import asyncio


def send(writer: asyncio.StreamWriter, content: bytes) -> None:
    """Write `content` to the stream.

    Raises:
        ConnectionResetError: the connection is closed.
    """
    if writer.transport.is_closing():
        raise ConnectionResetError("the connection is closed")
    writer.write(content)


def send_end(writer: asyncio.StreamWriter) -> None:
    """Signal the end of the output to the peer, unless the stream is closed."""
    if not writer.transport.is_closing():
        writer.write_eof()
