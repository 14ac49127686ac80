"""Sizes of the file systems in memory (tmpfs) that a sandbox has. Pure.

By default the kernel gives each of them half of the machine's memory (tmpfs(5)). RLIMIT_DATA does not count what is
written there. Only a control group does, and often there is none. Runtimes put files aside in TMPDIR instead, which is
a folder on the disk, in the agent's home.
"""

from __future__ import annotations

from typing import Final

#: Bytes of all of them together where a profile bounds no memory; less on a machine that has less than eight times it.
_MOST: Final = 2 * 2**30
_PART_OF_MACHINE: Final = 8
#: Bytes of one that is there to cover something, or for sockets.
LITTLE: Final = 2**20
#: Shares of the whole, in quarters.
_QUARTERS: Final = {"/tmp": 2, "/var/tmp": 1, "/dev/shm": 1}  # noqa: S108


def total(memory: int | None, machine: int) -> int:
    """Return how many bytes an agent may keep in them together.

    Args:
        memory: the profile's bound, in bytes; None: it has none.
        machine: the machine's memory, in bytes.
    """
    return memory if memory is not None else min(_MOST, machine // _PART_OF_MACHINE)


def sizes(whole: int) -> dict[str, int]:
    """Return the size of each in bytes, by its place, which add up to `whole` but for sockets and covers."""
    return {**{place: whole * quarters // 4 for place, quarters in _QUARTERS.items()}, "/run": LITTLE}
