"""Routes: which hosts an agent may reach besides its models. Strict, and closed unless a route allows a host. Pure.

A route is written as

    docs.python.org            that name, port 443
    github.com:443             that name, that port
    *.example.org              every name below example.org, but not example.org itself
    10.0.0.5:8080              that address; [fd00::5]:8080 likewise
    10.0.0.0/24:8080           every address of that network; [fd00::/64]:8080 likewise

Names lead only to public addresses (egress.tunnel.checked_dns_resolver). A private address must be listed itself. A
loopback or link-local address needs a route that lies within those ranges, so that a wide network does not open them by
accident.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from core.errors import MusterError

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

HTTPS: Final = 443
#: A name has at most 253 characters as text, a label 63 (RFC 1035, section 2.3.4).
LONGEST_NAME: Final = 253

#: Letters, digits and inner hyphens (RFC 1123, section 2.1). No underscore: host names have none, and libraries
#: disagree about it.
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: What resolvers read as a number. They read a name that ends in one as an address (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_HOW: Final = (
    "Write a name (docs.python.org, github.com:443, *.example.org) or an address (10.0.0.5:8080, [fd00::5]:8080)."
)


class RouteError(MusterError):
    """The text is not a valid route."""


class NoTarget(MusterError):
    """The request does not name a valid tunnel target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TunnelTarget:
    """The target of a tunnel."""

    host: str
    """A name in its ASCII form and lower case, without a final dot, or an address in its canonical form."""
    port: int
    ip: IPAddress | None = None
    """The address, or None if the target is a name."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One entry of the allowlist."""

    port: int
    name: str | None = None
    below: bool = False
    """Whether it allows every name below `name`, but not `name` itself."""
    network: IPNetwork | None = None

    def leads_to(self, target: TunnelTarget) -> bool:
        """Return whether the route allows the target."""
        if target.port != self.port:
            return False
        if self.network is not None:
            if target.ip is None or target.ip not in self.network:
                return False
            near = target.ip.is_loopback or target.ip.is_link_local
            return not near or self.network.is_loopback or self.network.is_link_local
        if target.ip is not None or self.name is None:
            return False
        return target.host.endswith(f".{self.name}") if self.below else target.host == self.name

    def __str__(self) -> str:
        if self.network is not None:
            net = self.network
            where = str(net.network_address if net.prefixlen == net.max_prefixlen else net)
            return f"[{where}]:{self.port}" if net.version == 6 else f"{where}:{self.port}"
        return f"{'*.' if self.below else ''}{self.name}:{self.port}"


def route(written: str) -> Route:
    """Parse a route as an operator writes it.

    Raises:
        RouteError: it is invalid. The message says what is wrong and how to write one.
    """
    text = written.strip()
    try:
        host, port = _split(text, default=HTTPS)
        bare = host.removeprefix("[").removesuffix("]")
        if "/" in bare or _address(host) is not None:
            return Route(port=port, network=_network(bare))
        below = host.startswith("*.")
        name = _name(host.removeprefix("*."), unicode=True)
        return Route(port=port, name=name, below=below)
    except ValueError as error:
        raise RouteError(f"{_shown(written)} is not a route: {error} {_HOW}") from None


def routes(written: Iterable[str]) -> tuple[Route, ...]:
    """Parse several routes.

    Raises:
        RouteError: one of them is invalid.
    """
    return tuple(route(each) for each in written)


def target(authority: str) -> TunnelTarget:
    """Parse the target of a CONNECT, in authority form (RFC 9110, section 9.3.6: only host, colon and port).

    Raises:
        NoTarget: it has another form, or is ambiguous.
    """
    try:
        host, port = _split(authority, default=None)
        ip = _address(host)
        if ip is not None:
            return TunnelTarget(host=str(ip), port=port, ip=ip)
        return TunnelTarget(host=_name(host, unicode=False), port=port)
    except ValueError as error:
        raise NoTarget(f"a tunnel to {_shown(authority)} cannot be had: {error} Ask for CONNECT HOST:PORT.") from None


