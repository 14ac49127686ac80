"""A push service on this machine, and a browser's side of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import http_ece
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02

from bot.interfaces.web.push.subscriptions import PushSubscription

AUTH = b"sixteen bytes ok"


@dataclass
class ReceivedPush:
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class PushService:
    """What browsers' makers run. It takes any path."""

    origin: str = ""
    status: int = 201
    hangs: bool = False
    received: list[ReceivedPush] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def subscription(self, name: str = "phone") -> PushSubscription:
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return PushSubscription(endpoint=f"{self.origin}/push/{name}", p256dh=_base64(point), auth=_base64(AUTH))

    def read(self, push: ReceivedPush) -> bytes:
        """What the browser reads of a push, after it checked who sent it."""
        assert Vapid02.verify(push.headers["Authorization"])
        assert push.headers["Content-Encoding"] == "aes128gcm"
        made: bytes = http_ece.decrypt(push.body, private_key=self.key, auth_secret=AUTH, version="aes128gcm")
        return made

    async def has(self, count: int) -> None:
        """Wait until so many pushes have come."""
        async with asyncio.timeout(30):
            while len(self.received) < count:
                self.news.clear()
                await self.news.wait()

    async def take(self, request: web.Request) -> web.Response:
        self.received.append(ReceivedPush(request.path, dict(request.headers), await request.read()))
        self.news.set()
        if self.hangs:
            await asyncio.Event().wait()
        headers = {"Location": f"{self.origin}/elsewhere"} if 300 <= self.status < 400 else {}
        return web.Response(status=self.status, headers=headers)


@contextlib.asynccontextmanager
async def push_service() -> AsyncIterator[PushService]:
    service = PushService()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", service.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()


def _base64(of: bytes) -> str:
    return base64.urlsafe_b64encode(of).decode().rstrip("=")
