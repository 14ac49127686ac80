"""Descriptions of connection errors with a provider, safe to show in an agent's thread."""

from __future__ import annotations

import os
import socket
import ssl
from typing import Final

CLOSED: Final = "it closed the connection"


def why(error: BaseException) -> str:
    """Return a description of the error, without addresses, headers or anything else that was sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not valid"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({word(error.reason or type(error).__name__)})"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "its name is not found"
    if isinstance(error, TimeoutError):
        return "the time for it is over"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    if type(error) is OSError:
        # Every address failed, each for a different reason.
        return "none of its addresses can be reached"
    if isinstance(error, ConnectionError):
        return CLOSED
    return type(error).__name__


def word(error: object) -> str:
    """Return a library's error name as readable text."""
    return str(error).lower().replace("_", " ")[:100]
