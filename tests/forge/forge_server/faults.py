"""What goes wrong with requests to the forge for tests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

#: Sent where a fault answers with something that is no JSON.
GARBAGE = b"<html><body>\x1b[31mThe proxy is confused\x1b[0m</body></html>"


@dataclass
class Fault:
    """One kind of failure, for some requests."""

    what: str
    """``answer``, ``drop``, ``truncate``, ``hang`` or ``lose``."""
    path: re.Pattern[str]
    method: str | None
    times: int | None
    """For how many requests; None: until it is ended."""
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b'{"message":"internal error"}'
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        """Let requests through again, also those that hang."""
        self.times = 0
        self.released.set()


class Faults:
    """The failures that are under way. The first that fits counts; `path` is a pattern that a request's path has.

    Paths have no prefix: ``/repos/acme/shop/issues`` for both APIs, ``/acme/shop.git/git-receive-pack`` for git.
    """

    def __init__(self) -> None:
        self._active: list[Fault] = []
        self.ignores_filters = False
        """Whether GitHub gives all pull requests, whatever branch is asked for."""
        self.late_forks = 2
        """How many requests do not find a fork that GitHub said it makes."""
        self.repeats_pages = False
        """Whether each page of a list is the first one, and there is always a next."""

    def answer(
        self,
        status: int,
        *,
        times: int | None = 1,
        path: str = "",
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b'{"message":"internal error"}',
    ) -> Fault:
        """Answer with a status instead of doing anything."""
        return self._add(Fault("answer", re.compile(path), method, times, status, headers or {}, body))

    def limit_requests(self, seconds: int, *, times: int | None = 1, path: str = "") -> Fault:
        """Answer 429 with `Retry-After`."""
        body = b'{"message":"too many requests"}'
        return self.answer(429, times=times, path=path, headers={"Retry-After": str(seconds)}, body=body)

    def garbage(self, *, times: int | None = 1, path: str = "", body: bytes = GARBAGE) -> Fault:
        """Answer 200 with something that is no JSON."""
        return self.answer(200, times=times, path=path, headers={"Content-Type": "text/html"}, body=body)

    def drop(self, *, times: int | None = 1, path: str = "", method: str | None = None) -> Fault:
        """Close the connection instead of doing anything."""
        return self._add(Fault("drop", re.compile(path), method, times))

    def truncate(self, *, times: int | None = 1, path: str = "") -> Fault:
        """Close the connection in the middle of the response."""
        return self._add(Fault("truncate", re.compile(path), None, times))

    def hang(self, *, times: int | None = 1, path: str = "") -> Fault:
        """Do nothing until `Fault.end`, and then what was asked."""
        return self._add(Fault("hang", re.compile(path), None, times))

    def lose_response(self, *, times: int | None = 1, path: str = "", method: str | None = None) -> Fault:
        """Do what was asked, and close the connection before saying so."""
        return self._add(Fault("lose", re.compile(path), method, times))

    def for_request(self, method: str, path: str) -> Fault | None:
        """Return the failure of a request, and count it."""
        for fault in self._active:
            fits = fault.path.search(path) and fault.method in (None, method)
            if fits and (fault.times is None or fault.times > 0):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def end(self) -> None:
        """End all failures."""
        for fault in self._active:
            fault.end()
        self._active.clear()

    def _add(self, fault: Fault) -> Fault:
        self._active.append(fault)
        return fault


async def truncated(request: web.Request) -> web.StreamResponse:
    """Send less than was announced, and close the connection."""
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"id": 1, "title": "')
    drop(request)
    return response


def drop(request: web.Request) -> None:
    """Close the connection of a request at once."""
    if request.transport is not None:
        request.transport.abort()
