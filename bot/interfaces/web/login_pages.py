"""How a browser is logged in: it shows a code, waits for a person who confirms it in chat, and gets its session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from bot.agents.services import AgentServices
from bot.interfaces.web.acts import sent_by
from bot.interfaces.web.guard import RequestRefused, browser_address
from bot.interfaces.web.rates import AddressRate
from bot.interfaces.web.rendering import PageTemplates
from bot.interfaces.web.settings import WebAddresses
from bot.interfaces.web.visitor import own_path, visitor_of
from bot.web_access.model import CODE_LASTS_S, NewCode, browser_name, shown_code
from bot.web_access.service import TooManyCodes
from bot.web_access.sessions_of import access_to

#: Codes that one address gets at once, and seconds until it gets one more.
CODES_AT_ONCE: Final = 5
_ONE_MORE_S: Final = 60.0


@dataclass(slots=True)
class LoginPages:
    services: AgentServices
    pages: PageTemplates
    where: Callable[[], WebAddresses]
    rate: AddressRate = field(init=False)

    def __post_init__(self) -> None:
        self.rate = AddressRate(self.services.clock, CODES_AT_ONCE, _ONE_MORE_S)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/login", self._begin),
            web.post("/login", self._ask),
            web.get("/login/state", self._state),
            web.post("/login/open", self._open),
        ]

    async def _begin(self, request: web.Request) -> web.Response:
        """Show where to begin. It makes no code yet, so that a preview of a link costs nothing."""
        to = own_path(request.query.get("to"))
        if await visitor_of(request, self.services, self.where(), used=False) is not None:
            return web.Response(status=303, headers={"Location": to})
        return self._page(to, None)

    async def _ask(self, request: web.Request) -> web.Response:
        """Show a new code."""
        sent = await sent_by(request)
        where = self.where()
        address = browser_address(request, where)
        if not self.rate.take(address):
            raise RequestRefused("Too many codes were shown at your address. Wait a minute, and try again.", 429)
        try:
            new = await access_to(self.services).ask(address, browser_name(request.headers.get("User-Agent", "")))
        except TooManyCodes as error:
            raise RequestRefused(str(error), 429) from None
        response = self._page(own_path(sent.get("to")), new)
        self._set_cookie(response, where.login_cookie, new.token, int(CODE_LASTS_S))
        return response

    async def _state(self, request: web.Request) -> web.Response:
        """Say whether this browser's code was confirmed."""
        token = request.cookies.get(self.where().login_cookie, "")
        login = await access_to(self.services).asked(token) if token else None
        return web.json_response({"state": "expired" if login is None else login.state})

    async def _open(self, request: web.Request) -> web.Response:
        """Give this browser its session, if its code was confirmed."""
        sent, where = await sent_by(request), self.where()
        token = request.cookies.get(where.login_cookie, "")
        access = access_to(self.services)
        fresh = await access.open(token) if token else None
        to = own_path(sent.get("to"))
        if fresh is None:
            login = await access.asked(token) if token else None
            words = (
                "The code is not confirmed yet. Confirm it in chat, then go on."
                if login is not None
                else "The code has expired, or was shown by another browser. Show a new one."
            )
            return self._page(to, None, problem=words, waits=login is not None)
        response = web.Response(status=303, headers={"Location": to})
        self._set_cookie(response, where.session_cookie, fresh, int(access.longest_s))
        response.del_cookie(where.login_cookie, path="/", secure=where.secure, httponly=True)
        return response

    def _page(self, to: str, new: NewCode | None, *, problem: str | None = None, waits: bool = False) -> web.Response:
        text = self.pages.render(
            "login.html",
            title="Log in",
            to=to,
            code=None if new is None else shown_code(new.code),
            prefix=self.services.command_prefix,
            problem=problem,
            waits=waits or new is not None,
            minutes=int(CODE_LASTS_S // 60),
        )
        return web.Response(text=text, content_type="text/html")

    def _set_cookie(self, response: web.Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self.where().secure, httponly=True, samesite="Strict"
        )
