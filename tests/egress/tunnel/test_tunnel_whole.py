"""Tunnels in a whole egress: real gate, real ledger, real listener."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from egress.ledger.model import Action
from tests.egress.tunnel import client_hellos
from tests.egress.tunnel.network import PUBLIC, Elsewhere, connect, within
from tests.egress.whole_egress import Plane, plane

HELLO = client_hellos.record(client_hellos.message(client_hellos.server_name(b"docs.python.org")))
DOCS = "docs.python.org:443"


class House:
    """An egress with an agent, and a server out there of which the test is the mind."""

    def __init__(self, way: Plane, far: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        self.way = way
        self.far = far
        self.writers: list[asyncio.StreamWriter] = []

    async def call(self, request: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.way.paths.listener("coder0"))
        self.writers.append(writer)
        writer.write(request.encode())
        return reader, writer

    async def tunnel(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamReader]:
        """One through which the handshake has gone."""
        reader, writer = await self.call(connect(DOCS))
        assert (await within(reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 200 ")
        far_reader, far_writer = await within(self.far.get())
        self.writers.append(far_writer)
        writer.write(HELLO)
        assert await within(far_reader.readexactly(len(HELLO))) == HELLO
        return reader, writer, far_reader

    async def audit(self, action: str) -> Action:
        """The first row of this kind, once it is there."""
        while True:
            head = self.way.egress.ledger.head
            for row in await self.way.egress.ledger.actions_after(0, 1000):
                if row.action == action:
                    return row
            assert await self.way.egress.ledger.newer(head, 10) != head, f"no row {action}"


@pytest.fixture
async def house(short_home: Path) -> AsyncIterator[House]:
    far: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda *streams: far.put_nowait(streams), "127.0.0.1")
    resolver = Elsewhere({"docs.python.org": [[PUBLIC]]}, server.sockets[0].getsockname()[1])
    async with plane(short_home, resolver=resolver) as way:
        await way.agent(routes=["docs.python.org"])
        made = House(way, far)
        yield made
        for writer in made.writers:
            writer.close()
    server.close()


async def test_a_cut_off_ends_tunnels_and_restoring_opens_new_ones(house: House) -> None:
    reader, _, far_reader = await house.tunnel()
    gate = house.way.egress.gate
    await gate.deny("coder0", "cutoff", cause="too much", by="ops", id="1")
    await gone(reader)
    await gone(far_reader)
    refused, _ = await house.call(connect(DOCS))
    answer = await within(refused.read())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"too much" in answer
    await gate.allow("coder0", cause="enough now", by="ops", id="2")
    await house.tunnel()


async def test_the_emergency_stop_ends_tunnels(house: House) -> None:
    reader, _, far_reader = await house.tunnel()
    house.way.paths.estop.touch()
    await gone(reader)
    await gone(far_reader)
    refused, _ = await house.call(connect(DOCS))
    assert (await within(refused.read())).startswith(b"HTTP/1.1 403 ")
    assert house.far.empty()


async def test_routes_that_are_taken_away_end_what_was_dug_by_them(house: House) -> None:
    reader, _, far_reader = await house.tunnel()
    await house.way.agent(routes=[])
    await gone(reader)
    await gone(far_reader)
    refused, _ = await house.call(connect(DOCS))
    assert (await within(refused.read())).startswith(b"HTTP/1.1 403 ")


async def test_an_agent_that_is_let_go_has_nothing_open(house: House) -> None:
    reader, _, far_reader = await house.tunnel()
    await house.way.egress.forget("coder0")
    await gone(reader)
    await gone(far_reader)


async def test_attempts_and_bytes_are_in_the_audit(short_home: Path) -> None:
    far: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda *streams: far.put_nowait(streams), "127.0.0.1")
    resolver = Elsewhere({"docs.python.org": [[PUBLIC]]}, server.sockets[0].getsockname()[1])
    async with plane(short_home, resolver=resolver) as way:
        await way.agent(routes=["docs.python.org"])
        house = House(way, far)
        refused, _ = await house.call(connect("evil.example:443"))
        assert (await within(refused.read())).startswith(b"HTTP/1.1 403 ")
        attempt = await house.audit("route-refused")
        assert (attempt.agent, attempt.by, attempt.result) == ("coder0", "egress", "refused")
        assert "evil.example:443" in attempt.cause
        _, writer, _ = await house.tunnel()
        for each in house.writers:
            each.close()
        del writer
    async with plane(short_home) as way:
        # Told at the latest when the egress ends.
        row = await House(way, far).audit("tunnel")
    assert (row.agent, row.cause) == ("coder0", DOCS)
    assert row.detail["sent"] == len(HELLO)
    assert row.detail["tunnels"] == 1
    server.close()


async def test_a_tunnel_on_a_port_listener_is_refused(house: House) -> None:
    # Whoever runs without a sandbox has the network anyway; and a port has no way to tell who speaks in a CONNECT.
    address = await house.way.egress.register(
        house.way.egress.ledger.agents["coder0"].model_copy(update={"agent": "coder1", "listener": "port"})
    )
    assert address.url is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.url.split("/")[2].split(":")[1]))
    house.writers.append(writer)
    writer.write(connect(DOCS).encode())
    assert not (await within(reader.readline())).startswith(b"HTTP/1.1 2")


async def test_the_keys_of_the_authority_are_the_egresss_alone(house: House) -> None:
    paths = house.way.paths
    assert paths.authority.stat().st_mode & 0o077 == 0
    shown = [path.read_text() for path in paths.trust.iterdir()]
    assert len(shown) == 2
    assert not any("PRIVATE" in each for each in shown)
    assert json.dumps(house.way.egress.status()).count("PRIVATE") == 0


async def gone(reader: asyncio.StreamReader) -> None:
    """The connection is closed, in whatever manner."""
    with contextlib.suppress(ConnectionError):
        assert await within(reader.read()) == b""
