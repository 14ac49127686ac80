"""Whether traffic to a host stays on this machine. Pure."""

from __future__ import annotations

import ipaddress


def is_loopback_address(host: str) -> bool:
    """Return whether a host is written as an address of this machine. No name is, not even ``localhost``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Return whether a host is an address of this machine, or ``localhost``."""
    return host == "localhost" or is_loopback_address(host)
