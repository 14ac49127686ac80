"""Stands in for many agent hosts: ``python -m benchmarks.agent_hosts HOME NAME ...``.

Each holds its agent's lock, listens on its socket and tells a status every ten seconds, as a true one does that has
nothing to do (docs/reference/control-protocol.md); without its runtime, a thousand of them fit into one process.
Prints a line when all of them listen, and runs until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from asyncio import StreamReader, StreamWriter
from typing import Any

from bot.config.paths import Paths
from fleet.control.host_spec import CONTROL_PROTOCOL
from fleet.supervision import host_lock

HEARTBEAT_S = 10.0


class StandIn:
    """One agent host that is idle."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer one connection until it ends."""
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                request = json.loads(line)
                self._write(writer, {"id": request["id"], "result": self._answer(request["method"])})
                while request["method"] == "follow":
                    self._write(writer, {"status": self._status()})
                    await writer.drain()
                    await asyncio.sleep(HEARTBEAT_S)

    def _answer(self, method: str) -> dict[str, Any]:
        if method != "hello":
            return {}
        return {
            "protocol": CONTROL_PROTOCOL,
            "agent": self.name,
            "launch_id": f"launch-{self.name}",
            "incarnation": 1,
            "pid": os.getpid(),
            "version": "0",
        }

    def _status(self) -> dict[str, Any]:
        return {
            "state": "idle",
            "runtime_pid": os.getpid(),
            "pinged_at": time.time(),
            "ping_ms": 1.0,
            "adapter": False,
            "queued": 0,
            "turns": 1,
            "position": {"incarnation": 1, "seq": 2},
            "writable": True,
        }

    @staticmethod
    def _write(writer: StreamWriter, message: dict[str, Any]) -> None:
        writer.write(json.dumps(message).encode() + b"\n")


async def main(home: str, names: list[str]) -> None:
    """Stand in for these agents of the installation in `home`."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    paths = Paths.of({"MUSTER_HOME": home, "HOME": home})
    for name in names:
        host_lock.hold(paths.agent_folder(name))
        socket = paths.agent_socket(name)
        socket.unlink(missing_ok=True)
        await asyncio.start_unix_server(StandIn(name).serve, str(socket), backlog=100)
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
