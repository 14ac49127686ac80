"""Carries bytes between its standard streams and a unix socket: ``python -I -S mcp_stdio_bridge.py SOCKET``.

Runtimes start MCP servers as programs; Muster's is a socket of the agent host. This runs inside the sandbox, where
nothing of Muster need be seen but this file.
"""

import os
import socket
import sys
import threading

_BLOCK = 1 << 16


def _carry(source: int, target: int) -> None:
    while block := os.read(source, _BLOCK):
        view = memoryview(block)
        while view:
            view = view[os.write(target, view) :]


def _inward(door: socket.socket) -> None:
    try:
        _carry(0, door.fileno())
        door.shutdown(socket.SHUT_WR)
    except OSError:
        os._exit(1)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: mcp_stdio_bridge.py SOCKET", file=sys.stderr)
        return 2
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        door.connect(arguments[0])
    except OSError as error:
        print(f"Muster's tools cannot be reached at {arguments[0]}: {error.strerror}", file=sys.stderr)
        return 1
    threading.Thread(target=_inward, args=(door,), daemon=True).start()
    try:
        _carry(door.fileno(), 1)
    except OSError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
