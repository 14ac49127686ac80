"""The interface through which the client finds and starts an egress."""

from __future__ import annotations

from typing import Protocol

from egress.daemon.control_client import EgressControlClient


class EgressSource(Protocol):
    """A way to find and start an egress: a separate process, or this process in tests."""

    async def find(self) -> EgressControlClient | None:
        """Return the client of the running egress, or None if none runs."""

    async def start(self) -> EgressControlClient:
        """Return the client of the egress, and start the egress if necessary.

        Raises:
            MusterError: it does not start; the message says why, and what to do.
        """

    async def is_outdated(self) -> bool:
        """Return whether the running egress is of another version than this process."""

    async def stop(self) -> None:
        """Stop the running egress gracefully."""

    async def end(self) -> int:
        """Kill the hung egress and return its process number.

        Raises:
            MusterError: it is still running.
        """
