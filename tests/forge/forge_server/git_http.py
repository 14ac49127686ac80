"""Git over HTTP for the forge for tests, by `git http-backend`: pushes and hooks are real."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable

from aiohttp import web

from tests.forge.forge_server.bare_repository import environment
from tests.forge.forge_server.faults import Faults, drop
from tests.forge.forge_server.world import ForgeWorld

_PACKS = ("git-upload-pack", "git-receive-pack")


class GitHttp:
    """The routes ``/OWNER/NAME.git/...``. A token is the password of any user, or the user."""

    def __init__(self, world: ForgeWorld, faults: Faults) -> None:
        self._world = world
        self._faults = faults
        self._before_push: list[Callable[[str], object]] = []
        self.pushes: list[tuple[str, str, dict[str, tuple[str | None, str | None]]]] = []
        """Who pushed to which repository, and which refs it moved."""

    def before_next_push(self, call: Callable[[str], object]) -> None:
        """Do something once before the next push is taken, such as moving its branch; `call` gets the repository."""
        self._before_push.append(call)

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/{owner}/{name}.git/{tail:info/refs}", self._serve)
        app.router.add_post("/{owner}/{name}.git/{tail:git-(?:upload|receive)-pack}", self._serve)

    async def _serve(self, request: web.Request) -> web.Response:
        name, tail = f"{request.match_info['owner']}/{request.match_info['name']}", request.match_info["tail"]
        service = request.query.get("service", "") if tail == "info/refs" else tail
        if not self._world.is_found(name) or service not in _PACKS:
            return web.Response(status=404, text="Not found.")
        fault = self._faults.for_request(request.method, f"/{name}.git/{tail}")
        if fault is not None and fault.what == "answer":
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        if fault is not None and fault.what in ("drop", "truncate"):
            drop(request)
            return web.Response()
        if fault is not None and fault.what == "hang":
            await fault.released.wait()
        login = self._login(request)
        is_push = service == "git-receive-pack"
        allowed = (
            login is not None and self._world.may_push(login, name) if is_push else self._world.may_read(login, name)
        )
        if not allowed:
            status = 401 if login is None else 403
            return web.Response(status=status, headers={"WWW-Authenticate": 'Basic realm="Gitea"'}, text="Forbidden.")
        takes_push = is_push and tail != "info/refs"
        git = self._world.repository(name).git
        if takes_push:
            calls, self._before_push = self._before_push, []
            for call in calls:
                call(name)
        before = git.refs() if takes_push else {}
        response = await self._backend(request, name, tail, login or "")
        if takes_push:
            after = git.refs()
            moved = {
                ref: (before.get(ref), after.get(ref))
                for ref in before.keys() | after.keys()
                if before.get(ref) != after.get(ref)
            }
            self.pushes.append((login or "", name, moved))
            if moved:
                self._world.branches_moved(name, by=login or "")
        if fault is not None and fault.what == "lose":
            drop(request)
        return response

    def _login(self, request: web.Request) -> str | None:
        kind, _, content = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            user, _, password = base64.b64decode(content).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        token = self._world.tokens.get(password) or self._world.tokens.get(user)
        if token is None or token.is_revoked:
            return None
        if token.scopes is not None and "write:repository" not in token.scopes:
            return None
        return token.login

    async def _backend(self, request: web.Request, name: str, tail: str, login: str) -> web.Response:
        body = await request.read()
        backend = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={
                **environment(self._world.folder),
                "GIT_PROJECT_ROOT": str(self._world.folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": f"/{name}.git/{tail}",
                "REQUEST_METHOD": request.method,
                "QUERY_STRING": request.query_string,
                "CONTENT_TYPE": request.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": "",  # aiohttp has undone it
                "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
                "REMOTE_USER": login,
                "REMOTE_ADDR": "127.0.0.1",
            },
        )
        out, err = await backend.communicate(body)
        head, _, content = out.partition(b"\r\n\r\n")
        if backend.returncode and not head:
            return web.Response(status=500, text=err.decode("utf-8", "replace"))
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, headers=headers, body=content)
