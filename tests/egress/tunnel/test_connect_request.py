"""The head of a CONNECT is read in one way, or not at all."""

from __future__ import annotations

import pytest

from egress.tunnel.connect_request import read
from egress.tunnel.host_allowlist import NoTarget

DOCS = b"CONNECT docs.python.org:443 HTTP/1.1\r\n"


@pytest.mark.parametrize(
    "head",
    [
        DOCS + b"Host: docs.python.org:443\r\n\r\n",
        DOCS + b"host:docs.python.org\r\nProxy-Connection: keep-alive\r\nUser-Agent: git/2.39\r\n\r\n",
        DOCS + b"Host: DOCS.python.org.\r\nContent-Length: 0\r\n\r\n",
        b"CONNECT docs.python.org:443 HTTP/1.0\r\n\r\n",
    ],
)
def test_what_clients_send_is_read(head: bytes) -> None:
    assert str(read(head)) == "docs.python.org:443"


@pytest.mark.parametrize(
    "head",
    [
        DOCS + b"\r\n",
        DOCS + b"Host: evil.example:443\r\n\r\n",
        DOCS + b"Host: docs.python.org:8443\r\n\r\n",
        DOCS + b"Host: docs.python.org\r\nHost: evil.example\r\n\r\n",
        DOCS + b"Host: docs.python.org\r\nHost: docs.python.org\r\n\r\n",
        DOCS + b"Host: docs.python.org, evil.example\r\n\r\n",
        DOCS + b"Host: docs.python.org\r\n evil.example\r\n\r\n",
        DOCS + b"Host : docs.python.org\r\n\r\n",
        DOCS + b"Host: docs.python.org\nX: y\r\n\r\n",
        DOCS + b"Host: docs.python.org\rX: y\r\n\r\n",
        DOCS + b"Host: docs.python.org\x00\r\n\r\n",
        DOCS + b"Host: docs.python.org\r\nno colon\r\n\r\n",
        DOCS + b"Host: docs.python.org\r\nContent-Length: 5\r\n\r\n",
        DOCS + b"Host: docs.python.org\r\nTransfer-Encoding: chunked\r\n\r\n",
        DOCS + b"Host: docs.python.org\r\nUpgrade: websocket\r\n\r\n",
        DOCS + b"Host: docs.python.org\r\n" + b"X: y\r\n" * 70 + b"\r\n",
        b"CONNECT https://docs.python.org/ HTTP/1.1\r\nHost: docs.python.org\r\n\r\n",
        b"CONNECT docs.python.org:443  HTTP/1.1\r\nHost: docs.python.org\r\n\r\n",
        b"CONNECT\tdocs.python.org:443 HTTP/1.1\r\nHost: docs.python.org\r\n\r\n",
        b"CONNECT docs.python.org:443 HTTP/2.0\r\nHost: docs.python.org\r\n\r\n",
        b"CONNECT docs.python.org:443\r\n\r\n",
        b"connect docs.python.org:443 HTTP/1.1\r\nHost: docs.python.org\r\n\r\n",
        b"GET http://docs.python.org/ HTTP/1.1\r\nHost: docs.python.org\r\n\r\n",
    ],
)
def test_what_could_mean_something_else_is_refused(head: bytes) -> None:
    with pytest.raises(NoTarget):
        read(head)
