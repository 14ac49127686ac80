"""A small forge: real git over real smart HTTP with Basic authentication, on loopback."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

LIMIT_S = 60.0
TOKEN = "t0ken-of-the-bot-0123456789"


class GitServer:
    """Serves the bare repositories below a folder. `status` and `hanging` make it fail."""

    def __init__(self, folder: Path, scheme: str) -> None:
        self.folder = folder
        self.scheme = scheme
        self.port = 0
        self.status: int | None = None
        """Answer everything so."""
        self.hanging = False
        """Take requests, and never answer."""
        self.before_receive: Callable[[], None] = lambda: None
        """Runs when the branches were told, before a push is taken."""
        self.requests: list[str] = []
        self.asked = threading.Event()

    def url(self, name: str = "owner/repo") -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/{name}.git"

    def repository(self, name: str = "owner/repo") -> Path:
        """Make a bare repository that takes pushes."""
        place = self.folder / f"{name}.git"
        for words in (("init", "--quiet", "--bare", "-b", "main", str(place)), self._config(place)):
            subprocess.run(["git", *words], check=True, timeout=LIMIT_S)
        return place

    @staticmethod
    def _config(place: Path) -> tuple[str, ...]:
        return ("-C", str(place), "config", "http.receivepack", "true")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        self.asked.set()
        if self.hanging:
            await asyncio.Event().wait()
        if self.status is not None:
            return web.Response(status=self.status, headers={"Location": "http://127.0.0.1:1/elsewhere"})
        expected = "Basic " + base64.b64encode(f"muster:{TOKEN}".encode()).decode()
        if request.headers.get("Authorization") != expected:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="forge"'})
        body = await request.read()
        if request.path.endswith("/git-receive-pack"):
            self.before_receive()
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "muster",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        }
        process = await asyncio.create_subprocess_exec(
            *("git", "http-backend"),
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate(body)
        head, _, content = said.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, headers=headers, body=content)


@contextmanager
def served(folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[GitServer]:
    """A server on a free port, in a thread of its own."""
    server = GitServer(folder, "http" if tls is None else "https")
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def start() -> web.AppRunner:
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        server.port = runner.addresses[0][1]
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        started.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(LIMIT_S)
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LIMIT_S)
