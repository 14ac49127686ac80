#!/usr/bin/env python3
"""Behaves like ``systemctl --user``, as far as Muster uses it, and writes down how it was called.

A unit is started from its real file: the condition looked at, the command line taken apart as systemd does, in an
environment of systemd's own, with a socket on which the unit says that it is ready. Whoever runs it is not its parent.
What it knows is in the folder that the variable RECORDER names: ``calls`` (one JSON list a line), ``UNIT.pid``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

HOME = Path(os.environ["HOME"])
UNITS = Path(os.environ.get("XDG_CONFIG_HOME") or HOME / ".config") / "systemd" / "user"
RECORD = HOME / "recorder"


def settings(unit: str) -> dict[str, list[str]]:
    path = UNITS / unit
    if not path.exists():
        fail(f"Unit {unit} not found.", 5)
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def fail(message: str, status: int = 1) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


def plain(value: str) -> str:
    return value.replace("%%", "%")


def words(line: str, variables: dict[str, str]) -> list[str]:
    """As systemd.service(5) takes a command line apart."""

    def put_in(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], "")

    return [re.sub(r"\$\$|\$\{(\w+)\}", put_in, plain(word)) for word in shlex.split(line)]


def alive(unit: str) -> int:
    try:
        pid = int((RECORD / f"{unit}.pid").read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return 0
    return pid if state not in "ZX" else 0


def start(unit: str) -> None:
    if alive(unit):
        return
    found = settings(unit)
    for path in found.get("ConditionPathExists", ()):
        if not Path(plain(path)).exists():
            return
    log = plain(found["StandardError"][0].removeprefix("append:"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, open(log, "ab") as output:
        ready.bind("")
        ready.settimeout(0.05)
        # The environment of a user's systemd, with what must not reach an agent host.
        address = f"@{ready.getsockname()[1:].decode()}"
        variables = {"NOTIFY_SOCKET": address, "PATH": "/usr/bin:/bin", "PYTHONPATH": "/nowhere", "MANAGER": "yes"}
        command = words(found["ExecStart"][0], variables)
        folder = plain(found["WorkingDirectory"][0])
        # Started by a process that ends at once, so that it is nobody's child.
        if (between := os.fork()) == 0:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, env=variables,
                start_new_session=True,
            )  # fmt: skip
            (RECORD / f"{unit}.pid").write_text(str(process.pid))
            os._exit(0)
        os.waitpid(between, 0)
        while found["Type"] == ["notify"]:
            try:
                if b"READY=1" in ready.recv(4096):
                    return
            except TimeoutError:
                if not alive(unit):
                    fail(f"Job for {unit} failed because the control process exited with error code.")


def stop(unit: str) -> None:
    pid = alive(unit)
    if pid:
        os.kill(pid, signal.SIGTERM)
    while alive(unit):
        time.sleep(0.01)


def main(arguments: list[str]) -> None:
    with (RECORD / "calls").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    if (RECORD / "refuses").exists():
        fail("Failed to connect to bus: No medium found")
    user, verb, *rest = arguments
    assert user == "--user"
    names = [each for each in rest if not each.startswith("-")]
    links = UNITS / "default.target.wants"
    for unit in names:
        match verb:
            case "start":
                start(unit)
            case "stop":
                stop(unit)
            case "show":
                print(alive(unit))
            case "is-active":
                sys.exit(0 if alive(unit) else 3)
            case "enable":
                settings(unit)
                links.mkdir(parents=True, exist_ok=True)
                (links / unit).unlink(missing_ok=True)
                (links / unit).symlink_to(UNITS / unit)
            case "disable":
                (links / unit).unlink(missing_ok=True)
            case "reset-failed":
                pass
            case _:
                fail(f"Unknown command verb {verb}.")


if __name__ == "__main__":
    main(sys.argv[1:])
