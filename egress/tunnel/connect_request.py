"""A strict parser for the head of a CONNECT request. It refuses anything ambiguous. Pure.

RFC 9112, sections 2 to 5, without what the RFC merely tolerates: lines end in CR LF, headers are not folded, names are
tokens.
"""

from __future__ import annotations

import re
from typing import Final

from egress.tunnel.host_allowlist import NoTarget, TunnelTarget, target

END: Final = b"\r\n\r\n"
LONGEST_HEAD: Final = 16 * 1024
_MOST_HEADERS: Final = 64

_REQUEST_LINE = re.compile(rb"CONNECT ([\x21-\x7e]+) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\x80-\xff\t]*)")
#: Headers that would change the meaning of the bytes that follow.
_OTHERWISE: Final = frozenset({b"transfer-encoding", b"content-encoding", b"upgrade", b"expect"})


def read(head: bytes) -> TunnelTarget:
    """Return the target of a CONNECT request.

    Args:
        head: the request up to and including the empty line.

    Raises:
        NoTarget: it is not an unambiguous CONNECT.
    """
    line, *lines = head.removesuffix(END).split(b"\r\n")
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise NoTarget("the request line is none of a CONNECT (CONNECT HOST:PORT HTTP/1.1).")
    if len(lines) > _MOST_HEADERS:
        raise NoTarget(f"a CONNECT with more than {_MOST_HEADERS} headers is refused.")
    wanted = target(found[1].decode("ascii"))
    hosts = []
    for each in lines:
        header = _HEADER.fullmatch(each)
        if header is None:
            raise NoTarget("a header of the CONNECT is malformed.")
        name, value = header[1].lower(), header[2].strip()
        if name == b"host":
            hosts.append(value.decode("latin-1"))
        if name in _OTHERWISE or (name == b"content-length" and value != b"0"):
            raise NoTarget("a CONNECT has no body and asks for no other protocol (RFC 9110, 9.3.6).")
    if len(hosts) > 1 or (not hosts and found[2] == b"1"):
        raise NoTarget("a CONNECT has one Host header.")
    if hosts and _host(hosts[0], wanted.port) != wanted:
        raise NoTarget(f"the Host header does not name {wanted}, as the request does.")
    return wanted


def _host(written: str, port: int) -> TunnelTarget:
    """Return the target in a Host header, which may omit the port."""
    try:
        return target(written)
    except NoTarget:
        return target(f"{written}:{port}")
