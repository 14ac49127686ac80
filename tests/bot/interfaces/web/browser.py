"""A browser without scripts, and an orchestrator whose dashboard it looks at over a real socket."""

from __future__ import annotations

import contextlib
import html
import io
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.bot.orchestrator import ADMIN, House, house

WEB = "web: {listen: '127.0.0.1:0'}\n"
#: A command in the room, confirmed by the same person.
_CODE = re.compile(r"web login ([A-Z0-9]{4}-[A-Z0-9]{4})")


@dataclass
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]

    def field(self, name: str) -> str:
        """The value of a form's field."""
        found = re.search(rf'name="{re.escape(name)}" value="([^"]*)"', self.text)
        assert found is not None, f"no field {name} in {self.text}"
        return html.unescape(found[1])


@dataclass
class Browser:
    home: House
    client: aiohttp.ClientSession
    origin: str
    headers: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self._send("GET", path, None, headers)

    async def post(self, path: str, fields: Mapping[str, str] | bytes, **headers: str) -> Answer:
        return await self._send("POST", path, fields, {"Origin": self.origin, **headers})

    async def _send(
        self, method: str, path: str, fields: Mapping[str, str] | bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        url = f"{self.origin}{path}"
        body = io.BytesIO(fields) if isinstance(fields, bytes) else fields
        async with self.client.request(method, url, data=body, headers=sent, allow_redirects=False) as answer:
            return Answer(answer.status, await answer.text(), answer.headers)

    async def code(self) -> str:
        """Have a code shown."""
        found = _CODE.search((await self.post("/login", {"to": "/"})).text)
        assert found is not None
        return found[1]

    async def go_on(self) -> Answer:
        """Come for the session after the code was confirmed."""
        return await self.post("/login/open", {"to": "/"})

    async def log_in(self, sender: str = ADMIN, *, control: bool = True) -> None:
        code = await self.code()
        await confirmed(self.home, f"!web login {code}{' --control' if control else ''}", sender)
        assert (await self.go_on()).status == 303

    async def run(self, command: str, fields: Mapping[str, str] | None = None, **more: str) -> Answer:
        """Send the form of a command, as a page without scripts does, and return the page of its outcome."""
        path = f"/commands/{command.replace(' ', '/')}"
        token = (await self.get(path)).field("csrf")
        given = {f"a.{name}": value for name, value in (fields or {}).items()}
        answer = await self.post(path, {"csrf": token, **given, **more})
        return await self.get(answer.headers["Location"]) if answer.status == 303 else answer

    @contextlib.asynccontextmanager
    async def stream(self, *parts: str) -> AsyncIterator[aiohttp.ClientResponse]:
        query = [("part", part) for part in parts]
        async with self.client.get(f"{self.origin}/events", params=query, headers=self.headers) as answer:
            yield answer


async def confirmed(home: House, line: str, sender: str = ADMIN) -> str:
    """Give a command in the room and confirm it. Returns the question."""
    question = await home.ask(line, sender=sender)
    await home.ask("!confirm", sender=sender)
    return question


async def event(stream: aiohttp.ClientResponse) -> dict[str, Any] | None:
    """The next event's name and data; None: the stream ended."""
    name = ""
    async for raw in stream.content:
        line = raw.decode().rstrip("\n")
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            return {"event": name, **json.loads(line.removeprefix("data: "))}
    return None


@contextlib.asynccontextmanager
async def dashboard(folder: Path, settings: str = WEB) -> AsyncIterator[House]:
    async with house(folder, settings=settings) as made, made.open():
        yield made


@contextlib.asynccontextmanager
async def browser(home: House, **headers: str) -> AsyncIterator[Browser]:
    """A browser that has no cookies yet."""
    origin = home.orchestrator.services.web_address
    assert origin is not None
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(total=30)) as client:
        yield Browser(home, client, origin, dict(headers))
