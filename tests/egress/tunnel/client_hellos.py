"""ClientHellos: a real one of OpenSSL's, and such as no honest client writes."""

from __future__ import annotations

import contextlib
import ssl


def real(name: str | None) -> bytes:
    """What OpenSSL sends first, as one record."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def vector(width: int, content: bytes) -> bytes:
    return len(content).to_bytes(width, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, content)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def message(*extensions: bytes) -> bytes:
    """A handshake message."""
    body = b"\x03\x03" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\x00")
    body += vector(2, b"".join(extensions))
    return b"\x01" + vector(3, body)


def record(content: bytes, kind: int = 22) -> bytes:
    return bytes([kind, 3, 1]) + vector(2, content)


def records(content: bytes, size: int) -> bytes:
    """The same message in records of so many bytes each."""
    return b"".join(record(content[at : at + size]) for at in range(0, len(content), size))