def which(listed: Iterable[Route], wanted: TunnelTarget) -> Route | None:
    """Return the route that allows a target, or None if there is none and the target is forbidden."""
    return next((each for each in listed if each.leads_to(wanted)), None)


def hostname(written: str) -> str | None:
    """Return the canonical form of a host name, or None if it is not a public name (an address, a single label,
    garbage)."""
    try:
        return _name(written, unicode=True)
    except ValueError:
        return None


def _split(text: str, *, default: int | None) -> tuple[str, int]:
    """Return host and port. An IPv6 address keeps its brackets."""
    if not text or any(sign.isspace() or not sign.isprintable() for sign in text):
        raise ValueError("it is empty, or contains spaces or control characters.")
    if "://" in text:
        raise ValueError("it is a URL; write only its host, and its port if that is not 443.")
    if "@" in text:
        raise ValueError("there is no user (@) in it.")
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 address stands in brackets, and a port after them.")
        host, colon, port = host + bracket, rest[:1], rest[1:]
    else:
        host, colon, port = text.partition(":")
        if ":" in port:
            raise ValueError("an IPv6 address must be in brackets.")
    if not colon:
        if default is None:
            raise ValueError("it has no port.")
        return host, default
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError(f"the port is {_shown(port)}; 1 to 65535 are allowed.")
    return host, int(port)


def _address(host: str) -> IPAddress | None:
    """Return the address if the host is one in its plain form, or None if it may be a name.

    Raises:
        ValueError: it is a disguised address, or one that is never reachable.
    """
    if host.startswith("["):
        inside = host[1:-1]
        if "%" in inside:
            raise ValueError("an address has no zone (%) here.")
        six = _parsed(inside)
        if not isinstance(six, ipaddress.IPv6Address):
            raise ValueError("in brackets stands an IPv6 address, and this is none.")
        if six.ipv4_mapped is not None or six.sixtofour is not None or six.teredo is not None:
            raise ValueError("it is an IPv4 address in the clothes of an IPv6 one; write the IPv4 address.")
        found: IPAddress = six
    else:
        four = _parsed(host)
        if four is None:
            return None
        found = four
    if found.is_unspecified or found.is_multicast:
        raise ValueError("nothing can be reached at that address.")
    return found


def _parsed(text: str) -> IPAddress | None:
    # The module rejects non-ASCII digits, leading zeros and short forms, as intended here.
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> IPNetwork:
    if "%" in text:
        raise ValueError("an address has no zone (%) here.")
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"the network cannot be read ({error}).") from None


def _name(host: str, *, unicode: bool) -> str:
    """Return a name in its ASCII form."""
    host = host.removesuffix(".")
    if not host.isascii():
        if not unicode:
            raise ValueError("a name is asked for in its ASCII form (xn--...).")
        host = _ascii(host)
    host = host.lower()
    labels = host.split(".")
    if len(host) > LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("that is no name of a host: labels of letters, digits and hyphens, with dots between.")
    if _NUMBER.fullmatch(labels[-1]):
        raise ValueError("a name that ends in a number is an address in disguise; write four decimal numbers.")
    if labels[-1] == "localhost" or host == "localhost.localdomain":
        raise ValueError("this machine is no route; list its address (127.0.0.1:8080) if that is what is meant.")
    if len(labels) < 2:
        raise ValueError("a single word is nobody's name on the internet.")
    for label in labels:
        if label.startswith("xn--"):
            _ascii(label)
    return host


def _ascii(name: str) -> str:
    """Return a name, or one label, in its ASCII form (IDNA 2008, UTS 46)."""
    # Seldom needed, and its tables are large.
    import idna

    try:
        return idna.encode(name, uts46=True, std3_rules=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"no name of a host is written so ({error}).") from None


def _shown(text: str) -> str:
    """Return the text in a form that is safe to print."""
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")
