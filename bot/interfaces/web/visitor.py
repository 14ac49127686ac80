"""Who looks: the session of a request, with the permission that its person has now."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from aiohttp import web

from bot.agents.services import AgentServices
from bot.auth.permission import ADMIN, NONE, Permission
from bot.commands.registry import Command
from bot.commands.syntax import command_line
from bot.interfaces.web.guard import RequestRefused
from bot.interfaces.web.settings import WebAddresses
from bot.text.errors import NotPermitted
from bot.web_access.model import WebSession
from bot.web_access.sessions_of import access_to

#: The path of a page of the dashboard, as it may stand in a form.
_OWN_PATH = re.compile(r"/[A-Za-z0-9_.~/?&=%+-]{0,300}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """A logged-in browser at one moment."""

    session: WebSession
    permission: Permission
    token: str

    @property
    def identity(self) -> str:
        return self.session.identity

    def may_run(self, command: Command) -> bool:
        """Return whether the person has the permission, and the session the control that a command needs."""
        own = command.name == "web logout"
        return command.permission <= self.permission and (self.session.control or not command.effects or own)

    def form_token(self, nonce: str) -> str:
        """Return a token for forms. With a new nonce for each compressed page, its length tells nothing of the token.

        Args:
            nonce: sixteen hexadecimal digits.
        """
        return f"{nonce}{_signed(self.token, nonce)}"

    def is_own_form(self, form_token: str) -> bool:
        """Return whether a form was made for this session."""
        nonce, signed = form_token[:16], form_token[16:]
        return hmac.compare_digest(signed.encode(), _signed(self.token, nonce).encode())


async def visitor_of(
    request: web.Request, services: AgentServices, where: WebAddresses, *, used: bool = True
) -> Visitor | None:
    """Return who asks; None if the browser is not logged in.

    Args:
        request: the request.
        services: the services.
        where: the addresses, which name the cookie.
        used: whether a person uses the session now.
    """
    token = request.cookies.get(where.session_cookie)
    return None if token is None else await visitor_with(token, services, used=used)


async def visitor_with(token: str, services: AgentServices, *, used: bool) -> Visitor | None:
    """Return whose cookie it is, with the permission that they have now."""
    session = await access_to(services).session(token, used=used)
    if session is None:
        return None
    permission = await services.operators.permission(session.identity)
    return Visitor(session=session, permission=permission, token=token)


def permission_for(services: AgentServices, name: str) -> Permission:
    """Return the permission to see what a command shows."""
    command = services.table.get(name)
    return ADMIN if command is None else command.permission


def check_sees(visitor: Visitor, services: AgentServices, name: str) -> None:
    """Refuse a page to somebody who may not give the command that shows the same.

    Raises:
        NotPermitted: they may not.
    """
    needed = permission_for(services, name)
    if visitor.permission is NONE or visitor.permission < needed:
        raise NotPermitted(
            f"This page needs the permission {needed}, and {visitor.identity} has {visitor.permission}. An admin gives "
            f"it with {command_line('operator set')}."
        )


def check_form(visitor: Visitor, sent: dict[str, str]) -> None:
    """Refuse a form that was not made for this session.

    Raises:
        RequestRefused: it was not.
    """
    if not visitor.is_own_form(sent.get("csrf", "")):
        raise RequestRefused("This form is not of your session. Load the page again, and send it from there.", 403)


def own_path(path: str | None, otherwise: str = "/") -> str:
    """Return a path of the dashboard; `otherwise` if it is none. Others can make the address that it comes from."""
    if path is None or not _OWN_PATH.fullmatch(path) or path.startswith("//"):
        return otherwise
    return path


def _signed(token: str, nonce: str) -> str:
    return hmac.new(token.encode(), f"form {nonce}".encode(), hashlib.sha256).hexdigest()
