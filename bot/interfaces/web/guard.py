"""What every request passes: names of hosts, origins, headers of answers, and errors as pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from bot.commands.syntax import written
from bot.interfaces.web.rendering import PageTemplates
from bot.interfaces.web.settings import WebAddresses
from bot.interfaces.web.views import NoSuchView
from bot.text.errors import NotPermitted, UsageError, UserError
from core.errors import MusterError, RegisterError

#: The header of requests of the dashboard's own scripts, which get a part of a page.
PART: Final = "X-Muster-Part"

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types muster",
    )
)
HEADERS: Final = {
    "Server": "Muster",
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: browsers would send forms with the origin null.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_TITLES: Final = {
    400: "That could not be read",
    403: "Not permitted",
    404: "There is no such page",
    405: "Not here",
    413: "Too large",
    415: "That could not be read",
    421: "Wrong address",
    422: "Refused",
    429: "Too many attempts",
    503: "Not now",
}

#: Codes of what does not exist.
_NOWHERE: Final = frozenset({"document.unknown", "document.place", "agent.unknown"})

_log = structlog.get_logger("web")


class RequestRefused(MusterError):
    """A request that is not served. The message says why."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def secured(response: web.StreamResponse, *, cached: bool = False) -> None:
    """Add the headers that every answer has."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    if not cached:
        response.headers.setdefault("Cache-Control", "no-store")


def error_page(pages: PageTemplates, sentence: str, status: int) -> web.Response:
    """Return the page of an error."""
    title = _TITLES.get(status, "That did not work")
    made = web.Response(
        text=pages.render("error.html", title=title, sentence=written(sentence, "")),
        content_type="text/html",
        status=status,
    )
    secured(made)
    return made


def guard(where: Callable[[], WebAddresses], pages: PageTemplates) -> Middleware:
    """Return the middleware that refuses requests from elsewhere, and adds the headers."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            refuse_from_elsewhere(request, where())
            response = await handler(request)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            response = _response_to(error, request, pages)
        if not response.prepared:
            secured(response, cached="Cache-Control" in response.headers)
        return response

    return guarded


def refuse_from_elsewhere(request: web.Request, where: WebAddresses) -> None:
    """Refuse a request that another site may have caused, or that came under another name.

    Raises:
        RequestRefused: it is one.
    """
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or hosts[0].lower() not in where.hosts:
        raise RequestRefused(f"This dashboard is at {where.url}, and answers under no other name.", 421)
    origins = request.headers.getall("Origin", [])
    site = request.headers.get("Sec-Fetch-Site")
    if request.method not in ("GET", "HEAD"):
        if len(origins) != 1 or origins[0] not in where.origins:
            raise RequestRefused("This did not come from a page of the dashboard.", 403)
        if site not in (None, "same-origin"):
            raise RequestRefused("This did not come from a page of the dashboard.", 403)
        return
    if origins and (len(origins) != 1 or origins[0] not in where.origins):
        raise RequestRefused("This did not come from a page of the dashboard.", 403)
    navigates = (
        request.headers.get("Sec-Fetch-Mode") == "navigate" and request.headers.get("Sec-Fetch-Dest") == "document"
    )
    if site in ("cross-site", "same-site") and not navigates:
        raise RequestRefused("Other sites cannot read this dashboard.", 403)


def browser_address(request: web.Request, where: WebAddresses) -> str:
    """Return the address of the browser; behind a proxy the one that the proxy saw."""
    if where.behind_proxy:
        said = ",".join(request.headers.getall("X-Forwarded-For", []))
        last = said.rpartition(",")[2].strip()
        if last:
            return last[:64]
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return str(peer[0])[:64] if isinstance(peer, tuple) and peer else "unknown"


def _response_to(error: BaseException, request: web.Request, pages: PageTemplates) -> web.Response:
    match error:
        case RequestRefused():
            return error_page(pages, str(error), error.status)
        case web.HTTPException() if error.status in (301, 302, 303, 304):
            raise error
        case web.HTTPException():
            sentences = {
                404: "The address may be old, or what it showed is gone.",
                405: "This address takes another method.",
                413: "What was sent is too large for one request.",
            }
            return error_page(pages, sentences.get(error.status, "This cannot be read as a request."), error.status)
        case NoSuchView():
            return error_page(pages, str(error), 404)
        case NotPermitted():
            return error_page(pages, str(error), 403)
        case UsageError():
            return error_page(pages, str(error), 400)
        case RegisterError():
            return error_page(pages, str(error), 503)
        case UserError():
            return error_page(pages, str(error), 404 if error.code in _NOWHERE else 422)
        case MusterError():
            return error_page(pages, str(error), 503)
        case asyncio.CancelledError():
            return error_page(pages, "Muster is stopping. Load the page again in a moment.", 503)
        case _:
            _log.error("web.failed", path=request.path, exc_info=error)
            return error_page(pages, "A fault in Muster; its log has the details.", 500)
