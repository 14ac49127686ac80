"""A handover of an agent in a container."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from fleet.control.agent_host_client import AgentLink
from fleet.control.terminal_frames import TerminalSize
from fleet.control.terminal_link import TerminalLink
from fleet.journal.events import TurnEnded
from fleet.sandbox.egress_grant import EgressGrant
from fleet.sandbox.profiles import merged
from fleet.sim.provider import server as providers
from fleet.supervision import host_lifecycle
from tests.fleet.host.handover.terminals import ENVIRON, SIZE, Screen
from tests.fleet.host.scripted_agent import until
from tests.fleet.sandbox import containers
from tests.fleet.sandbox.test_egress_grant import SECRET, Ways, account, assembly, forwarding, row

pytestmark = pytest.mark.root


async def test_the_program_runs_in_the_container_and_its_size_follows(tmp_path: Path) -> None:
    folder = tmp_path / "muster" / "run" / "out-coder0"
    folder.mkdir(parents=True)
    known = {**merged({}), "box": containers.profile()}
    made = assembly(tmp_path, Ways(EgressGrant(socket=folder / "sock")), account(), profiles=known)
    agent = row(made, runtime="sim", sandbox="box")
    socket = str(made.socket("coder0"))
    async with (
        providers.running() as provider,
        forwarding(folder / "sock", provider.url, SECRET) as seen,
        contextlib.AsyncExitStack() as ending,
    ):
        ending.push_async_callback(host_lifecycle.kill, made.folder("coder0"))
        await made.start(agent, floor=0, grants=())
        async with await AgentLink.connect(socket) as link:
            await link.send("m0", "Good morning.")
            await until(link, TurnEnded)
            async with await TerminalLink.open(socket, by="ana", now=False, size=SIZE, environ=ENVIRON) as terminal:
                screen = Screen(terminal)
                await screen.expect("/quit leaves")
                await terminal.send(TerminalSize(31, 101))
                await screen.expect("[31 rows, 101 columns]")
                await screen.type("Remember pear.\r")
                await screen.expect("You said: Remember pear.")
                await screen.type("/quit\r")
                assert "exit code 0" in await screen.ended()
            await link.send("m1", "What now?")
            ended = await until(link, TurnEnded, lambda event: event.message == "m1")
            assert ended.stop_reason == "end_turn"
    assert len(seen) == 3
