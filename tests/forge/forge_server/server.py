"""The forge for tests, as a server on loopback."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from tests.forge.forge_server import faults, gitea_api, github_api
from tests.forge.forge_server.api_description import GitHubDescription, gitea_description
from tests.forge.forge_server.api_requests import ApiRefusal, accepted
from tests.forge.forge_server.faults import Fault, Faults
from tests.forge.forge_server.git_http import GitHttp
from tests.forge.forge_server.gitea_api import Answer, GiteaApi, Route
from tests.forge.forge_server.gitea_json import GiteaJson
from tests.forge.forge_server.github_api import GitHubApi
from tests.forge.forge_server.github_json import GitHubJson
from tests.forge.forge_server.webhooks import Webhooks
from tests.forge.forge_server.world import ForgeWorld, Happening


@dataclass(frozen=True)
class SeenRequest:
    """A request to an API, and the status that it got; None if it got none."""

    method: str
    path: str
    """Without the prefix of the server and of the API."""
    query: dict[str, str]
    headers: dict[str, str]
    status: int | None


class ForgeServer(ForgeWorld):
    """A forge; see the package's docstring for what it can do."""

    def __init__(self, *, prefix: str = "", tls: ssl.SSLContext | None = None) -> None:
        """Prepare a forge; `async with` starts it.

        Args:
            prefix: a path in front of all of its addresses, such as ``/gitea``.
            tls: with the certificate of `localhost`; None: without TLS.
        """
        super().__init__(Path(tempfile.mkdtemp(prefix="forge-")))
        self.faults = Faults()
        self.webhooks = Webhooks()
        self.git = GitHttp(self, self.faults)
        self.requests: list[SeenRequest] = []
        """All requests to the APIs, also those that a fault met."""
        self.violations: list[str] = []
        """What did not fit the descriptions of the APIs; at the end, any is an error."""
        self.url = ""
        """The address of the start page, with the prefix."""
        self._prefix = prefix
        self._tls = tls
        self._afterwards: list[Callable[[], None]] = []
        self._runner: web.AppRunner | None = None
        self._gitea: GiteaJson | None = None
        self._github: GitHubJson | None = None

    async def __aenter__(self) -> ForgeServer:
        root = web.Application(client_max_size=100_000_000)
        app = web.Application(client_max_size=100_000_000) if self._prefix else root
        self._runner = web.AppRunner(root, access_log=None, shutdown_timeout=1)
        # The address is in what the server says, so it listens before it knows its routes.
        await self._listen(root, app)
        self.webhooks.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.faults.end()
        await self.webhooks.close()
        if self._runner is not None:
            await self._runner.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)
        if error is None and self.violations:
            raise AssertionError("\n".join(["What did not fit the API's description:", *self.violations]))

    def happened(self, happening: Happening) -> None:
        """Send the webhooks of what happened."""
        for hook in self.repository(happening.repository).hooks:
            if hook.kind == "gitea":
                assert self._gitea is not None
                self.webhooks.happened(hook, *self._gitea.event(happening))
            else:
                assert self._github is not None
                event, payload = self._github.event(happening)
                self.webhooks.happened(hook, event, event, payload)

    def after_next_response(self, call: Callable[[], None]) -> None:
        """Do something once between two requests: right after the next response was made."""
        self._afterwards.append(call)

    async def _listen(self, root: web.Application, app: web.Application) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        origin = "http://127.0.0.1" if self._tls is None else "https://localhost"
        self.url = f"{origin}:{listener.getsockname()[1]}{self._prefix}"
        self._gitea, self._github = GiteaJson(self, self.url), GitHubJson(self, self.url)
        gitea = GiteaApi(self, self._gitea, self.faults)
        github = GitHubApi(self, self._github, self.faults)
        for route in gitea.routes():
            self._add(app, gitea_api.PREFIX, route, _GiteaManners())
        for route in github.routes():
            self._add(app, github_api.PREFIX, route, _GitHubManners())
        graphql: Route = ("POST", github_api.GRAPHQL, "repo", github.graphql)
        self._add(app, "", graphql, _GitHubManners())
        self.git.add_routes(app)
        if app is not root:
            root.add_subapp(self._prefix, app)
        assert self._runner is not None
        await self._runner.setup()
        await web.SockSite(self._runner, listener, ssl_context=self._tls).start()

    def _add(self, app: web.Application, prefix: str, route: Route, manners: _Manners) -> None:
        method, path, scope, answer = route

        async def handle(request: web.Request) -> web.StreamResponse:
            # A subapplication's requests have the whole path.
            own = request.path.removeprefix(self._prefix).removeprefix(prefix)
            fault = self.faults.for_request(method, own)
            status: int | None = None
            try:
                response = await self._respond(request, path, scope, answer, manners, fault)
                if not response.prepared:
                    response.headers["Date"] = format_datetime(self.now(), usegmt=True)
                status = response.status if fault is None or fault.what in ("answer", "hang") else None
                return response
            finally:
                self.requests.append(SeenRequest(method, own, dict(request.query), dict(request.headers), status))

        app.router.add_route(method, f"{prefix}{path}", handle)

    async def _respond(
        self,
        request: web.Request,
        path: str,
        scope: str,
        answer: Callable[..., Answer],
        manners: _Manners,
        fault: Fault | None,
    ) -> web.StreamResponse:
        match fault.what if fault is not None else None:
            case "answer":
                assert fault is not None
                headers = {"Content-Type": "application/json", **fault.headers}
                return web.Response(status=fault.status, body=fault.body, headers=headers)
            case "truncate":
                return await faults.truncated(request)
            case "drop":
                faults.drop(request)
                return web.Response()
            case "hang":
                assert fault is not None
                await fault.released.wait()
        status, body, headers = await self._answer(request, path, scope, answer, manners)
        if fault is not None and fault.what == "lose":
            faults.drop(request)
        if isinstance(body, str):
            return web.Response(status=status, body=body.encode(), headers=headers)
        if body is None:
            return web.Response(status=status, headers=headers)
        return web.Response(
            status=status, body=json.dumps(body).encode(), content_type="application/json", headers=headers
        )

    async def _answer(
        self, request: web.Request, path: str, scope: str, answer: Callable[..., Answer], manners: _Manners
    ) -> Answer:
        try:
            asked = await accepted(request, self)
            self.violations += manners.request_problems(request.method, path, asked.query, asked.body)
            if scope and asked.scopes is not None and not _covers(asked.scopes, scope):
                raise manners.missing(scope)
            # It runs git for some milliseconds; meanwhile nothing else changes what is at the forge.
            status, body, headers = answer(asked)
        except ApiRefusal as refusal:
            status, headers = refusal.status, refusal.headers
            body = {"message": refusal.message, "url": f"{self.url}/api/swagger"}
        self.violations += manners.response_problems(request.method, path, status, body)
        calls, self._afterwards = self._afterwards, []
        for call in calls:
            call()
        return status, body, headers


