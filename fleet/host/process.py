"""The agent host's process: ``python -P -m fleet.host.process [--detach] SPEC.json``.

The order of the beginning keeps promises: the lock first (one agent has one host), then the sweep (a session is loaded
only when the old one is gone to the last process), then the journal (what was cut is said before anything new begins),
then the socket, and the runtime last.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from core.log_rotation import keep_bounded
from fleet.control.host_spec import AgentSpec
from fleet.errors import FleetError
from fleet.hosting.host_command_line import LOG
from fleet.hosting.kinds import TMUX
from fleet.hosting.systemd_unit_text import WANTED
from fleet.supervision import container_cleanup, owner_process, process_sweep
from fleet.supervision.host_lock import HostLockHeld, hold

#: Where systemd hears that a unit is ready (sd_notify(3)).
_NOTIFY: Final = "NOTIFY_SOCKET"
#: What a key pressed in a terminal sends (termios(3)); in the window of a tmux session they are a slip.
_KEYS: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
#: Exit statuses beside 0.
FAILED: Final = 1
USAGE: Final = 2


def main(arguments: list[str]) -> int:
    """Run the agent host of the specification in the named file; its end is in the journal."""
    detach = arguments[:1] == ["--detach"]
    if len(arguments) != 1 + detach:
        print("usage: python -P -m fleet.host.process [--detach] SPEC.json", file=sys.stderr)
        return USAGE
    os.umask(0o077)
    listener = os.environ.pop(_NOTIFY, "")
    if detach and os.fork():
        # No one waits for the child: it belongs to init, so that whoever started it may come and go.
        os._exit(0)
    try:
        spec = AgentSpec.read(Path(arguments[-1]))
        os.chdir(spec.folder)
        lock = hold(Path(spec.folder))
    except (OSError, ValueError, TypeError, HostLockHeld) as error:
        print(f"The agent host cannot start: {error}", file=sys.stderr)
        return FAILED
    bounded = keep_bounded(Path(spec.folder) / LOG, spec.log_bytes)
    try:
        asyncio.run(_run(spec, listener))
    except (OSError, FleetError) as error:
        print(f"The agent host of {spec.agent} ended: {error}", file=sys.stderr)
        return FAILED
    finally:
        bounded.set()
        os.close(lock)
    return 0


async def _run(spec: AgentSpec, listener: str) -> None:
    # The protocol's library takes most of the start's time; nothing that refuses to start should wait for it.
    from fleet.host.agent_host import AgentHost
    from fleet.host.control_server import HostControlServer
    from fleet.host.journal_fanout import load_state
    from fleet.host.mcp.socket_server import ToolServer
    from fleet.host.runtime_process import adopt_orphans

    adopt_orphans()
    earlier = load_state(Path(spec.folder))
    for marker in {*earlier.markers, spec.marker}:
        process_sweep.sweep(marker)
    container_cleanup.remove(spec.removal)
    host = await AgentHost.open(spec, earlier)
    server = HostControlServer(host)
    tools = ToolServer(host.calls)
    loop = asyncio.get_running_loop()
    ending: list[asyncio.Task[None]] = []

    def end_now() -> None:
        ending.append(loop.create_task(host.shut_down(now=True, reason="the agent host was told to end")))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end_now)
    for number in (signal.SIGHUP, *(_KEYS if spec.hosting == TMUX else ())):
        # Heard and not heeded; one that is ignored would be ignored by all that the agent starts, too.
        loop.add_signal_handler(number, lambda: None)
    try:
        with owner_process.watched(spec.ends_with, end_now):
            await server.start(Path(spec.socket))
            if spec.tools_socket:
                await tools.start(Path(spec.tools_socket), soon=spec.adapter)
            _say_ready(listener)
            await host.run()
    finally:
        host.finish()
        if not ending:
            # It ended because that was wanted, or because it could not go on: no boot brings it back. One that was told
            # to end by a signal, as by a machine that goes down, is brought back.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{spec.folder}/{WANTED}")
        await tools.close()
        await server.close()
        await host.chronicle.journal.close()
        for path in filter(None, (spec.socket, spec.tools_socket)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _say_ready(listener: str) -> None:
    """Tell systemd, where it waits for that, that the agent host listens."""
    if not listener:
        return
    address = f"\0{listener[1:]}" if listener.startswith("@") else listener
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.sendto(b"READY=1", address)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
