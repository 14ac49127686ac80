"""Writing to the other end of a stream, which may be gone: uvloop takes a write to a closed one for a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


def send(writer: asyncio.StreamWriter, content: bytes) -> None:
    """Put this on its way.

    Raises:
        ConnectionResetError: the connection is closed.
    """
    if writer.transport.is_closing():
        raise ConnectionResetError("the connection is closed")
    writer.write(content)


def send_end(writer: asyncio.StreamWriter) -> None:
    """Tell the other end that nothing more comes. Where it is gone, there is nothing to tell."""
    if not writer.transport.is_closing():
        writer.write_eof()