class _Manners:
    """What is checked and how it is refused, per API."""

    def request_problems(self, method: str, path: str, query: dict[str, str], body: Any) -> list[str]:
        raise NotImplementedError

    def response_problems(self, method: str, path: str, status: int, body: Any) -> list[str]:
        raise NotImplementedError

    def missing(self, scope: str) -> ApiRefusal:
        raise NotImplementedError


class _GiteaManners(_Manners):
    def request_problems(self, method: str, path: str, query: dict[str, str], body: Any) -> list[str]:
        description = gitea_description()
        return [] if description is None else description.request_problems(method, path, query, body)

    def response_problems(self, method: str, path: str, status: int, body: Any) -> list[str]:
        description = gitea_description()
        return [] if description is None else description.response_problems(method, path, status, body)

    def missing(self, scope: str) -> ApiRefusal:
        return ApiRefusal(403, f"token does not have at least one of required scope(s): [{scope}]")


class _GitHubManners(_Manners):
    def request_problems(self, method: str, path: str, query: dict[str, str], body: Any) -> list[str]:
        return [] if path == github_api.GRAPHQL else GitHubDescription().request_problems(method, path, body)

    def response_problems(self, method: str, path: str, status: int, body: Any) -> list[str]:
        return GitHubDescription().response_problems(method, path, status, body)

    def missing(self, scope: str) -> ApiRefusal:
        headers = {"X-Accepted-OAuth-Scopes": scope}
        return ApiRefusal(403, "Resource not accessible by personal access token", headers=headers)


def _covers(scopes: frozenset[str], wanted: str) -> bool:
    """Return whether a token may do something: who may write may read."""
    return wanted in scopes or wanted.replace("read:", "write:") in scopes
