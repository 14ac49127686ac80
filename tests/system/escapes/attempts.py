"""What attempts have in common: what is wished for, and what came of them."""

import contextlib
import ctypes
import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LIMIT_S = 10.0
QUIET_S = 0.2

WISHES: dict[str, Any] = json.loads(Path("wishes.json").read_text())
found: dict[str, str] = {}
#: By attempt, what of it must stand in the audit.
told: dict[str, str] = {}

libc = ctypes.CDLL(None, use_errno=True)

NEW_USER, NEW_MOUNTS, NEW_PIDS, NEW_CGROUP = 0x10000000, 0x20000, 0x20000000, 0x02000000


@contextlib.contextmanager
def attempt(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"


def plug(
    name: str, family: int, kind: int, address: tuple[str | int, int] | str, protocol: int = 0, content: bytes = b""
) -> None:
    """Reach an address by a socket of the sandbox's own."""
    with attempt(name), socket.socket(family, kind, protocol) as one:
        one.settimeout(LIMIT_S)
        one.connect(address)
        if content:
            one.send(content)
            one.recv(100)
        found[name] = "OPEN"


def refused() -> str:
    """Why the last call failed."""
    return errno.errorcode.get(ctypes.get_errno(), "?")


def call(name: str, *words: Any) -> None:
    """Ask the kernel for something by a call's number. To be given anything is to be through."""
    ctypes.set_errno(0)
    answer = libc.syscall(*words)
    found[name] = "OPEN" if answer >= 0 else refused()


def mount(source: str, place: str, kind: str | None, flags: int = 0, more: str | None = None) -> bool:
    words = (word if word is None else word.encode() for word in (source, place, kind))
    return bool(libc.mount(*words, flags, None if more is None else more.encode()) == 0)


def below(name: str, flags: int, act: Callable[[], str]) -> None:
    """Try something as root of a user namespace of one's own."""
    reading, writing = os.pipe()
    user, group = os.getuid(), os.getgid()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            if libc.unshare(NEW_USER | flags) != 0:
                said = f"no namespace: {refused()}"
            else:
                for file, line in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
                    Path(f"/proc/self/{file}").write_text(line)
                inner = os.fork() if flags & NEW_PIDS else 0
                said = "" if inner and os.waitpid(inner, 0) else act()
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        found[name] = pipe.read()
    os.waitpid(child, 0)
