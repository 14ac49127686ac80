"""The page where a browser turns pushes on and off, and the service worker that shows them."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from bot.interfaces.web.acts import Acts, sent_by
from bot.interfaces.web.assets import Assets
from bot.interfaces.web.push.notifier import WaitingNotifier
from bot.interfaces.web.push.sender import PushSender
from bot.interfaces.web.push.subscriptions import subscription_of
from bot.interfaces.web.reading import page
from bot.interfaces.web.visitor import Visitor, check_form, check_sees


@dataclass(slots=True)
class PushPages:
    acts: Acts
    assets: Assets
    sender: PushSender
    notifier: WaitingNotifier

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/push", self._shown),
            web.post("/push", self._on),
            web.post("/push/off", self._off),
            web.get("/sw.js", self._worker),
        ]

    async def _shown(self, request: web.Request) -> web.Response:
        visitor = await self._visitor(request)
        values = {"key": self.sender.public_key, "is_on": visitor.session.pushes}
        return await page(self.acts.services, self.acts.pages, request, visitor, "Pushes", "push.html", values)

    async def _on(self, request: web.Request) -> web.Response:
        visitor = await self._posting(request)
        subscription = subscription_of(await sent_by(request), self.sender.services)
        await self.sender.check(subscription)
        kept = {"endpoint": subscription.endpoint, "p256dh": subscription.p256dh, "auth": subscription.auth}
        await self.notifier.access.keep_push(visitor.session.id, kept)
        self.notifier.subscribed()
        return web.Response(status=303, headers={"Location": "/push"})

    async def _off(self, request: web.Request) -> web.Response:
        visitor = await self._posting(request)
        await self.notifier.access.keep_push(visitor.session.id, None)
        return web.Response(status=303, headers={"Location": "/push"})

    async def _worker(self, request: web.Request) -> web.Response:
        """Return the service worker. Its address is stable, and its scope is the whole dashboard."""
        worker = self.assets.named("sw.js")
        headers = {"Content-Type": worker.content_type, "Cache-Control": "no-cache"}
        return web.Response(body=worker.content, headers=headers)

    async def _visitor(self, request: web.Request) -> Visitor:
        visitor = await self.acts.visitor(request)
        check_sees(visitor, self.acts.services, "approvals")
        return visitor

    async def _posting(self, request: web.Request) -> Visitor:
        visitor = await self._visitor(request)
        check_form(visitor, await sent_by(request))
        return visitor
