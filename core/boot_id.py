"""The machine that this process runs on."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def name() -> str:
    """Return the host name of this machine."""
    return socket.gethostname()


def is_this(wanted: str) -> bool:
    """Return whether `wanted` is a name of this machine, with or without its domain."""
    own, given = (each.casefold().rstrip(".") for each in (name(), wanted))
    return given in {"localhost", own, own.partition(".")[0]} or given.partition(".")[0] == own


def boot_id() -> str:
    """Return an ID that changes with each boot of the machine (proc(5), random/boot_id), or "" if there is none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
