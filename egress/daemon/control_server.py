"""The egress's control socket: HTTP and JSON, for this user only.

    GET    /status
    PUT    /settings          {"settings": EgressSettings, "secrets": {"env:NAME": VALUE}}
    PUT    /agents/NAME       AgentRegistration -> Address
    DELETE /agents/NAME
    POST   /deny              {"agent", "action": cutoff|freeze|kill, "cause", "by", "id"} -> {"streams": N}
    POST   /allow             {"agent", "cause", "by", "id"}
    GET    /entries           ?after=&observations_after=&actions_after=&limit=&wait=SECONDS
    GET    /standing
    POST   /estop             {"cause", "by"} -> {"streams": N}
    POST   /estop/clear       {"cause", "by"}
    POST   /stop

A failed request returns {"error": SENTENCE}.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from budget.limits.scopes import Policy
from core import unix_sockets
from core.errors import MusterError
from egress.daemon.control_client import LONGEST_WAIT_S
from egress.daemon.egress_service import Egress
from egress.ledger.model import LedgerUnwritable
from egress.settings import AgentRegistration, EgressSettings

_log = structlog.get_logger("egress.daemon.control_server")

_LONGEST_REQUEST: Final = 16 * 2**20
_MOST_ROWS: Final = 2_000


class _Settings(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)
    settings: EgressSettings
    secrets: dict[str, str] = Field(default={}, repr=False)


class _Pardon(BaseModel):
    agent: str
    cause: str = Field(max_length=1_000)
    by: str = Field(max_length=200)
    id: str = Field(max_length=200)


class _Denial(_Pardon):
    action: Policy = "cutoff"


class _Stop(BaseModel):
    cause: str = Field(default="", max_length=1_000)
    by: str = Field(default="", max_length=200)


class EgressControlServer:
    """The server of one egress's control socket."""

    def __init__(self, egress: Egress, path: Path, *, stop: Callable[[], None]) -> None:
        """`stop` starts the shutdown of the process; it returns at once."""
        self._egress = egress
        self._path = path
        self._stop = stop
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. From then on the egress is ready."""
        app = web.Application(client_max_size=_LONGEST_REQUEST, middlewares=[_guard])
        app.add_routes(
            [
                web.get("/status", self._status),
                web.put("/settings", self._settings),
                web.put("/agents/{name}", self._register),
                web.delete("/agents/{name}", self._forget),
                web.post("/deny", self._deny),
                web.post("/allow", self._allow),
                web.get("/entries", self._entries),
                web.get("/standing", self._standing),
                web.post("/estop", self._estop),
                web.post("/estop/clear", self._clear),
                web.post("/stop", self._end),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        listening = unix_sockets.listen(self._path)
        try:
            await web.SockSite(self._runner, listening).start()
        except BaseException:
            listening.close()
            raise

    async def close(self) -> None:
        """Close the socket."""
        if self._runner is not None:
            self._path.unlink(missing_ok=True)
            await self._runner.cleanup()

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self._egress.status())

    async def _settings(self, request: web.Request) -> web.Response:
        given = _Settings.model_validate_json(await request.read())
        await self._egress.configure(given.settings, given.secrets)
        return web.json_response({})

    async def _register(self, request: web.Request) -> web.Response:
        registration = AgentRegistration.model_validate_json(await request.read())
        if registration.agent != request.match_info["name"]:
            return _error(400, "the registration is another agent's than the path says.")
        address = await self._egress.register(registration)
        return web.json_response(address.model_dump(mode="json"))

    async def _forget(self, request: web.Request) -> web.Response:
        await self._egress.forget(request.match_info["name"])
        return web.json_response({})

    async def _deny(self, request: web.Request) -> web.Response:
        given = _Denial.model_validate_json(await request.read())
        streams = await self._egress.gate.deny(given.agent, given.action, cause=given.cause, by=given.by, id=given.id)
        return web.json_response({"streams": streams})

    async def _allow(self, request: web.Request) -> web.Response:
        given = _Pardon.model_validate_json(await request.read())
        await self._egress.gate.allow(given.agent, cause=given.cause, by=given.by, id=given.id)
        return web.json_response({})

    async def _entries(self, request: web.Request) -> web.Response:
        query = request.query
        try:
            entries, observations, actions, limit = (
                int(query.get(name, default))
                for name, default in (
                    ("after", "0"),
                    ("observations_after", "0"),
                    ("actions_after", "0"),
                    ("limit", "500"),
                )
            )
            wait_s = min(max(float(query.get("wait", "0")), 0.0), LONGEST_WAIT_S)
        except ValueError:
            return _error(400, "positions, limit and wait must be numbers.")
        found = await self._egress.entries(
            entries, observations, actions, limit=min(max(limit, 1), _MOST_ROWS), wait_s=wait_s
        )
        # Serializing a full page takes milliseconds, during which the loop would block all streams.
        return web.json_response(text=await asyncio.to_thread(_dumps, found))

    async def _standing(self, request: web.Request) -> web.Response:
        return web.json_response(self._egress.gate.standing(), dumps=_dumps)

    async def _estop(self, request: web.Request) -> web.Response:
        given = _Stop.model_validate_json(await request.read() or b"{}")
        streams = await self._egress.gate.estop(cause=given.cause, by=given.by)
        return web.json_response({"streams": streams})

    async def _clear(self, request: web.Request) -> web.Response:
        given = _Stop.model_validate_json(await request.read() or b"{}")
        await self._egress.gate.clear_estop(cause=given.cause, by=given.by)
        return web.json_response({})

    async def _end(self, request: web.Request) -> web.Response:
        asyncio.get_running_loop().call_soon(self._stop)
        return web.json_response({})


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Reject other users, and turn every error into a sentence."""
    transport = request.transport
    if transport is None or not unix_sockets.is_own(transport.get_extra_info("socket")):
        return _error(403, "this socket is only for its owner.")
    try:
        return await handler(request)
    except ValidationError as error:
        # The message omits the input: it may be a secret.
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return _error(400, f"{where or 'the request'}: {first['msg']}.")
    except LedgerUnwritable as error:
        return _error(503, str(error))
    except MusterError as error:
        return _error(409, str(error))
    except web.HTTPException as error:
        return _error(error.status, f"{request.method} {request.path}: {error.reason}.")
    except Exception as error:
        _log.exception("control request failed", path=request.path)
        return _error(500, f"the egress failed ({type(error).__name__}); see its log.")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message[:1].upper() + message[1:]}, status=status)


def _dumps(found: Any) -> str:
    return json.dumps(found, default=_plain)


def _plain(found: Any) -> Any:
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return {each.name: getattr(found, each.name) for each in dataclasses.fields(found)}
    raise TypeError(f"{type(found).__name__} cannot be told")
