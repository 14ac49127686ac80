"""Checks which host a TLS connection is meant for, from its ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3).

An agent that may reach one host of a large front end must not reach others by naming them in the handshake. So the
handshake must contain a readable name, and it must match the tunnel's target. Pure: bytes in, bytes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from core.errors import MusterError

#: The longest ClientHello; one with many key shares and a session ticket has about 3 KB.
LONGEST_HELLO: Final = 16 * 1024
#: The same on the wire: a ClientHello may be split into tiny records, but the overhead is limited.
LONGEST_FLIGHT: Final = 32 * 1024

_RECORD: Final = 5
_CHANGE_CIPHER_SPEC: Final = 20
_HANDSHAKE: Final = 22
_APPLICATION_DATA: Final = 23
_LONGEST_FRAGMENT: Final = 1 << 14
_CLIENT_HELLO: Final = 1

_SERVER_NAME: Final = 0
_EARLY_DATA: Final = 42
#: RFC 9849, and earlier drafts that clients still send.
_ENCRYPTED_NAMES: Final = frozenset({0xFE0D, 0xFE08, 0xFE09, 0xFE0A, 0xFFCE})


class NameNotShown(MusterError):
    """The handshake does not show that the connection is meant for the tunnel's target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientHello:
    """The relevant parts of a ClientHello."""

    server_name: str | None
    """The name as sent, in lower case."""
    early_data: bool = False
    """Whether application data may follow before the server has answered."""


class ClientHelloReader:
    """Holds back a client's bytes until its ClientHello is complete and names the right host, then releases them.

    A server may ask for a second ClientHello (HelloRetryRequest), which is checked as well. Later bytes pass unchecked,
    because they are encrypted.
    """

    def __init__(self, host: str, *, is_address: bool = False) -> None:
        """`host` is canonical (egress.tunnel.host_allowlist.TunnelTarget.host). For an address, a ClientHello needs no
        server name."""
        self._host = host
        self._is_address = is_address
        self._held = bytearray()
        self._at = 0
        """Up to here whole records of `_held` were looked at."""
        self._begun = 0
        """Here the ClientHello begins that is being put together."""
        self._message = bytearray()
        self._hellos = 0
        self._opening = True
        """A ClientHello is being put together."""
        self._skip = 0
        """So many bytes of a record that needs no look are still to come."""
        self._early = False
        self._settled = False

    @property
    def opened(self) -> bool:
        """Whether a first ClientHello was accepted."""
        return self._hellos > 0

    @property
    def settled(self) -> bool:
        """Whether all further bytes pass unchecked."""
        return self._settled

    def feed(self, content: bytes) -> bytes:
        """Take the client's next bytes, and return those that may be sent to the server now.

        Raises:
            NameNotShown: the connection must not continue.
        """
        if self._settled:
            return content
        self._held += content
        while self._step():
            pass
        if self._opening and len(self._held) - self._begun > LONGEST_FLIGHT:
            raise NameNotShown(f"its TLS handshake starts with more than {LONGEST_FLIGHT} bytes.")
        if self._settled:
            passing, self._held = bytes(self._held), bytearray()
        else:
            # All records of one ClientHello are sent together, or not at all.
            whole = self._begun if self._opening else self._at
            passing = bytes(self._held[:whole])
            del self._held[:whole]
            self._at -= whole
            self._begun = 0
        return passing

    def _step(self) -> bool:
        """Check one more record. Return False if more bytes are needed, or no more checks are."""
        if self._settled:
            return False
        waiting = len(self._held) - self._at
        if self._skip:
            taken = min(self._skip, waiting)
            self._skip -= taken
            self._at += taken
            return taken > 0 and self._skip == 0
        if self._opening and waiting and self._held[self._at] != _HANDSHAKE:
            raise NameNotShown("it is not TLS, or does not begin with a ClientHello.")
        if waiting < _RECORD:
            return False
        kind, major = self._held[self._at], self._held[self._at + 1]
        length = int.from_bytes(self._held[self._at + 3 : self._at + _RECORD], "big")
        if not self._opening:
            return self._between(kind, length)
        if major != 3 or not 0 < length <= _LONGEST_FRAGMENT:
            raise NameNotShown("its first TLS record is malformed.")
        if waiting < _RECORD + length:
            return False
        self._message += self._held[self._at + _RECORD : self._at + _RECORD + length]
        self._at += _RECORD + length
        self._assemble()
        return True

    def _assemble(self) -> None:
        if self._message[0] != _CLIENT_HELLO:
            raise NameNotShown("its TLS handshake does not begin with a ClientHello.")
        if len(self._message) < 4:
            return
        length = int.from_bytes(self._message[1:4], "big")
        if length > LONGEST_HELLO:
            raise NameNotShown(f"its ClientHello is longer than {LONGEST_HELLO} bytes.")
        if len(self._message) < 4 + length:
            return
        if len(self._message) > 4 + length:
            raise NameNotShown("something follows its ClientHello in the same record.")
        hello = client_hello(bytes(self._message[4:]))
        self._check(hello.server_name)
        self._message.clear()
        self._hellos += 1
        self._opening = False
        self._early = hello.early_data
        self._settled = self._hellos == 2

    def _check(self, name: str | None) -> None:
        if name is None:
            if not self._is_address:
                raise NameNotShown(f"its TLS handshake names no host (SNI); {self._host} must be named.")
        elif name != self._host:
            raise NameNotShown(f"its TLS handshake names {name!a} instead of {self._host}.")

    def _between(self, kind: int, length: int) -> bool:
        """Check the records after a ClientHello, until it is certain that no second one follows."""
        if kind == _CHANGE_CIPHER_SPEC or (kind == _APPLICATION_DATA and self._early):
            self._at += _RECORD
            self._skip = length
            return True
        if kind == _HANDSHAKE and length:
            begin = self._held[self._at + _RECORD : self._at + _RECORD + min(length, _RECORD)]
            if len(begin) < min(length, _RECORD):
                return False
            # An encrypted message of TLS 1.2 can start with the same byte by chance, but hardly with the same five.
            if begin[0] == _CLIENT_HELLO and all(
                (byte <= 2 if place == 1 else byte == 3 if place == 4 else True) for place, byte in enumerate(begin)
            ):
                self._opening = True
                self._begun = self._at
                return True
        self._settled = True
        return False


