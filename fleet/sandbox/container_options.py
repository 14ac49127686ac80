"""The options for podman and docker that a sandbox profile may add. All others could weaken the isolation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

#: These change resources, labels and the program that runs containers, and nothing of the isolation (podman-run(1)).
_FLAGS: Final = frozenset(
    {
        *("--blkio-weight", "--cgroups", "--cpu-period", "--cpu-quota", "--cpu-shares", "--cpus", "--cpuset-cpus"),
        *("--cpuset-mems", "--label", "--memory-reservation", "--memory-swap", "--memory-swappiness"),
        *("--oom-score-adj", "--platform", "--runtime", "--security-opt", "--shm-size", "--tz", "--ulimit"),
    }
)
#: Which files a container may touch besides its own, where SELinux keeps them apart.
_SECURITY: Final = re.compile(r"label=(disable|type:\w+|level:[\w:.,-]+|user:\w+|role:\w+)")


def flags(written: Sequence[str]) -> tuple[str, ...]:
    """Return the flags of a profile, a word each: ``--runtime runc`` in two words becomes ``--runtime=runc``.

    Raises:
        ValueError: one of them might undo the isolation, or is none.
    """
    found: list[str] = []
    words = iter(written)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in _FLAGS:
            allowed = ", ".join(sorted(_FLAGS))
            raise ValueError(
                f"found {word[:80]!r}, which is not among those that leave the isolation alone: {allowed}. What an "
                "agent is to see or reach, say with mounts, routes, env, memory and pids."
            )
        if not equals:
            value = next(words, "")
        if not value or not value.isprintable() or value.startswith("-"):
            raise ValueError(f"{name} needs a value: {name}=VALUE.")
        if name == "--security-opt" and not _SECURITY.fullmatch(value):
            raise ValueError(
                f"found {word[:80]!r}; of --security-opt only label=disable, label=type:... and their like."
            )
        found.append(f"{name}={value}")
    return tuple(found)
