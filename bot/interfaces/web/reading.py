"""Pages that show something: the views, older pages of them, static files, and the stream of changes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from aiohttp import web

from bot.agents.services import AgentServices
from bot.auth.permission import ADMIN
from bot.commands.registry import Command
from bot.commands.syntax import command_line
from bot.interfaces.web import forms, views
from bot.interfaces.web.assets import Assets
from bot.interfaces.web.forms import DOOR
from bot.interfaces.web.guard import RequestRefused
from bot.interfaces.web.rendering import PageTemplates
from bot.interfaces.web.settings import WebAddresses
from bot.interfaces.web.stream import Streams, for_visitor, part, readable
from bot.interfaces.web.visitor import Visitor, check_sees, own_path, permission_for, visitor_of
from bot.read_models.agent import AgentModel
from bot.read_models.audit import AuditModel
from bot.read_models.documents import AGENTS, Document
from bot.read_models.runs import RunsModel
from bot.read_models.waiting import WaitingModel
from bot.text.errors import NotPermitted
from bot.web_access.sessions_of import access_to

#: The pages of the navigation: address, title, and the command that shows the same.
NAVIGATION: Final = (
    ("/", "Fleet", "ps"),
    ("/waiting", "Approvals", "approvals"),
    ("/limits", "Limits", "budget"),
    ("/tasks", "Tasks", "tasks"),
    ("/runs", "Runs", "runs"),
    ("/audit", "Audit", "audit"),
    ("/health", "Health", "health"),
    ("/commands", "Commands", "help"),
    ("/sessions", "Browsers", "web sessions"),
)
_FOR_EVER: Final = "public, max-age=31536000, immutable"

_Show = Callable[[web.Request, Visitor], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class ReadingPages:
    services: AgentServices
    pages: PageTemplates
    where: Callable[[], WebAddresses]
    streams: Streams
    assets: Assets
    has_push: bool = False
    """Whether browsers can have pushes."""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._shown(self._fleet)),
            web.get("/agents/{name}", self._shown(self._agent)),
            web.get("/waiting", self._shown(self._view("waiting", "Approvals", "page"))),
            web.get("/waiting/{name}", self._shown(self._request)),
            web.get("/tasks", self._shown(self._view("tasks", "Tasks", "page", "ended"))),
            web.get("/runs", self._shown(self._view("runs", "Runs", "page", "issues"))),
            web.get("/runs/issues/{name}", self._shown(self._issue)),
            web.get("/limits", self._shown(self._view("limits", "Limits", "page"))),
            web.get("/audit", self._shown(self._audit)),
            web.get("/health", self._shown(self._view("health", "Health"))),
            web.get("/commands", self._shown(self._commands)),
            web.get("/sessions", self._shown(self._sessions)),
            web.get("/events", self._events),
            web.get("/static/{version}/{name}", self._static),
            web.get("/manifest.webmanifest", self._manifest),
        ]

    def _shown(self, show: _Show) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def page(request: web.Request) -> web.StreamResponse:
            visitor = await visitor_of(request, self.services, self.where())
            if visitor is None:
                return self._to_login(request)
            return await show(request, visitor)

        return page

    def _to_login(self, request: web.Request) -> web.Response:
        here = own_path(request.path_qs)
        if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            # A link in a chat room: browsers send the cookie only when a page of ours asks.
            return web.Response(text=self.pages.render("again.html", path=here), content_type="text/html")
        return web.Response(status=303, headers={"Location": f"/login?to={quote(here, safe='')}"})

    # --- views -------------------------------------------------------------------------------------------------------

    async def _fleet(self, request: web.Request, visitor: Visitor) -> web.Response:
        return await self._show(request, visitor, views.view_of("fleet", _query(request, "page", "all")), "Fleet")

    def _view(self, name: str, title: str, *names: str) -> _Show:
        async def show(request: web.Request, visitor: Visitor) -> web.Response:
            return await self._show(request, visitor, views.view_of(name, _query(request, *names)), title)

        return show

    async def _request(self, request: web.Request, visitor: Visitor) -> web.Response:
        name = request.match_info["name"]
        view = views.view_of("request", {"name": name})
        check_sees(visitor, self.services, view.command)
        waiting = (await self.services.documents.get("waiting")).value
        if not isinstance(waiting, WaitingModel) or not waiting.is_shortened(name):
            return await self._show(request, visitor, view, f"Request {name}")
        # The whole text is loaded once, and not with each change of anything.
        found = await self.services.documents.page("waiting", name)
        if not isinstance(found, WaitingModel):
            raise views.NoSuchView
        values = {
            "id": name,
            "requests": [views.asked_view(each) for each in found.requests],
            "questions": [views.questioned_view(each) for each in found.questions],
        }
        watched = views.view_of("request", {"name": name, "whole": "1"})
        return await self._show(request, visitor, watched, f"Request {name}", "request.html", values)

    async def _issue(self, request: web.Request, visitor: Visitor) -> web.Response:
        name = request.match_info["name"]
        view = views.view_of("issue", {"name": name})
        check_sees(visitor, self.services, view.command)
        runs = (await self.services.documents.get("runs")).value
        if isinstance(runs, RunsModel) and any(each.id == name for each in runs.issues):
            return await self._show(request, visitor, view, f"Run {name}")
        # It ended long ago, and changes no more.
        value = await self.services.documents.page("runs", name)
        document = Document(name="runs", revision=0, epoch="", made_at=0.0, value=value)
        body = part(self.pages, view, {"runs": document}, visitor)
        return await self._page(request, visitor, f"Run {name}", "view.html", {"body": body})

    async def _agent(self, request: web.Request, visitor: Visitor) -> web.Response:
        name = request.match_info["name"]
        view = views.view_of("agent", {"name": name})
        check_sees(visitor, self.services, view.command)
        before = request.query.get("before")
        forms_shown = self._agent_forms(visitor)
        if before is None:
            return await self._show(request, visitor, view, name, "agent.html", {"name": name, **forms_shown})
        value = await self.services.documents.page(f"{AGENTS}{name}", before)
        if not isinstance(value, AgentModel):
            raise views.NoSuchView
        document = Document(name=f"{AGENTS}{name}", revision=0, epoch="", made_at=0.0, value=value)
        body = part(self.pages, view, {document.name: document}, visitor)
        return await self._page(request, visitor, name, "agent.html", {"body": body, "name": name, **forms_shown})

    def _agent_forms(self, visitor: Visitor) -> Mapping[str, object]:
        """Return which commands about an agent the page offers."""
        offered = [self.services.table.get(each) for each in _ABOUT_AGENTS]
        allowed = [each for each in offered if each is not None and visitor.may_run(each)]
        return {
            "acts": [(each, forms.path_of(each)) for each in allowed if each.name != "send"],
            "may_send": any(each.name == "send" for each in allowed),
        }

    async def _audit(self, request: web.Request, visitor: Visitor) -> web.Response:
        view = views.view_of("audit")
        check_sees(visitor, self.services, view.command)
        before = request.query.get("before")
        if before is None:
            return await self._show(request, visitor, view, "Audit")
        value = await self.services.documents.page("audit", before)
        if not isinstance(value, AuditModel):
            raise views.NoSuchView
        body = self.pages.render("_audit.html", key="", audit=value, is_older=True, **for_visitor(visitor))
        return await self._page(request, visitor, "Audit", "view.html", {"body": body})

    async def _show(
        self,
        request: web.Request,
        visitor: Visitor,
        view: views.View,
        title: str,
        template: str = "view.html",
        values: Mapping[str, object] = MappingProxyType({}),
    ) -> web.Response:
        """Return the page of a view.

        Raises:
            NotPermitted: the visitor may not see it.
            NoSuchView: what it is about does not exist.
        """
        check_sees(visitor, self.services, view.command)
        names = sorted(readable(self.services, visitor, [view]))
        found = await asyncio.gather(*(self.services.documents.get(name) for name in names))
        context = view.context({document.name: document for document in found})
        nonce = secrets.token_hex(8)
        body = self.pages.render(view.template, **context, **for_visitor(visitor, nonce))
        return await self._page(request, visitor, title, template, {**values, "body": body}, live=(view.key,))

    async def _page(
        self,
        request: web.Request,
        visitor: Visitor,
        title: str,
        template: str,
        values: Mapping[str, object],
        *,
        live: tuple[str, ...] = (),
    ) -> web.Response:
        return await page(self.services, self.pages, request, visitor, title, template, values, live=live)

    # --- pages without documents -------------------------------------------------------------------------------------

    async def _commands(self, request: web.Request, visitor: Visitor) -> web.Response:
        sections: dict[str, list[tuple[Command, str, bool]]] = {}
        for command in self.services.table.visible(visitor.permission, DOOR):
            shown = (command, forms.path_of(command), visitor.may_run(command))
            sections.setdefault(command.help_section, []).append(shown)
        return await self._page(request, visitor, "Commands", "commands.html", {"sections": sections})

    async def _sessions(self, request: web.Request, visitor: Visitor) -> web.Response:
        check_sees(visitor, self.services, "web sessions")
        own = None if visitor.permission >= ADMIN else visitor.identity
        found = await access_to(self.services).listed(own)
        offered = self.has_push and permission_for(self.services, "approvals") <= visitor.permission
        return await self._page(
            request, visitor, "Browsers", "sessions.html", {"sessions": found, "offers_push": offered}
        )

    # --- the stream and files ----------------------------------------------------------------------------------------

    async def _events(self, request: web.Request) -> web.StreamResponse:
        visitor = await visitor_of(request, self.services, self.where(), used=False)
        if visitor is None:
            raise RequestRefused("You are not logged in.", 401)
        return await self.streams.serve(request, visitor, request.query.getall("part", []))

    async def _static(self, request: web.Request) -> web.Response:
        asset = self.assets.get(request.match_info["version"], request.match_info["name"])
        if asset is None:
            raise web.HTTPNotFound
        headers = {"Content-Type": asset.content_type, "Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=asset.compressed, headers={**headers, "Content-Encoding": "gzip"})
        return web.Response(body=asset.content, headers=headers)

    async def _manifest(self, request: web.Request) -> web.Response:
        png = {"src": self.assets.address("icon-180.png"), "sizes": "180x180", "type": "image/png", "purpose": "any"}
        icon = {"src": self.assets.address("icon.svg"), "sizes": "any", "type": "image/svg+xml", "purpose": "any"}
        return web.json_response(
            {
                "name": "Muster",
                "short_name": "Muster",
                "start_url": "/",
                "scope": "/",
                "display": "standalone",
                "background_color": "#101418",
                "theme_color": "#101418",
                "icons": [icon, {**icon, "purpose": "maskable"}, png],
            },
            content_type="application/manifest+json",
        )


#: Commands that an agent's page offers, in this order.
_ABOUT_AGENTS: Final = ("send", "steer", "cancel", "diff", "commits", "stop", "restart", "freeze", "cutoff", "kill")


async def page(
    services: AgentServices,
    pages: PageTemplates,
    request: web.Request,
    visitor: Visitor,
    title: str,
    template: str,
    values: Mapping[str, object],
    *,
    live: tuple[str, ...] = (),
    status: int = 200,
) -> web.Response:
    """Return a page with its frame: navigation, the number of waiting requests, and who is logged in."""
    nav = views.view_of("nav")
    sees_waiting = permission_for(services, nav.command) <= visitor.permission
    waiting = await services.documents.get("waiting") if sees_waiting else None
    badge = "" if waiting is None else part(pages, nav, {"waiting": waiting}, visitor)
    parts = [*live, *([nav.key] if sees_waiting and live else [])]
    shown = [
        (address, name, address == request.path or (address != "/" and request.path.startswith(f"{address}/")))
        for address, name, command in NAVIGATION
        if permission_for(services, command) <= visitor.permission
    ]
    text = pages.render(
        template,
        title=title,
        navigation=shown,
        badge=badge,
        live=parts,
        path=own_path(request.path_qs),
        **{**for_visitor(visitor, secrets.token_hex(8)), **values},
    )
    made = web.Response(text=text, content_type="text/html", status=status)
    made.enable_compression()
    return made


def not_permitted(command: Command, visitor: Visitor) -> NotPermitted:
    """Return the refusal of a command that this browser may not give."""
    if command.permission > visitor.permission:
        return NotPermitted(
            f"{command_line(command.name)} needs the permission {command.permission}, and {visitor.identity} has "
            f"{visitor.permission}. An admin gives it with {command_line('operator set')}."
        )
    return NotPermitted(
        "This browser only watches. To give commands with it, log it out, and log it in with "
        f"{command_line('web login CODE --control')}.",
        code="web.watches",
    )


def _query(request: web.Request, *names: str) -> dict[str, str]:
    """Return these parameters of an address; others are ignored."""
    return {name: request.query[name] for name in names if name in request.query}
