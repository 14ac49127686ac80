"""Connections to tunnel targets: one lookup, a check of every answer, and a connection to a checked address.

A public name must resolve to public addresses. Otherwise its name server could point it at the machine's own network,
or change the answer after the check (DNS rebinding). So there is no second lookup between check and connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

from core.errors import MusterError
from egress.tunnel.host_allowlist import IPAddress, TunnelTarget

Lookup: TypeAlias = Callable[[str], Awaitable["Sequence[str]"]]
"""Returns the addresses of a name, as text. Raises OSError if there are none."""

#: The number of a name's addresses that are tried (all are checked).
MOST_TRIED: Final = 8
#: The delay before the next address is tried in parallel (RFC 8305, section 5).
STAGGER_S: Final = 0.25

_SIX = ipaddress.IPv6Network
#: The part of IPv6 that is routed on the internet today; nothing else counts as public, whatever it becomes later.
_PUBLIC_SIX: Final = _SIX("2000::/3")
#: Exceptions within it: addresses that embed others (Teredo, 6to4), and documentation.
_NOT_PUBLIC_SIX: Final = (_SIX("2001::/23"), _SIX("2001:db8::/32"), _SIX("2002::/16"), _SIX("3fff::/20"))
#: An IPv4 address in an IPv6-only network (RFC 6052).
_NAT64: Final = _SIX("64:ff9b::/96")
#: Protocol assignments, and the anycast address of 6to4 relays (RFC 7526).
_NOT_PUBLIC_FOUR: Final = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("192.88.99.0/24"))


class HostUnreachable(MusterError):
    """A host has no address, or refuses connections."""


class NotPublic(MusterError):
    """A public name resolves to an address that is not public."""


def is_public(address: IPAddress) -> bool:
    """Return whether an address is public, and does not embed one that is not."""
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
    """Resolves names and connects to their addresses. Belongs to one event loop."""

    def __init__(
        self,
        lookup: Lookup | None = None,
        *,
        at_once: int = 64,
        each: int = 8,
        lookup_s: float = 5.0,
        connect_s: float = 10.0,
    ) -> None:
        """Run up to `at_once` lookups at a time, `each` of them for one agent; others wait, within `lookup_s` seconds.

        A silent name server delays only the agent that asks for its names.
        """
        # Separate threads: a silent name server must not block users of the loop's default executor.
        self._threads = ThreadPoolExecutor(at_once, "lookup") if lookup is None else None
        self._lookup = self._system if lookup is None else lookup
        self._each = each
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._running: set[asyncio.Future[Sequence[str]]] = set()
        self._lookup_s = lookup_s
        self._connect_s = connect_s

    async def addresses(self, wanted: TunnelTarget, *, agent: str = "") -> tuple[IPAddress, ...]:
        """Return the addresses of a target, after a single lookup; those of a name are all public.

        Raises:
            NotPublic: one of them is not public. The others are not used then, either.
            HostUnreachable: there is none, or the lookup timed out.
        """
        if wanted.ip is not None:
            return (wanted.ip,)
        try:
            async with asyncio.timeout(self._lookup_s):
                # The final dot prevents the resolver from trying the machine's search domains.
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
                    f"{wanted.host} leads to {address}, which is not a public address. Names must lead to public "
                    "addresses; to reach a private one, list the address itself as a route."
                )
        return found[:MOST_TRIED]

    async def connect(self, addresses: Sequence[IPAddress], port: int) -> socket.socket:
        """Return a connection to the first address that accepts one; if one is slow, the next is tried in parallel.

        Raises:
            HostUnreachable: none accepts.
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
        """Cancel all lookups."""
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
                # Retrieve the error even if no caller waits any more.
                done.exception()

        running.add_done_callback(ended)
        # A thread cannot be canceled: its agent's slot stays taken until the lookup ends.
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
