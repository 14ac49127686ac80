"""The events of the forge for tests: signed, sent in order, and lost, doubled, reordered or forged on request."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp

from tests.forge.forge_server.world import Hook, Kind


@dataclass(frozen=True)
class Delivery:
    """One event for one webhook."""

    id: str
    hook: Hook
    event: str
    """As in ``X-Gitea-Event`` or ``X-GitHub-Event``."""
    event_type: str
    body: bytes = field(repr=False)

    @property
    def payload(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Attempt:
    """One try to send a delivery, and the receiver's status; None if it did not respond."""

    delivery: Delivery
    status: int | None


def signature(secret: str, body: bytes) -> str:
    """Return the HMAC-SHA256 in hexadecimal digits; empty without a secret, as on Gitea."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() if secret else ""


def headers_of(delivery: Delivery, signed: str) -> dict[str, str]:
    """Return a delivery's headers."""
    common = {"Content-Type": "application/json"}
    if delivery.hook.kind == "gitea":
        return common | {
            "X-Gitea-Delivery": delivery.id,
            "X-Gitea-Event": delivery.event,
            "X-Gitea-Event-Type": delivery.event_type,
            "X-Gitea-Signature": signed,
            # Gitea sends the headers of others, too.
            "X-GitHub-Delivery": delivery.id,
            "X-GitHub-Event": delivery.event,
            "X-GitHub-Event-Type": delivery.event_type,
            "X-Hub-Signature-256": f"sha256={signed}",
        }
    return common | {
        "User-Agent": "GitHub-Hookshot/abc1234",
        "X-GitHub-Delivery": delivery.id,
        "X-GitHub-Event": delivery.event,
        "X-GitHub-Hook-ID": str(delivery.hook.id),
        **({"X-Hub-Signature-256": f"sha256={signed}"} if signed else {}),
    }


class Webhooks:
    """Sends deliveries one after the other."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        """Everything that happened, also what was lost."""
        self.attempts: list[Attempt] = []
        """What was sent, in order."""
        self._lose = self._double = 0
        self._held: list[Delivery] | None = None
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    def lose(self, events: int = 1) -> None:
        """Do not send the next events."""
        self._lose += events

    def double(self, events: int = 1) -> None:
        """Send each of the next events twice, with the same delivery id."""
        self._double += events

    def hold(self) -> None:
        """Send nothing until `release`."""
        self._held = self._held or []

    def release(self, *, reverse: bool = False) -> None:
        """Send what was held, also in reverse order."""
        held, self._held = self._held or [], None
        for delivery in reversed(held) if reverse else held:
            self._queue.put_nowait(delivery)

    def happened(self, hook: Hook, event: str, event_type: str, payload: Mapping[str, object]) -> None:
        """Send an event."""
        body = json.dumps(payload).encode()
        delivery = Delivery(str(uuid.uuid4()), hook, event, event_type, body)
        self.deliveries.append(delivery)
        if self._lose:
            self._lose -= 1
            return
        copies = 2 if self._double else 1
        self._double = max(0, self._double - 1)
        for _ in range(copies):
            self.redeliver(delivery)

    def redeliver(self, delivery: Delivery) -> None:
        """Send a delivery again under its old id, as the button at the forge does."""
        if self._held is not None:
            self._held.append(delivery)
        else:
            self._queue.put_nowait(delivery)

    async def forge(
        self,
        url: str,
        event: str,
        payload: Mapping[str, object] | bytes,
        *,
        secret: str | None,
        kind: Kind = "gitea",
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Send an event that never happened, as an attacker does; return the receiver's status.

        Args:
            url: where to.
            event: its name.
            payload: what it says.
            secret: what it is signed with, or None for no signature.
            kind: whose headers it has.
            headers: replace some of these.
        """
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        hook = Hook(0, url, secret or "", kind, datetime.now(UTC))
        delivery = Delivery(str(uuid.uuid4()), hook, event, event, body)
        sent = headers_of(delivery, signature(secret or "", body))
        if secret is None:
            sent = {name: value for name, value in sent.items() if "Signature" not in name}
        async with (await self._connections()).post(url, data=body, headers=sent | dict(headers or {})) as response:
            return response.status

    async def idle(self) -> None:
        """Wait until everything was sent that is not held."""
        await self._queue.join()

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._send_all())

    async def close(self) -> None:
        """Stop; what was not sent is not sent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _send_all(self) -> None:
        while True:
            delivery = await self._queue.get()
            signed = signature(delivery.hook.secret, delivery.body)
            status: int | None = None
            try:
                async with (await self._connections()).post(
                    delivery.hook.url, data=delivery.body, headers=headers_of(delivery, signed), allow_redirects=False
                ) as response:
                    status = response.status
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            finally:
                self.attempts.append(Attempt(delivery, status))
                self._queue.task_done()

    async def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        return self._session
