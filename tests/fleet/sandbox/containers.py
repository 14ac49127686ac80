"""Containers for tests: the machine's own programs, made by podman."""

from __future__ import annotations

import functools
import os
import shutil

import pytest

from fleet.sandbox import selection
from fleet.sandbox.profiles import SandboxProfile, WrittenProfile, merged

#: What podman needs where it runs within a container itself, or on control groups of the older kind.
_NESTED = ("--runtime", "runc", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")


def profile(**changes: object) -> SandboxProfile:
    """A profile whose containers can be made here. Skips the test where none can."""
    return merged({"box": WrittenProfile(kind="container", image="host", flags=_flags(), **changes)})["box"]  # type: ignore[arg-type]


@functools.cache
def _flags() -> tuple[str, ...]:
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    reason = ""
    for flags in ((), _NESTED):
        found = selection.container_available(
            merged({"box": WrittenProfile(kind="container", image="host", flags=flags)})["box"]
        )
        if found.works:
            return flags
        reason = found.reason
    # Namespaces for an ordinary user's containers are set up by an administrator.
    pytest.skip(reason if os.geteuid() == 0 else f"needs root, or an ordinary user whom podman works for: {reason}")
