"""Agents' listeners: what is open, and what is closed with them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import cast

import pytest
import uvloop

from egress.http.agent_listeners import Listeners
from egress.http.proxy import Proxy
from egress.paths import EgressPaths
from egress.settings import AgentRegistration


@pytest.mark.parametrize("turns", range(4))
def test_a_connection_that_arrives_while_its_listener_closes_is_closed(short_home: Path, turns: int) -> None:
    """It is accepted in one turn of the loop, and known to the listener in a later one."""
    proxy = cast("Proxy", None)  # No request is sent.

    async def connect_and_close() -> None:
        listeners = Listeners(EgressPaths(state=short_home / "state", sockets=short_home / "run"), proxy)
        address = await listeners.open(AgentRegistration(agent="coder0", launch_id="l1"))
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(str(address.socket))
            for _ in range(turns):
                await asyncio.sleep(0)
            await listeners.close("coder0")
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.get_running_loop().sock_recv(client, 1) == b""

    uvloop.run(connect_and_close())
