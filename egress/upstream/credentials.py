"""The accounts' credentials: resolved from their references, kept in memory, and never shown."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from typing import Final

from core.async_waits import set_within
from core.errors import MusterError
from core.secret_references import Reference, Unresolved
from core.secret_values import SecretValues

#: How long a new egress waits for the secrets that only the orchestrator can provide.
TOLD_S: Final = 10.0
#: Shorter credentials are not masked: they are placeholders for providers without keys, and occur in ordinary text.
SHORTEST_MASKED: Final = 12


class NoCredential(MusterError):
    """An account's credential is unavailable. The message says where the egress looked, and what to do."""


class Credentials:
    """The credentials of all accounts."""

    def __init__(self) -> None:
        self._pushed: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self.secrets = SecretValues(shortest=SHORTEST_MASKED)
        """All that were ever had. They reach no agent, no log and no row."""
        self._files: dict[str, tuple[int, int, int]] = {}
        self._asking: dict[str, asyncio.Task[str]] = {}
        self._told = asyncio.Event()
        self._until = time.monotonic() + TOLD_S

    def __repr__(self) -> str:
        return f"<Credentials: {len(self._known)} known>"

    def push(self, secrets: Mapping[str, str]) -> None:
        """Take the values of ``env:NAME`` references from the orchestrator's environment; they stay in memory only."""
        self._pushed = dict(secrets)
        self._mask(secrets.values())
        self._known.clear()
        self._told.set()

    def forget(self, reference: str) -> None:
        """Drop a credential that the provider rejected, so that the next use resolves it again."""
        self._known.pop(reference, None)

    def known(self, reference: str) -> str | None:
        """Return the secret if it needs no lookup, else None."""
        secret = self._known.get(reference)
        if secret is not None and reference.startswith("file:") and self._files.get(reference) != _stamp(reference):
            return None
        return secret

    async def get(self, reference: str) -> str:
        """Return the secret. Concurrent callers for the same reference share one lookup.

        Raises:
            NoCredential: the reference cannot be resolved.
        """
        secret = self.known(reference)
        if secret is not None:
            return secret
        asking = self._asking.get(reference)
        if asking is None:
            asking = asyncio.create_task(self._fetch(reference), name="credential")
            self._asking[reference] = asking
            asking.add_done_callback(lambda _: self._asking.pop(reference, None))
        try:
            return await asyncio.shield(asking)
        except (Unresolved, ValueError) as error:
            raise NoCredential(str(error)) from None

    async def _fetch(self, written: str) -> str:
        reference = Reference.parse(written)
        if reference.scheme == "env" and written not in self._pushed and reference.name not in os.environ:
            await self._be_told()
        pushed = self._pushed.get(written)
        if pushed:
            secret = pushed
        elif reference.scheme == "env":
            secret = reference.resolve()
        else:
            stamp = _stamp(written)
            # A keyring may ask a person, and a file may be on a slow disk.
            secret = await asyncio.to_thread(reference.resolve)
            if stamp is not None:
                self._files[written] = stamp
        if not secret.isascii() or not secret.isprintable():
            raise Unresolved(f"The value of {reference} is not a credential: a header cannot carry its characters.")
        self._mask((secret,))
        self._known[written] = secret
        return secret

    def _mask(self, secrets: Iterable[str]) -> None:
        # Header names are lowercase, and some become names of windows.
        self.secrets.learn(spelling for secret in secrets for spelling in (secret, secret.lower()))

    async def _be_told(self) -> None:
        """Wait for the orchestrator to push its secrets: agents send requests as soon as a new egress listens."""
        await set_within(self._told, max(0.0, self._until - time.monotonic()))


def _stamp(reference: str) -> tuple[int, int, int] | None:
    if not reference.startswith("file:"):
        return None
    try:
        found = os.stat(os.path.expanduser(reference.removeprefix("file:")))
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
