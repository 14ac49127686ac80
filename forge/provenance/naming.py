"""Public names: people by the names that they configured, hosts only if everybody may know them."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Final

INTERNAL: Final = "internal"
SOMEBODY: Final = "an operator"

#: RFC 6761, RFC 6762, RFC 8375, and names that companies use within their networks.
_PRIVATE: Final = ("arpa", "corp", "home", "internal", "intranet", "invalid", "lan", "local", "localdomain",
                   "localhost", "localnet", "onion", "private", "test")  # fmt: skip


def public_name(identity: str, names: Mapping[str, str]) -> str:
    """Return the configured public name of a person, or words that say nothing of them.

    Args:
        identity: the connector and the person, such as ``matrix:@ana:example.org``.
        names: public names by identity.
    """
    return names.get(identity) or SOMEBODY


def public_host(host: str, internal: Collection[str] = ()) -> str:
    """Return a host's name, or ``internal`` if it is within a private network.

    Args:
        host: a name or an address, without a port.
        internal: domains that the configuration calls internal; they include what is below them.
    """
    name = host.strip().strip("[]").rstrip(".").casefold()
    try:
        return INTERNAL if not ipaddress.ip_address(name).is_global else name
    except ValueError:
        pass
    labels = name.split(".")
    if len(labels) < 2 or labels[-1] in _PRIVATE or not all(labels):
        return INTERNAL
    ends = tuple(each.strip(".").casefold() for each in internal)
    return INTERNAL if any(name == end or name.endswith(f".{end}") for end in ends if end) else name
