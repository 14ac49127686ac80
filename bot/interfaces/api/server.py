"""The gateway: the command table over HTTP, on a unix socket that belongs to Muster's user.

Only that user can connect, due to the modes of the socket and its folder, and the check of the peer's user id. So every
client is an admin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from bot.api_client import LINES
from bot.auth.owner import owner_identity
from bot.auth.permission import ADMIN
from bot.commands import help as command_help
from bot.commands.executor import Executor, Progress, RunOutcome
from bot.commands.runs import RunConflict, RunRequest
from bot.commands.syntax import written
from bot.interfaces.api import documents, metrics_server, openapi
from bot.interfaces.api.gateway_socket import GatewaySocket
from bot.messaging.event_hub import Subscription, TooSlow
from bot.monitoring import health_view
from bot.runs.following import follow
from bot.runs.services import RunServices
from bot.text.errors import UserError
from core.errors import MusterError, RegisterError
from core.redaction import redacted_mapping
from core.unix_sockets import uid_of
from fleet.control.task_attempt_ids import task_of

#: Bytes of a request's body. A message to an agent may have 100,000 characters.
LONGEST_BODY = 1_048_576
#: Seconds for a client to accept one event.
_SEND_LIMIT = 30.0
#: Seconds for requests to end when the gateway stops.
_STOP_LIMIT = 1.0

_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,80}")
_STATUS = {"done": 200, "confirming": 202, "refused": 422, "lapsed": 422, "failed": 500}
_CODE_STATUS = {"document.unknown": 404, "document.place": 400, "run.unknown": 404}
_REASON_STATUS = {"usage": 400, "permission": 403, "unknown": 404, "confirm": 428}

_log = structlog.get_logger("gateway")


@dataclass(slots=True)
class Gateway:
    """The HTTP server on the socket `path`."""

    services: RunServices
    executor: Executor
    path: Path
    listener: GatewaySocket | None = None
    """The open socket at `path`; None to open it."""
    _runner: web.AppRunner | None = None
    _identity: str = ""
    _open: set[web.WebSocketResponse] = field(default_factory=set)
    _streams: set[asyncio.Task[object]] = field(default_factory=set)

    async def start(self) -> None:
        """Start to listen. The leftover socket of an earlier process is replaced.

        Raises:
            MusterError: the socket cannot be created.
        """
        self._identity = owner_identity()
        listener = self.listener or GatewaySocket.at(self.path)
        runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=_STOP_LIMIT)
        await runner.setup()
        await web.SockSite(runner, listener.socket).start()
        self._runner = runner
        self.listener = listener

    async def stop(self) -> None:
        """Disconnect all clients. Safe to call twice, and before `start`."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        if self.listener is not None:
            self.listener.remove()
            self.listener = None
        for stream in tuple(self._streams):
            stream.cancel()
        for client in tuple(self._open):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_LIMIT / 2):
                    await client.close(code=WSCloseCode.GOING_AWAY, message=b"Muster is stopping")
        await runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=LONGEST_BODY, middlewares=[_only_the_owner, _as_json])
        application.add_routes(
            [
                web.get("/v1/commands", self._commands),
                web.post("/v1/commands/{name:[^/]+}", self._command),
                web.post("/v1/commands/{group:[^/]+}/{name:[^/]+}", self._command),
                web.post("/v1/commands/{group:[^/]+}/{subgroup:[^/]+}/{name:[^/]+}", self._command),
                web.get("/v1/openapi.json", self._openapi),
                web.get("/v1/complete", self._complete),
                web.get("/v1/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/v1/documents/{name:.+}", self._document),
                web.get("/v1/stream", self._stream),
                web.get("/v1/follow/{kind:[a-z]+}/{id:[^/]+}", self._follow),
                web.get("/v1/events", self._events),
                web.get("/v1/terminal", self._terminal),
            ]
        )
        return application

    # --- commands ----------------------------------------------------------------------------------------------

    async def _command(self, http: web.Request) -> web.StreamResponse:
        words = [http.match_info[part] for part in ("group", "subgroup", "name") if part in http.match_info]
        key = http.headers.get("Idempotency-Key")
        if key is not None and not _KEY.fullmatch(key):
            raise _Wrong("An Idempotency-Key has 1 to 80 characters of A-Z, a-z, 0-9, _ . : and -.")
        if key is not None and task_of(key) is not None:
            raise _Wrong("An Idempotency-Key is no id of a message that carries a task (task-...); choose another.")
        command = self.services.table.get(" ".join(words))
        request = RunRequest(
            id=key or secrets.token_hex(16),
            name=command.name if command is not None else " ".join(words)[:80],
            arguments=await _arguments(http),
            identity=self._identity,
            permission=await self.services.operators.permission(self._identity),
            door="cli" if http.headers.get("Muster-Door") == "cli" else "gateway",
            confirmed=http.headers.get("Muster-Confirm") == "yes",
        )

        async def progress(text: str) -> None:
            self.services.events.publish({"type": "progress", "run": request.id, "text": text})

        if LINES not in http.headers.get("Accept", ""):
            return _answer(await self.executor.run(request, progress=progress))
        return await self._in_lines(http, request, progress)

    async def _in_lines(self, http: web.Request, request: RunRequest, progress: Progress) -> web.StreamResponse:
        """Return the answer. If the command reports progress, stream it: one JSON line per report, then the answer."""
        lines = web.StreamResponse(headers={"Content-Type": LINES})
        with self.services.events.subscribed() as subscription:
            running = asyncio.ensure_future(self.executor.run(request, progress=progress))
            try:
                await _tell(http, lines, subscription, request.id, running)
                try:
                    answer = _answer(running.result())
                except (Exception, asyncio.CancelledError) as error:
                    answer = _response_to(error, http.path)
                if not lines.prepared:
                    return answer
                await _write_line(lines, {"status": answer.status, "body": json.loads(answer.text or "null")})
                await lines.write_eof()
            except (OSError, TimeoutError):
                _log.info("gateway.client_gone", run=request.id)
            finally:
                running.cancel()  # the command goes on all the same
        return lines

    async def _commands(self, http: web.Request) -> web.Response:
        return web.json_response(command_help.as_json(self.services.table.visible(ADMIN)))

    async def _openapi(self, http: web.Request) -> web.Response:
        return web.json_response(openapi.document(self.services.table, self.services.version))

    async def _complete(self, http: web.Request) -> web.Response:
        source = http.query.get("source", "")
        complete = self.services.complete
        words = list(await complete(source)) if complete is not None else []
        return web.json_response({"words": words})

    async def _health(self, http: web.Request) -> web.Response:
        report = redacted_mapping(await health_view.report(self.services), self.services.redact)
        return web.json_response(report, status=503 if report["status"] == "down" else 200)

    # --- streams -----------------------------------------------------------------------------------------------

    async def _metrics(self, http: web.Request) -> web.Response:
        return await metrics_server.answer(self.services)

    async def _document(self, http: web.Request) -> web.Response:
        return await documents.one(self.services.documents, http)

    async def _stream(self, http: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            return await documents.stream(self.services.documents, http)
        finally:
            self._streams.discard(task)

    async def _follow(self, http: web.Request) -> web.StreamResponse:
        """``GET /v1/follow/KIND/ID?after=N``: JSON lines until a run, a message or a task is over."""
        after = http.query.get("after", "0")
        if not re.fullmatch(r"[0-9]{1,9}", after):
            raise _Wrong("`after` is the number of characters of the answer that you have.")
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        lines = web.StreamResponse(headers={"Content-Type": LINES})
        try:
            items = follow(self.services, http.match_info["kind"], http.match_info["id"], after=int(after))
            async with contextlib.aclosing(items):
                async for item in items:
                    if not lines.prepared:
                        await lines.prepare(http)
                    await _write_line(lines, item)
            await lines.write_eof()
        except (OSError, TimeoutError):
            _log.info("gateway.follower_gone", path=http.path)
        except RegisterError:
            if not lines.prepared:
                raise
            # Without an end, the reader comes back and goes on where it was.
        finally:
            self._streams.discard(task)
        return lines

    async def _events(self, http: web.Request) -> web.WebSocketResponse:
        async with self._client(http) as client:
            with self.services.events.subscribed() as subscription:

                async def tell() -> None:
                    async for event in subscription:
                        await _send(client, event)

                await _until_either_ends(tell(), _ignore(client), client)
        return client

    async def _terminal(self, http: web.Request) -> web.WebSocketResponse:
        name = http.query.get("connector")
        terminal = self.services.terminal if name is None else self.services.terminals.get(name)
        if terminal is None:
            missing = "No terminal is" if name is None else "No terminal or tmux connector of that name is"
            way = f"add connectors.{name if name is not None and name.isidentifier() else 'terminal'} to muster.yaml"
            raise _Wrong(f"{missing} configured: {way}.", "no_terminal", 409)
        after = http.query.get("after", "")
        seen = int(after) if re.fullmatch(r"[0-9]{1,15}", after) else None
        async with self._client(http) as client, terminal.attached(seen) as session:

            async def show() -> None:
                async for line in session:
                    await _send(client, line.to_json())

            async def listen() -> None:
                async for message in client:
                    if message.type is WSMsgType.TEXT:
                        await _send(client, await session.receive(_object(message.data)))

            await _until_either_ends(show(), listen(), client)
        return client

    @contextlib.asynccontextmanager
    async def _client(self, http: web.Request) -> AsyncIterator[web.WebSocketResponse]:
        client = web.WebSocketResponse(heartbeat=30.0, max_msg_size=LONGEST_BODY)
        await client.prepare(http)
        self._open.add(client)
        try:
            yield client
        finally:
            self._open.discard(client)
            await client.close()


class _Wrong(MusterError):
    """The request is not valid."""

    def __init__(self, message: str, code: str = "usage", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


async def _arguments(http: web.Request) -> dict[str, Any]:
    body = await http.read()
    if not body:
        return {}
    try:
        arguments = json.loads(body)
    except (ValueError, RecursionError):
        raise _Wrong("The body is not JSON. Send an object with the arguments by name.") from None
    if not isinstance(arguments, dict):
        raise _Wrong("The body is not a JSON object. Send the arguments by name.")
    return arguments


def _object(text: str) -> Any:
    """Parse a message of a terminal client. The terminal refuses None, the result for invalid JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _answer(outcome: RunOutcome) -> web.Response:
    status = _STATUS[outcome.state]
    if outcome.state == "refused" and outcome.reason is not None:
        status = _REASON_STATUS[outcome.reason]
    body = {
        "id": outcome.run_id,
        "state": outcome.state,
        "text": outcome.text,
        "data": outcome.data,
        "reason": outcome.reason,
        "code": outcome.code,
    }
    return web.json_response(body, status=status)


def _error(sentence: str, code: str, status: int) -> web.Response:
    return web.json_response({"error": written(sentence, ""), "code": code}, status=status)


@web.middleware
async def _only_the_owner(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("socket")
    if peer is None or uid_of(peer) != os.getuid():
        return _error("Only the user who runs Muster may use its gateway.", "permission", 403)
    return await handler(request)


@web.middleware
async def _as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Convert errors to the gateway's format."""
    try:
        return await handler(request)
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        return _response_to(error, request.path)


def _response_to(error: BaseException, path: str) -> web.Response:
    """Return the response for an error, in the gateway's format."""
    match error:
        case _Wrong():
            return _error(str(error), error.code, error.status)
        case RunConflict():
            return _error(str(error), "conflict", 409)
        case RegisterError():
            return _error(str(error), "register", 503)
        case UserError():
            return _error(str(error), error.code, _CODE_STATUS.get(error.code, 422))
        case MusterError():
            return _error(str(error), "refused", 422)
        case web.HTTPException():
            sentences = {
                400: "This cannot be read as a request. /v1/events and /v1/terminal want a WebSocket.",
                404: "There is nothing here. GET /v1/openapi.json describes what there is.",
                405: "This address takes another method. GET /v1/openapi.json says which.",
                413: f"The body is too large: at most {LONGEST_BODY} bytes.",
            }
            return _error(sentences.get(error.status, error.reason), "http", error.status)
        case asyncio.CancelledError():
            return _error("Muster is stopping. Ask again with the same Idempotency-Key.", "stopping", 503)
        case _:
            _log.error("gateway.failed", path=path, exc_info=error)
            return _error("A fault in Muster; the log has the details.", "fault", 500)


async def _tell(
    http: web.Request,
    lines: web.StreamResponse,
    subscription: Subscription,
    run_id: str,
    running: asyncio.Future[Any],
) -> None:
    """Write a line for each progress report of a run, until the run ends."""
    news: asyncio.Future[Any] = asyncio.ensure_future(anext(subscription))
    try:
        while not running.done():
            await asyncio.wait({running, news}, return_when=asyncio.FIRST_COMPLETED)
            if not news.done():
                continue
            event = news.result()
            news = asyncio.ensure_future(anext(subscription))
            if event.get("type") == "progress" and event.get("run") == run_id:
                if not lines.prepared:
                    await lines.prepare(http)
                await _write_line(lines, {"progress": event["text"]})
    except TooSlow:
        await asyncio.wait({running})
    finally:
        news.cancel()


async def _write_line(lines: web.StreamResponse, value: object) -> None:
    async with asyncio.timeout(_SEND_LIMIT):
        await lines.write(json.dumps(value).encode() + b"\n")


async def _send(client: web.WebSocketResponse, value: object) -> None:
    async with asyncio.timeout(_SEND_LIMIT):
        await client.send_json(value)


async def _ignore(client: web.WebSocketResponse) -> None:
    """Read and ignore messages until the client disconnects."""
    async for _ in client:
        pass


async def _until_either_ends(
    telling: Awaitable[None], listening: Awaitable[None], client: web.WebSocketResponse
) -> None:
    """Run both sides of a stream; the end of one cancels the other."""
    tasks = [asyncio.ensure_future(telling), asyncio.ensure_future(listening)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    if any(isinstance(result, TooSlow) for result in results):
        await client.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too far behind")
    for result in results:
        expected = (TooSlow, TimeoutError, ConnectionError, asyncio.CancelledError, ValueError)
        if isinstance(result, Exception) and not isinstance(result, expected):
            raise result
