"""Routes: which hosts an agent may reach besides its models. Pure, strict, and closed unless one is listed.

A route is written as

    docs.python.org            that name, port 443
    github.com:443             that name, that port
    *.example.org              every name below example.org, but not example.org itself
    10.0.0.5:8080              that address; [fd00::5]:8080 likewise
    10.0.0.0/24:8080           every address of that network; [fd00::/64]:8080 likewise

Names lead to public addresses alone (egress.tunnel.checked_dns_resolver). What is private is reached by listing its
address; loopback and link-local addresses moreover only by a route that lies within them, so that no wide network opens
them by the way.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from core.errors import MusterError

if TYPE_CHECKING:
    from collections.abc import Iterable

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

HTTPS: Final = 443
#: RFC 1035, 2.3.4: a name has at most 253 letters as text, a label 63.
LONGEST_NAME: Final = 253

#: RFC 1123, 2.1: letters, digits, hyphens within. No underscore: it is in no host's name, and libraries differ over it.
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: What resolvers take for a number, and a name that ends so for an address (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_HOW: Final = (
    "Write a name (docs.python.org, github.com:443, *.example.org) or an address (10.0.0.5:8080, [fd00::5]:8080)."
)


class RouteError(MusterError):
    """No route can be written so."""


class NoTarget(MusterError):
    """A tunnel cannot be asked for so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TunnelTarget:
    """Where a tunnel is to lead."""

    host: str
    """A name in its ASCII form and lower case, without a dot at its end, or an address in its one canonical form."""
    port: int
    ip: IPAddress | None = None
    """The address, if it is one and no name."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One line of an allow-list."""

    port: int
    name: str | None = None
    below: bool = False
    """Every name below `name`, and not that itself."""
    network: IPNetwork | None = None

    def leads_to(self, target: TunnelTarget) -> bool:
        """Return whether the target is what was listed."""
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
    """Read one route as an operator writes it.

    Raises:
        RouteError: it is none. The message says what is wrong with it and how one is written.
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
        raise RouteError(f"{_shown(written)} is no route: {error} {_HOW}") from None


def routes(written: Iterable[str]) -> tuple[Route, ...]:
    """Read several.

    Raises:
        RouteError: one of them is none.
    """
    return tuple(route(each) for each in written)


def target(authority: str) -> TunnelTarget:
    """Read the target of a CONNECT, which is in authority form (RFC 9110, 9.3.6: a host, a colon, a port, no more).

    Raises:
        NoTarget: it is not, or it could be read in more ways than one.
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
    """Return the route that leads to a target; None: there is none, and nothing goes there."""
    return next((each for each in listed if each.leads_to(wanted)), None)


def hostname(written: str) -> str | None:
    """Return the canonical form of a host's name; None: it is no public name (an address, a single word, garbage)."""
    try:
        return _name(written, unicode=True)
    except ValueError:
        return None


def _split(text: str, *, default: int | None) -> tuple[str, int]:
    """Host and port. An IPv6 address stays in its brackets."""
    if not text or any(sign.isspace() or not sign.isprintable() for sign in text):
        raise ValueError("it is empty, or has spaces or controls in it.")
    if "://" in text:
        raise ValueError("it is a URL; only its host, and its port if that is not 443, belong here.")
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
            raise ValueError("an IPv6 address stands in brackets.")
    if not colon:
        if default is None:
            raise ValueError("it has no port.")
        return host, default
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError(f"the port is {_shown(port)}; 1 to 65535 are allowed.")
    return host, int(port)


def _address(host: str) -> IPAddress | None:
    """Return the address, if it is one in its plain form; None: it may be a name.

    Raises:
        ValueError: it is an address in disguise, or one to which nothing ever goes.
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
    # The module takes non-ASCII digits for none, and refuses leading zeros and short forms, as is wanted here.
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
    """Return a name, or a label of one, in its ASCII form (IDNA 2008, UTS 46)."""
    # Seldom needed, and its tables are large.
    import idna

    try:
        return idna.encode(name, uts46=True, std3_rules=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"no name of a host is written so ({error}).") from None


def _shown(text: str) -> str:
    """Return what was found, harmless to print."""
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")
