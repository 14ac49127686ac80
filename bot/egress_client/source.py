"""Where an egress is to be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from egress.daemon.control_client import EgressControlClient


class EgressSource(Protocol):
    """Where an egress is to be had: a process of its own, or, in tests, this one."""

    async def find(self) -> EgressControlClient | None:
        """Return the one that runs; None: none does."""

    async def start(self) -> EgressControlClient:
        """Return the one that runs, started if need be.

        Raises:
            MusterError: it does not come up; the message says why, and what to do.
        """

    async def is_outdated(self) -> bool:
        """Return whether the one that runs is of another version than this process."""

    async def stop(self) -> None:
        """End the one that runs, in good order."""

    async def end(self) -> int:
        """Kill the one that runs and does not answer; its process number.

        Raises:
            MusterError: it is still there.
        """
