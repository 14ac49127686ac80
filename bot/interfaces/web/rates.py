"""How often one address may do something. Pure."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

#: Addresses that are remembered; the one that was seen the longest ago is forgotten.
_REMEMBERED: Final = 2_000


@dataclass(slots=True)
class AddressRate:
    """At most `burst` at once, and one more every `every_s` seconds, for each address."""

    clock: Callable[[], float]
    burst: int
    every_s: float
    _spent: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, address: str) -> bool:
        """Return whether the address may do it now, and count it if so."""
        now, key = self.clock(), _network(address)
        spent, at = self._spent.pop(key, (0.0, now))
        spent = max(0.0, spent - max(0.0, now - at) / self.every_s)
        allowed = spent + 1 <= self.burst
        self._spent[key] = (spent + 1 if allowed else spent, now)
        while len(self._spent) > _REMEMBERED:
            self._spent.popitem(last=False)
        return allowed


def _network(address: str) -> str:
    """Return what one customer has: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped is not None:
            return str(known.ipv4_mapped)
        return str(ipaddress.ip_network((known, 64), strict=False))
    return str(known)
