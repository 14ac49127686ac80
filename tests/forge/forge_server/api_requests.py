"""What both APIs of the forge for tests share: who asks, refusals, pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from tests.forge.forge_server.faults import Faults
from tests.forge.forge_server.world import ForgeWorld, Repository

T = TypeVar("T")


class ApiRefusal(Exception):
    """The API says no."""

    def __init__(self, status: int, message: str = "", *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


@dataclass
class ApiRequest:
    """One request whose token was accepted."""

    raw: web.Request
    login: str
    scopes: frozenset[str] | None
    body: Any = None
    path: dict[str, str] = field(default_factory=dict)

    @property
    def query(self) -> dict[str, str]:
        return dict(self.raw.query)

    def number(self, name: str, default: int = 0) -> int:
        """Return a whole number of the query.

        Raises:
            ApiRefusal: it is none.
        """
        text = self.query.get(name, str(default))
        if not text.isdigit():
            raise ApiRefusal(422, f"{name} is no number")
        return int(text)


async def accepted(request: web.Request, world: ForgeWorld) -> ApiRequest:
    """Return who asks for what.

    Raises:
        ApiRefusal: the token is missing or unknown, or the body is no JSON.
    """
    _, _, text = request.headers.get("Authorization", "").partition(" ")
    token = world.tokens.get(text)
    if token is None or token.is_revoked or token.login not in world.accounts:
        raise ApiRefusal(401, "user does not exist [uid: 0, name: ]" if text else "token is required")
    content = await request.read()
    try:
        body = json.loads(content) if content else None
    except ValueError:
        raise ApiRefusal(422, "body is no JSON") from None
    return ApiRequest(request, token.login, token.scopes, body, dict(request.match_info))


def repository_for(request: ApiRequest, world: ForgeWorld) -> Repository:
    """Return the repository in a path, as far as the asker may see it.

    Raises:
        ApiRefusal: there is none, or it is private.
    """
    wanted = f"{request.path['owner']}/{request.path['repo']}".lower()
    name = next((each for each in world.repositories if each.lower() == wanted), None)
    if name is None or not world.is_found(name) or not world.may_read(request.login, name):
        raise ApiRefusal(404, "The target couldn't be found.")
    return world.repository(name)


def page_of(
    request: ApiRequest, entries: Sequence[T], faults: Faults, *, size_name: str, default: int, most: int
) -> tuple[list[T], dict[str, str]]:
    """Return a page of a list, and the headers that say how it goes on."""
    size = min(request.number(size_name, default) or default, most)
    page = 1 if faults.repeats_pages else max(1, request.number("page", 1))
    shown = list(entries[(page - 1) * size : page * size])
    headers = {"X-Total-Count": str(len(entries))}
    if page * size < len(entries) or faults.repeats_pages:
        # The address of the next page is one that nobody should follow: it is the forge's own idea of its address.
        headers["Link"] = f'<https://forge.example{request.raw.path}?page={page + 1}>; rel="next"'
    elif page > 1:
        headers["Link"] = f'<https://forge.example{request.raw.path}?page=1>; rel="first"'
    return shown, headers
