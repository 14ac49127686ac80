"""Names lead to public addresses, and connections go to the very address that was checked."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import pytest

from egress.tunnel.checked_dns_resolver import HostUnreachable, NotPublic, Resolver, is_public
from egress.tunnel.host_allowlist import target

DOCS = target("docs.python.org:443")


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.8.8.8",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::808:808",
        "100::1",
        "2001::1",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "3fff::1",
        "4000::1",
        "fc00::1",
        "fd00::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_what_is_not_of_the_internet_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "151.101.0.223", "2606:4700::1111", "2a04:4e42::223", "64:ff9b::808:808"]
)
def test_what_is_of_the_internet_is(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


class Names:
    """A name server in a test. Each look-up takes the next answer; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def test_a_public_name_with_a_private_address_among_others_is_refused_whole() -> None:
    with pytest.raises(NotPublic, match=r"10\.0\.0\.1.*list the address itself"):
        await Resolver(Names(["151.101.0.223", "10.0.0.1"])).addresses(DOCS)


async def test_a_name_is_looked_up_once_and_not_below_search_domains() -> None:
    names = Names(["151.101.0.223", "151.101.0.223", "2a04:4e42::223"], ["127.0.0.1"])
    found = await Resolver(names).addresses(DOCS)
    assert [str(each) for each in found] == ["151.101.0.223", "2a04:4e42::223"]
    assert names.asked == ["docs.python.org."]


async def test_a_listed_address_needs_no_look_up() -> None:
    names = Names([])
    assert await Resolver(names).addresses(target("127.0.0.1:80")) == (ipaddress.ip_address("127.0.0.1"),)
    assert not names.asked


@pytest.mark.parametrize("answer", [[], ["not an address"], ["fe80::1%lo0%x"]])
async def test_no_address_is_said(answer: list[str]) -> None:
    with pytest.raises((HostUnreachable, NotPublic), match=r"docs\.python\.org"):
        await Resolver(Names(answer)).addresses(DOCS)


async def test_a_silent_name_server_is_given_up_and_holds_up_nobody_else() -> None:
    answered = asyncio.Event()

    async def silent(name: str) -> Sequence[str]:
        if name == "docs.python.org.":
            return ["151.101.0.223"]
        await answered.wait()
        return []

    resolver = Resolver(silent, each=2, lookup_s=0.5)
    slow = target("slow.example.org:443")
    # Two of its look-ups run, and until one ends, this agent waits in vain for any name; another one does not.
    *waited, other = await asyncio.gather(
        *(resolver.addresses(slow, agent="coder0") for _ in range(3)),
        resolver.addresses(DOCS, agent="coder0"),
        resolver.addresses(DOCS, agent="coder1"),
        return_exceptions=True,
    )
    assert [str(each).endswith("in time.") for each in waited] == [True] * 4
    assert other == (ipaddress.ip_address("151.101.0.223"),)
    answered.set()
    assert await resolver.addresses(DOCS, agent="coder0")
    resolver.close()


async def test_the_next_address_is_tried_and_no_connection_is_left_over() -> None:
    taken: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: taken.put_nowait(writer), "127.0.0.2")
    port = server.sockets[0].getsockname()[1]
    resolver = Resolver(Names([]))
    addresses = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("127.0.0.2")]
    link = await resolver.connect(addresses, port)
    assert link.getpeername() == ("127.0.0.2", port)
    link.close()
    (await taken.get()).close()
    server.close()
    await server.wait_closed()
    with pytest.raises(HostUnreachable, match="no connection"):
        await resolver.connect(addresses, port)


async def test_a_slow_address_does_not_hold_up_the_next() -> None:
    # A listener with a full queue takes no further connection: the kernel lets the caller wait.
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    port = full.getsockname()[1]
    fillers = [socket.socket() for _ in range(3)]
    for each in fillers:
        each.setblocking(False)
        each.connect_ex(("127.0.0.1", port))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.2", port)
    link = await Resolver(Names([])).connect(
        [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("127.0.0.2")], port
    )
    assert link.getpeername() == ("127.0.0.2", port)
    link.close()
    with pytest.raises(HostUnreachable, match="in time"):
        await Resolver(Names([]), connect_s=0.01).connect([ipaddress.ip_address("127.0.0.1")], port)
    for each in (full, *fillers):
        each.close()
    server.close()
    await server.wait_closed()


async def test_the_system_is_asked_when_nobody_else_is() -> None:
    resolver = Resolver()
    with pytest.raises(HostUnreachable):
        await resolver.addresses(target("nowhere.invalid:443"))
    resolver.close()
