"""Sends a push to a browser's push service (RFC 8030, RFC 8291, RFC 8292).

The encryption is pywebpush's. The request is our own: its host is on the list, it follows no redirect, takes no cookie,
reads no answer but its status, and has a time limit.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

import aiohttp
import structlog

from bot.interfaces.web.push.subscriptions import PushRefused, PushSubscription, is_allowed
from core import durable_files
from core.errors import MusterError

#: ``delivered``; ``gone``: the browser does not want it any more; ``refused``: it is not tried again; ``failed``.
PushResult: TypeAlias = Literal["delivered", "gone", "refused", "failed"]
#: Seconds for one request, and for which a push service keeps a push for a browser that is offline.
SEND_LIMIT_S: Final = 10.0
_KEPT_S: Final = 600
#: Seconds for which the signature of a request is valid; at most a day (RFC 8292, section 2).
_SIGNED_S: Final = 3_600.0
#: All that a push says.
PAYLOAD: Final = json.dumps({"kind": "waiting"}).encode()

_log = structlog.get_logger("web")


class PushUnavailable(MusterError):
    """`web.push` is in muster.yaml, and the library for it is not installed.

    Run `uv tool install 'muster-fleet[webpush]'` or `pip install 'muster-fleet[webpush]'`, or remove `web.push`.
    """

    code = "web.push_unavailable"


class _Signer(Protocol):
    def sign(self, claims: Mapping[str, str | int]) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class _PushKey:
    signer: _Signer
    public: str


@dataclass(slots=True)
class PushSender:
    """Sends pushes, signed with this installation's key."""

    key_file: Path
    """Made if it is missing, and accessible to this user only."""
    services: Collection[str]
    contact: str
    """Where push services reach the operator: a mailto or https address."""
    clock: Callable[[], float]
    send_limit_s: float = SEND_LIMIT_S
    _key: _PushKey | None = field(default=None, repr=False)
    _client: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Load the library and the key.

        Raises:
            PushUnavailable: the library is missing.
            MusterError: the key cannot be read or made.
        """
        self._key = await asyncio.to_thread(_key_in, self.key_file)
        self._client = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self.send_limit_s), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    @property
    def public_key(self) -> str:
        """The public key as browsers take it."""
        assert self._key is not None
        return self._key.public

    async def check(self, subscription: PushSubscription) -> None:
        """Check that a browser's keys can be used.

        Raises:
            PushRefused: they cannot.
        """
        try:
            await asyncio.to_thread(_encrypted, subscription)
        except ValueError:
            raise PushRefused(
                "The keys of this browser's push service cannot be read. Turn the pushes on again."
            ) from None

    async def send(self, subscription: PushSubscription) -> PushResult:
        """Push that something waits."""
        assert self._client is not None
        # The list may be shorter than when the browser subscribed.
        if not is_allowed(subscription.endpoint, self.services):
            return "gone"
        try:
            body, signature = await asyncio.to_thread(self._prepared, subscription)
        except ValueError:
            return "gone"
        headers = {
            **signature,
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(_KEPT_S),
            "Topic": "waiting",
            "Urgency": "high",
        }
        try:
            async with self._client.post(
                subscription.endpoint, data=body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("web.push_failed", service=subscription.origin, reason=str(error) or type(error).__name__)
            return "failed"
        result = _result(status)
        if result in ("refused", "failed"):
            _log.warning("web.push_failed", service=subscription.origin, status=status)
        return result

    def _prepared(self, subscription: PushSubscription) -> tuple[bytes, dict[str, str]]:
        assert self._key is not None
        claims: dict[str, str | int] = {
            "aud": subscription.origin,
            "exp": int(self.clock() + _SIGNED_S),
            "sub": self.contact,
        }
        return _encrypted(subscription), dict(self._key.signer.sign(claims))


def contact_for(contact: str | None, url: str) -> str:
    """Return where push services reach the operator.

    Args:
        contact: `web.push.contact` of muster.yaml.
        url: the address of the dashboard.
    """
    parts = urlsplit(url)
    return contact or (f"https://{parts.hostname}" if parts.scheme == "https" else "https://localhost")


def _result(status: int) -> PushResult:
    if 200 <= status < 300:
        return "delivered"
    if status in (404, 410):
        return "gone"
    return "failed" if status == 429 or status >= 500 else "refused"


def _encrypted(subscription: PushSubscription) -> bytes:
    from pywebpush import WebPusher

    keys = {"p256dh": subscription.p256dh, "auth": subscription.auth}
    encoded = WebPusher({"endpoint": subscription.endpoint, "keys": keys}).encode(PAYLOAD)
    return bytes(encoded["body"])


def _key_in(file: Path) -> _PushKey:
    try:
        import pywebpush  # noqa: F401
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
        from py_vapid import Vapid02
    except ImportError:
        raise PushUnavailable(
            "`web.push` is in muster.yaml, and the library for it is not installed. Run "
            "`uv tool install 'muster-fleet[webpush]'` or `pip install 'muster-fleet[webpush]'`, or remove `web.push`."
        ) from None
    try:
        if not file.exists():
            key = Vapid02()
            key.generate_keys()
            durable_files.write(file, key.private_pem().decode())
        signer = Vapid02(load_pem_private_key(file.read_bytes(), password=None))
        point = signer.public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return _PushKey(signer, base64.urlsafe_b64encode(point).decode().rstrip("="))
    except OSError as error:
        raise MusterError(f"The key for pushes cannot be kept in {file}: {error.strerror or error}.") from error
    except (ValueError, TypeError) as error:
        raise MusterError(
            f"The key for pushes in {file} cannot be read. Remove the file; Muster makes another one, and pushes are "
            "turned on again in each browser."
        ) from error