def client_hello(body: bytes) -> ClientHello:
    """Parse the body of a ClientHello.

    Raises:
        NameNotShown: it is malformed, or its server name is encrypted or repeated.
    """
    reader = _Reader(body)
    reader.take(2 + 32)
    reader.vector(1)
    reader.vector(2)
    reader.vector(1)
    name: str | None = None
    early = False
    if reader.left:
        extensions = _Reader(reader.vector(2))
        seen: set[int] = set()
        while extensions.left:
            kind = extensions.number(2)
            content = extensions.vector(2)
            if kind in seen:
                raise NameNotShown("its ClientHello says one thing twice.")
            seen.add(kind)
            if kind in _ENCRYPTED_NAMES:
                raise NameNotShown(
                    "its ClientHello hides the host that it is meant for (Encrypted Client Hello); switch that off."
                )
            if kind == _SERVER_NAME:
                name = _server_name(content)
            early = early or kind == _EARLY_DATA
    if reader.left:
        raise NameNotShown("its ClientHello is malformed.")
    return ClientHello(server_name=name, early_data=early)


def _server_name(content: bytes) -> str:
    outer = _Reader(content)
    names = _Reader(outer.vector(2))
    kind = names.number(1)
    name = names.vector(2)
    if kind != 0 or names.left or outer.left or not name:
        raise NameNotShown("its ClientHello does not name one host.")
    try:
        return name.decode("ascii").lower()
    except UnicodeDecodeError:
        raise NameNotShown("its ClientHello names a host in non-ASCII characters.") from None


class _Reader:
    """Reads numbers and vectors of the TLS presentation language (RFC 8446, section 3) from bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._content) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise NameNotShown("its ClientHello is malformed.")
        self._at += count
        return self._content[self._at - count : self._at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        return self.take(self.number(width))
