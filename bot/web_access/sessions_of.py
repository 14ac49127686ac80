"""Implementation of the commands about browsers."""

from __future__ import annotations

from bot.auth.permission import ADMIN
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.services import CommandServices
from bot.commands.syntax import command_line
from bot.config.surfaces.web import WebBlock
from bot.text import markdown
from bot.text.errors import NotPermitted, UserError
from bot.web_access import text
from bot.web_access.model import BrowserLogin
from bot.web_access.service import WebAccess

_DEFAULTS = WebBlock()


def access_to(services: CommandServices) -> WebAccess:
    """Return the browsers of this installation."""
    web = services.settings.web or _DEFAULTS
    return WebAccess(services.store, services.clock, web.idle, web.longest)


async def find(services: CommandServices, code: str) -> BrowserLogin:
    """Return the browser that shows a code.

    Raises:
        UserError: no browser shows it, or there is no dashboard.
    """
    if services.settings.web is None:
        raise UserError(
            "There is no dashboard. Write `web: {}` into muster.yaml, and start Muster again.", code="web.off"
        )
    return await access_to(services).find(code)


async def log_in(ctx: Context[CommandServices], code: str, *, control: bool) -> Reply:
    """Give the browser that shows a code a session of the requester.

    Raises:
        UserError: no browser shows it, or the requester cannot have a session.
    """
    if ctx.through is not None:
        raise NotPermitted(
            f"You have your permission as one of {markdown.code(ctx.through)}. The dashboard cannot ask your chat "
            f"system whether that still holds. An admin gives you your own with {command_line('operator set')}.",
            code="web.group",
        )
    access = access_to(ctx.services)
    session = await ctx.commit("login", lambda tx: access.confirm(tx, code, ctx.identity, control=control))
    what = "gives commands as you" if control else "watches as you"
    return Reply(
        f"The browser {what}. {command_line(f'web logout {session}')} ends that.",
        {"id": session, "identity": ctx.identity, "control": control},
    )


async def list_sessions(ctx: Context[CommandServices]) -> Reply:
    """List the sessions of the requester; all for an admin."""
    services = ctx.services
    everybody = ctx.permission >= ADMIN
    found = await access_to(services).listed(None if everybody else ctx.identity)
    return Reply(text.sessions_text(found, services.clock()), text.sessions_as_json(found, services.timestamp))


async def log_out(ctx: Context[CommandServices], session_id: str) -> Reply:
    """End a session.

    Raises:
        UserError: the requester has no such session.
    """
    access = access_to(ctx.services)
    found = await access.listed(None if ctx.permission >= ADMIN else ctx.identity)
    if not ctx.taken_up and all(each.id != session_id for each in found):
        raise UserError(
            f"No session of yours is called {markdown.code(markdown.one_line(session_id, 40))}. "
            f"{command_line('web sessions')} lists them.",
            code="web.session_unknown",
        )
    await ctx.commit("logout", lambda tx: access.end(tx, session_id, ctx.identity))
    return Reply("The browser is logged out.", {"id": session_id})
