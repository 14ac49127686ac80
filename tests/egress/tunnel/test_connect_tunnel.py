"""Tunnels lead where they may, carry everything, and every trick to get elsewhere fails and is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from egress.tunnel.byte_relay import CHUNK, TunnelLimits
from tests.egress.tunnel import client_hellos
from tests.egress.tunnel.network import PUBLIC, Street, connect, street, within

HELLO = client_hellos.record(client_hellos.message(client_hellos.server_name(b"docs.python.org")))
DOCS = "docs.python.org:443"


@pytest.fixture
async def out(tmp_path: Path) -> AsyncIterator[Street]:
    async with street(tmp_path) as made:
        yield made


async def refused(out: Street, request: str | bytes, status: int, why: str) -> None:
    """Nothing left for this, the client is told, and so is the audit where it was an attempt."""
    before = len(out.notes)
    answer = await out.answer(request)
    assert answer.startswith(f"HTTP/1.1 {status} "), answer
    assert why in answer
    assert not out.resolver.went
    assert [note[:2] for note in out.notes[before:]] == [("coder0", "route-refused")]


async def test_a_real_client_reaches_a_listed_host_through_its_tunnel(out: Street) -> None:
    out.resolver.port = out.site
    process = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--show-error", "--max-time", "20", "--cacert", str(out.trusted)),
        *("--proxy", f"http://127.0.0.1:{out.port}", "https://docs.python.org/3/"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin"},
    )
    printed, errors = await within(process.communicate())
    assert printed == b"hello\n", errors
    assert out.resolver.went == [([PUBLIC], 443)]
    traffic = await out.next_traffic()
    assert (traffic.agent, traffic.host, traffic.port) == ("coder0", "docs.python.org", 443)
    assert traffic.sent > len(HELLO)
    assert traffic.received > 6


async def test_bytes_go_both_ways_with_half_closed_ends_and_are_counted(out: Street) -> None:
    reader, writer = await out.tunnel()
    far_reader, far_writer = await out.next_far()
    more = client_hellos.record(b"question", 23)
    writer.write(HELLO + more)
    writer.write_eof()
    assert await within(far_reader.read()) == HELLO + more
    # The client has said all that it has to say, and still hears the answer.
    far_writer.write(b"answer")
    far_writer.close()
    assert await within(reader.read()) == b"answer"
    traffic = await out.next_traffic()
    assert (traffic.sent, traffic.received, traffic.ended) == (len(HELLO + more), 6, "closed")


async def test_what_was_sent_along_with_the_connect_is_looked_at_and_carried(out: Street) -> None:
    _, writer = await out.call(connect(DOCS).encode() + HELLO + client_hellos.record(b"early", 23))
    far_reader, _ = await out.next_far()
    writer.write_eof()
    assert await within(far_reader.read()) == HELLO + client_hellos.record(b"early", 23)


async def test_a_request_hidden_behind_the_connect_is_no_second_one(out: Street) -> None:
    reader, _ = await out.call(connect(DOCS).encode() + connect("a.example.org:443").encode())
    far_reader, _ = await out.next_far()
    answer = await within(reader.read())
    assert answer.count(b"HTTP/1.1 ") == 1
    assert await within(far_reader.read()) == b""
    assert out.resolver.went == [([PUBLIC], 443)]
    assert "not TLS" in out.notes[0][2]


async def test_a_slow_reader_is_waited_for_and_little_is_kept(out: Street) -> None:
    reader, writer = await out.tunnel()
    far_reader, far_writer = await out.next_far()
    writer.write(HELLO)
    assert await within(far_reader.readexactly(len(HELLO))) == HELLO
    sent = 0
    chunk = bytes(CHUNK)
    blocked = False
    while not blocked and sent < 200 * CHUNK:
        far_writer.write(chunk)
        sent += CHUNK
        try:
            async with asyncio.timeout(0.2):
                await far_writer.drain()
        except TimeoutError:
            blocked = True
    # Kernel buffers and ours together held this much, and then the server out there had to wait.
    assert blocked
    far_writer.close()
    assert len(await within(reader.read())) == sent
    writer.close()
    assert (await out.next_traffic()).received == sent


@pytest.mark.parametrize(
    "authority",
    [
        "python.org:443",
        "docs.python.org:80",
        "docs.python.org:8443",
        "example.org:443",
        "127.0.0.1:443",
        f"{PUBLIC}:443",
        "[::1]:443",
        "169.254.169.254:80",
        "10.0.0.1:443",
    ],
)
async def test_what_is_not_listed_is_refused_with_the_way_out(out: Street, authority: str) -> None:
    await refused(out, connect(authority), 403, "none of this sandbox's routes")


@pytest.mark.parametrize(
    "authority",
    ["2130706433:443", "0x7f.1:443", "127.1:443", "0177.0.0.1:443", "[::ffff:127.0.0.1]:443", "localhost:443"],
)
async def test_odd_ways_of_writing_an_address_are_refused(out: Street, authority: str) -> None:
    out.agent.routes = ("docs.python.org", "127.0.0.1:443")
    await refused(out, connect(authority), 400, "cannot be had")


@pytest.mark.parametrize(
    "request_",
    [
        connect(DOCS, host="evil.example"),
        connect(DOCS, more="Host: evil.example\r\n"),
        connect(DOCS, more="Content-Length: 4\r\n"),
        connect(DOCS, more="Transfer-Encoding: chunked\r\n"),
        "CONNECT http://docs.python.org/ HTTP/1.1\r\nHost: docs.python.org\r\n\r\n",
        "CONNECT user@docs.python.org:443 HTTP/1.1\r\nHost: docs.python.org\r\n\r\n",
    ],
)
async def test_heads_that_mean_two_things_are_refused(out: Street, request_: str) -> None:
    await refused(out, request_, 400, "muster: ")


async def test_a_head_without_end_is_given_up(out: Street) -> None:
    await refused(out, b"CONNECT docs.python.org:443 HTTP/1.1\r\nX: " + b"y" * 200_000, 400, "at most")


async def test_the_agents_own_listener_is_no_host_to_go_to(out: Street) -> None:
    out.agent.routes = ("docs.python.org", "127.0.0.2:443")
    await refused(out, connect(f"127.0.0.1:{out.port}"), 403, "none of this sandbox's routes")


async def test_a_metered_host_is_no_tunnel_even_when_it_is_listed(out: Street) -> None:
    out.agent.routes = ("api.anthropic.com", "*.anthropic.com")
    await refused(out, connect("api.anthropic.com:443"), 403, "no account")
    await refused(out, connect("API.Anthropic.com.:443"), 403, "no account")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1"],
)
async def test_a_private_address_behind_a_public_name_is_refused(out: Street, address: str) -> None:
    out.resolver.answers["docs.python.org"] = [[PUBLIC, address]]
    await refused(out, connect(DOCS), 403, "not a public address")


async def test_a_name_whose_address_changes_leads_to_the_one_that_was_checked(out: Street) -> None:
    out.resolver.answers["docs.python.org"] = [[PUBLIC], ["127.0.0.1"]]
    await out.tunnel()
    assert out.resolver.went == [([PUBLIC], 443)]
    # The next look-up, for the next tunnel, is checked anew.
    assert "not a public address" in await out.answer(connect(DOCS))


async def test_a_name_without_address_is_told_and_no_offence(out: Street) -> None:
    answer = await out.answer(connect("nowhere.example.org:443"))
    assert answer.startswith("HTTP/1.1 502 ")
    assert "has no address" in answer
    assert not out.notes


@pytest.mark.parametrize(
    ("flight", "why"),
    [
        (client_hellos.record(client_hellos.message(client_hellos.server_name(b"evil.example"))), r"evil.example"),
        (client_hellos.records(client_hellos.message(client_hellos.server_name(b"evil.example")), 1), r"evil.example"),
        (client_hellos.real(None), "names no host"),
        (
            client_hellos.record(
                client_hellos.message(
                    client_hellos.server_name(b"docs.python.org"), client_hellos.extension(0xFE0D, b"x")
                )
            ),
            "hides",
        ),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "not TLS"),
        (b"SSH-2.0-x\r\n", "not TLS"),
        (client_hellos.record(b"\x01\x00\xff\xff" + bytes(1000)), "longer than"),
    ],
)
async def test_a_tunnel_used_for_another_host_ends_before_a_byte_of_it_arrives(
    out: Street, flight: bytes, why: str
) -> None:
    reader, writer = await out.tunnel()
    far_reader, _ = await out.next_far()
    writer.write(flight)
    # A TLS alert, fatal: unrecognized_name.
    assert await within(reader.read()) == bytes.fromhex("15030100020270")
    assert await within(far_reader.read()) == b""
    traffic = await out.next_traffic()
    assert (traffic.sent, traffic.ended) == (0, "refused")
    assert out.notes[0][:2] == ("coder0", "route-refused")
    assert why in out.notes[0][2]


async def test_a_client_that_never_says_whom_it_is_for_is_given_up(tmp_path: Path) -> None:
    async with street(tmp_path, TunnelLimits(hello_s=0.2)) as out:
        reader, writer = await out.tunnel()
        far_reader, _ = await out.next_far()
        writer.write(HELLO[:20])
        await within(reader.read())
        assert await within(far_reader.read()) == b""
        assert "in time" in out.notes[0][2]


async def test_a_head_that_never_comes_is_given_up(tmp_path: Path) -> None:
    async with street(tmp_path, TunnelLimits(head_s=0.05)) as out:
        reader, _ = await out.call("CONNECT docs.py")
        await _gone(reader)
        assert not out.resolver.went


async def test_a_tunnel_in_which_nothing_moves_is_closed(tmp_path: Path) -> None:
    async with street(tmp_path, TunnelLimits(idle_s=0.1)) as out:
        reader, writer = await out.tunnel()
        far_reader, _ = await out.next_far()
        writer.write(HELLO)
        await within(far_reader.readexactly(len(HELLO)))
        await _gone(reader)
        assert (await out.next_traffic()).ended == "idle"


async def test_so_many_tunnels_and_no_more(tmp_path: Path) -> None:
    async with street(tmp_path, TunnelLimits(tunnels=2)) as out:
        first = await out.tunnel()
        await out.tunnel()
        assert (await out.answer(connect(DOCS))).startswith("HTTP/1.1 429 ")
        first[1].close()
        await out.next_traffic()
        await out.tunnel()


async def test_a_listed_private_address_carries_what_it_is_given(out: Street) -> None:
    out.agent.routes = ("10.0.0.5:8080",)
    reader, writer = await out.tunnel("10.0.0.5:8080")
    far_reader, far_writer = await out.next_far()
    assert out.resolver.went == [(["10.0.0.5"], 8080)]
    far_writer.write(b"220 ready\r\n")
    assert await within(reader.readline()) == b"220 ready\r\n"
    writer.write(b"plain words\r\n")
    assert await within(far_reader.readline()) == b"plain words\r\n"


async def test_a_listed_public_address_is_for_itself_and_for_no_name(out: Street) -> None:
    out.agent.routes = (f"{PUBLIC}:443",)
    _, writer = await out.tunnel(f"{PUBLIC}:443")
    far_reader, _ = await out.next_far()
    bare = client_hellos.real(None)
    writer.write(bare)
    assert await within(far_reader.readexactly(len(bare))) == bare
    _, writer = await out.tunnel(f"{PUBLIC}:443")
    far_reader, _ = await out.next_far()
    writer.write(client_hellos.real("evil.example"))
    assert await within(far_reader.read()) == b""


async def test_whoever_is_cut_off_loses_its_tunnels_at_once_and_gets_no_other(out: Street) -> None:
    reader, writer = await out.tunnel()
    far_reader, _ = await out.next_far()
    writer.write(HELLO)
    await within(far_reader.readexactly(len(HELLO)))
    other, _ = await out.tunnel()
    out.gate.cut("coder0")
    writer.write(b"too late")
    await _gone(reader)
    await _gone(other)
    await _gone(far_reader)
    assert (await out.next_traffic()).ended == "cut"
    assert (await out.next_traffic()).ended == "cut"
    assert not out.gate.watching
    answer = await out.answer(connect(DOCS))
    assert answer.startswith("HTTP/1.1 403 ")
    assert "coder0 was cut off." in answer


async def test_whoever_is_cut_off_while_its_tunnel_is_dug_does_not_get_it(out: Street) -> None:
    out.resolver.meanwhile = lambda: out.gate.cut("coder0")
    answer = await out.answer(connect(DOCS))
    assert answer.startswith("HTTP/1.1 403 ")
    far_reader, _ = await out.next_far()
    assert await within(far_reader.read()) == b""


async def test_whoever_loses_the_route_while_its_tunnel_is_dug_does_not_get_it(out: Street) -> None:
    out.resolver.meanwhile = out.tunnels.close
    reader, _ = await out.call(connect(DOCS).encode() + HELLO)
    far_reader, _ = await out.next_far()
    await _gone(far_reader)
    await _gone(reader)


async def test_an_agent_that_is_let_go_loses_its_tunnels(out: Street) -> None:
    reader, _ = await out.tunnel()
    out.tunnels.close("somebody-else")
    assert out.tunnels.count("coder0") == 1
    out.tunnels.close("coder0")
    await _gone(reader)
    await out.next_traffic()


async def test_a_server_that_is_gone_ends_the_tunnel(out: Street) -> None:
    reader, writer = await out.tunnel()
    far_reader, far_writer = await out.next_far()
    writer.write(HELLO)
    await within(far_reader.readexactly(len(HELLO)))
    far_writer.transport.abort()
    await _gone(reader)
    writer.close()
    await out.next_traffic()


async def _gone(reader: asyncio.StreamReader) -> None:
    """The connection is closed, in whatever manner."""
    with contextlib.suppress(ConnectionError):
        assert await within(reader.read()) == b""
