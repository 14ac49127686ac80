"""The accounts' credentials: fetched where their references point, kept in memory, and shown to no one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from core.errors import MusterError
from core.secret_references import Reference, Unresolved
from core.secret_values import SecretValues

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


#: After its start, an egress waits so long for the orchestrator to tell what only that one knows.
TOLD_S: Final = 10.0
#: Shorter credentials are not masked: such words stand for a key where a provider wants none, and are in many a text.
SHORTEST_MASKED: Final = 12


class NoCredential(MusterError):
    """An account's credential cannot be had. The message says where it was looked for, and what to do."""


class Credentials:
    """One for all accounts."""

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
        """Take what stands for ``env:NAME`` from the orchestrator, whose environment has it; memory alone keeps it."""
        self._pushed = dict(secrets)
        self._mask(secrets.values())
        self._known.clear()
        self._told.set()

    def forget(self, reference: str) -> None:
        """The provider does not take it: look again the next time."""
        self._known.pop(reference, None)

    def known(self, reference: str) -> str | None:
        """Return the secret, when it needs no looking up."""
        secret = self._known.get(reference)
        if secret is not None and reference.startswith("file:") and self._files.get(reference) != _stamp(reference):
            return None
        return secret

    async def get(self, reference: str) -> str:
        """Return the secret. Those who ask for the same at once share one looking up.

        Raises:
            NoCredential: there is none.
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
            # A keyring may ask a person, a file may lie on a slow disk.
            secret = await asyncio.to_thread(reference.resolve)
            if stamp is not None:
                self._files[written] = stamp
        if not secret.isascii() or not secret.isprintable():
            raise Unresolved(f"What {reference} points to is no credential: it has signs that no header can carry.")
        self._mask((secret,))
        self._known[written] = secret
        return secret

    def _mask(self, secrets: Iterable[str]) -> None:
        # Names of headers, of which some become names of windows, come in small letters.
        self.secrets.learn(spelling for secret in secrets for spelling in (secret, secret.lower()))

    async def _be_told(self) -> None:
        """Wait for what the orchestrator tells an egress that has just started: agents ask as soon as it listens."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                await self._told.wait()


def _stamp(reference: str) -> tuple[int, int, int] | None:
    if not reference.startswith("file:"):
        return None
    try:
        found = os.stat(os.path.expanduser(reference.removeprefix("file:")))
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
