"""From a target to a connection: one look-up, every answer checked, and the connection goes to what was checked.

A public name must lead to public addresses. Whoever answers for a name could else point it at the machine's own
network, or first elsewhere and then there (DNS rebinding): so there is no second look-up between check and connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeAlias

from core.errors import MusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.tunnel.host_allowlist import IPAddress, TunnelTarget

Lookup: TypeAlias = Callable[[str], Awaitable["Sequence[str]"]]
"""From a name to its addresses, as text. Raises OSError when there are none."""

#: A name with more addresses is tried at these alone (all are checked).
MOST_TRIED: Final = 8
#: RFC 8305, 5: before the next address is tried beside the last one.
STAGGER_S: Final = 0.25

_SIX = ipaddress.IPv6Network
#: What is routed on the internet today; everything else of IPv6 is no public address, whatever it may become.
_PUBLIC_SIX: Final = _SIX("2000::/3")
#: In there, and yet not public: addresses that carry others in them (Teredo, 6to4), and documentation.
_NOT_PUBLIC_SIX: Final = (_SIX("2001::/23"), _SIX("2001:db8::/32"), _SIX("2002::/16"), _SIX("3fff::/20"))
#: RFC 6052: an IPv4 address in a network that speaks IPv6 alone.
_NAT64: Final = _SIX("64:ff9b::/96")
#: Protocol assignments, and the anycast address of 6to4 relays (RFC 7526).
_NOT_PUBLIC_FOUR: Final = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("192.88.99.0/24"))


class HostUnreachable(MusterError):
    """A host has no address, or does not take connections."""


class NotPublic(MusterError):
    """A public name leads to an address that is not."""


def is_public(address: IPAddress) -> bool:
    """Return whether an address is one of the internet's, and no other in disguise."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        return (
            address in _PUBLIC_SIX and not any(address in each for each in _NOT_PUBLIC_SIX) and not address.is_private
        )
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in each for each in _NOT_PUBLIC_FOUR)
    )


class Resolver:
    """Finds addresses and connects to them. Of one event loop."""

    def __init__(
        self,
        lookup: Lookup | None = None,
        *,
        at_once: int = 64,
        each: int = 8,
        lookup_s: float = 5.0,
        connect_s: float = 10.0,
    ) -> None:
        """`at_once` look-ups run at a time, of one agent `each`; further ones wait, within `lookup_s` seconds.

        A name server that is silent holds up the agent that asks for its names, and no other one.
        """
        # Threads of its own: a name server that is silent must not hold up those who use the loop's.
        self._threads = ThreadPoolExecutor(at_once, "lookup") if lookup is None else None
        self._lookup = self._system if lookup is None else lookup
        self._each = each
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._running: set[asyncio.Future[Sequence[str]]] = set()
        self._lookup_s = lookup_s
        self._connect_s = connect_s

    async def addresses(self, wanted: TunnelTarget, *, agent: str = "") -> tuple[IPAddress, ...]:
        """Return the addresses of a target, once and for all; those of a name are all public.

        Raises:
            NotPublic: one of them is not. None of the others is used then, either.
            Unreachable: there is none, or no one says in time.
        """
        if wanted.ip is not None:
            return (wanted.ip,)
        try:
            async with asyncio.timeout(self._lookup_s):
                # The dot keeps the resolver from trying the name below the machine's own search domains.
                answers = await self._looked_up(f"{wanted.host}.", agent)
            found = tuple(dict.fromkeys(ipaddress.ip_address(answer) for answer in answers))
        except TimeoutError:
            raise HostUnreachable(f"no name server tells an address of {wanted.host} in time.") from None
        except (OSError, ValueError) as error:
            raise HostUnreachable(f"{wanted.host} has no address ({error}).") from None
        if not found:
            raise HostUnreachable(f"{wanted.host} has no address.")
        for address in found:
            if not is_public(address):
                raise NotPublic(
                    f"{wanted.host} leads to {address}, which is no public address. Names lead to public addresses "
                    "alone; to reach a private one, list the address itself as a route."
                )
        return found[:MOST_TRIED]

    async def connect(self, addresses: Sequence[IPAddress], port: int) -> socket.socket:
        """Return a connection to the first of these that takes one; the next is tried when one is slow.

        Raises:
            Unreachable: none does.
        """
        loop = asyncio.get_running_loop()
        why: list[str] = []
        waiting = list(addresses)
        tried: set[asyncio.Task[socket.socket]] = set()
        winner: socket.socket | None = None
        try:
            async with asyncio.timeout(self._connect_s):
                while winner is None and (waiting or tried):
                    if waiting:
                        tried.add(loop.create_task(_connected(waiting.pop(0), port)))
                    done, tried = await asyncio.wait(
                        tried, timeout=STAGGER_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
                    )
                    for each in done:
                        error = each.exception()
                        if error is not None:
                            why.append(str(error))
                        elif winner is None:
                            winner = each.result()
                        else:
                            each.result().close()
        except TimeoutError:
            why.append("no answer in time")
        finally:
            for each in tried:
                each.cancel()
                each.add_done_callback(_close)
        if winner is None:
            raise HostUnreachable(f"no connection ({'; '.join(dict.fromkeys(why))[:300]}).")
        return winner

    def close(self) -> None:
        """Look nothing up any more."""
        for running in self._running:
            running.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _looked_up(self, name: str, agent: str) -> Sequence[str]:
        slots = self._slots.setdefault(agent, asyncio.Semaphore(self._each))
        await slots.acquire()
        running = asyncio.ensure_future(self._lookup(name))
        self._running.add(running)

        def ended(done: asyncio.Future[Sequence[str]]) -> None:
            self._running.discard(done)
            slots.release()
            if not done.cancelled():
                # No one may be waiting for it any more.
                done.exception()

        running.add_done_callback(ended)
        # A thread cannot be called back: as long as it looks, its agent's slot is taken.
        return await asyncio.shield(running)

    async def _system(self, name: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._threads, _getaddrinfo, name)
        return [str(answer[4][0]) for answer in answers]


def _getaddrinfo(name: str) -> Sequence[tuple[object, object, object, object, tuple[object, ...]]]:
    return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)


async def _connected(address: IPAddress, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    link = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        await asyncio.get_running_loop().sock_connect(link, (str(address), port))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        link.close()
        raise
    return link


def _close(late: asyncio.Task[socket.socket]) -> None:
    if not late.cancelled() and late.exception() is None:
        late.result().close()
