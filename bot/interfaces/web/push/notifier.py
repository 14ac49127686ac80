"""Follows what waits, and pushes it to the browsers that want that.

Session and permission are asked again at each push. Nothing waits for a push service but the next push.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from bot.agents.services import AgentServices
from bot.interfaces.web.push.sender import PushSender
from bot.interfaces.web.push.subscriptions import EVERY_S, PushSubscription, SubscribedBrowser, due
from bot.interfaces.web.visitor import permission_for
from bot.read_models.documents import Document
from bot.read_models.waiting import WaitingModel
from bot.web_access.service import WebAccess
from core.async_waits import set_within
from core.errors import MusterError

#: Seconds between two looks whether browsers still want pushes.
_LOOK_EVERY_S: Final = 30.0
#: Requests to push services at a time.
_AT_ONCE: Final = 8

_log = structlog.get_logger("web")


@dataclass(slots=True)
class WaitingNotifier:
    """One loop for all browsers."""

    services: AgentServices
    access: WebAccess
    sender: PushSender
    every_s: float = EVERY_S
    _waiting: Mapping[str, float] = field(default_factory=dict)
    _told: dict[str, frozenset[str]] = field(default_factory=dict)
    _pushed_at: dict[str, float] = field(default_factory=dict)
    _subscribed: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="web pushes")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def subscribed(self) -> None:
        """Note that a browser wants pushes from now on."""
        self._subscribed.set()

    async def _run(self) -> None:
        while True:
            try:
                if await self._browsers():
                    async with self.services.documents.follow(["waiting"]) as documents:
                        await self._follow(documents)
                self._subscribed.clear()
                await set_within(self._subscribed, _LOOK_EVERY_S)
            except MusterError as error:
                _log.warning("web.push_paused", reason=str(error))
                await asyncio.sleep(_LOOK_EVERY_S)
            except Exception as error:
                _log.error("web.push_failed", exc_info=error)
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _follow(self, documents: AsyncIterator[Document]) -> None:
        """Push what comes to wait, until no browser wants it any more."""
        news: asyncio.Future[Document] = asyncio.ensure_future(anext(documents))
        pause: float = 0.0
        try:
            while True:
                done, _ = await asyncio.wait({news}, timeout=pause)
                if done:
                    value = news.result().value
                    self._waiting = _asked_at(value) if isinstance(value, WaitingModel) else {}
                    news = asyncio.ensure_future(anext(documents))
                browsers = await self._browsers()
                if not browsers:
                    return
                pause = await self._push(browsers)
        finally:
            news.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await news

    async def _browsers(self) -> Sequence[SubscribedBrowser]:
        return [
            SubscribedBrowser(
                session=session.id,
                identity=session.identity,
                subscription=PushSubscription(
                    endpoint=str(push["endpoint"]), p256dh=str(push["p256dh"]), auth=str(push["auth"])
                ),
                at=float(push["at"]),
            )
            for session, push in await self.access.pushed()
        ]

    async def _push(self, browsers: Sequence[SubscribedBrowser]) -> float:
        """Push to those who are due. Returns the seconds until somebody may be."""
        now = self.services.clock()
        found = due(browsers, self._waiting, self._told, self._pushed_at, now, every_s=self.every_s)
        self._told = {each.session: self._told[each.session] for each in browsers if each.session in self._told}
        if found.browsers:
            waiting = frozenset(self._waiting)
            room = asyncio.Semaphore(_AT_ONCE)
            await asyncio.gather(*(self._push_one(each, waiting, now, room) for each in found.browsers))
            # Those that failed are due again.
            found = due(browsers, self._waiting, self._told, self._pushed_at, now, every_s=self.every_s)
        return min(_LOOK_EVERY_S, max(0.05, found.next_at - now) if found.next_at is not None else _LOOK_EVERY_S)

    async def _push_one(
        self, browser: SubscribedBrowser, waiting: frozenset[str], now: float, room: asyncio.Semaphore
    ) -> None:
        needed = permission_for(self.services, "approvals")
        if await self.services.operators.permission(browser.identity) < needed:
            # What waits now is none of theirs, also if they get the permission later.
            self._told[browser.session] = waiting
            return
        self._pushed_at[browser.identity] = now
        async with room:
            result = await self.sender.send(browser.subscription)
        if result == "failed":
            return
        self._told[browser.session] = waiting
        at = None if result == "gone" else now
        await self.access.push_told(browser.session, browser.subscription.endpoint, at)
        _log.info("web.pushed", session=browser.session, service=browser.subscription.origin, result=result)


def _asked_at(waiting: WaitingModel) -> Mapping[str, float]:
    """Return when what waits was asked, by its id. What somebody has answered does not wait."""
    requests = {each.id: each.asked_at for each in waiting.requests if each.state == "pending"}
    return requests | {each.id: each.asked_at for each in waiting.questions}
