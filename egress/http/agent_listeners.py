"""The agents' listeners: each agent has its own, and only the listener identifies the agent."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
import socket
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol, cast
from weakref import WeakSet

import structlog

from core import durable_files, unix_sockets
from core.errors import MusterError
from egress.http import bounded_http_server
from egress.http.proxy import Proxy
from egress.http.registered_agent import RegisteredAgent
from egress.http.response_writer import ResponseWriter
from egress.paths import EgressPaths
from egress.request.agent_request import AgentRequest
from egress.settings import Address, AgentRegistration

_log = structlog.get_logger("egress.http.agent_listeners")

#: The number of open connections of one agent.
MOST_CONNECTIONS: Final = 512
_BACKLOG: Final = 256
_CONNECT: Final = b"CONNECT "
_READ_AHEAD: Final = 2**16


class ListenerError(MusterError):
    """The agent's listener cannot be opened."""


class TunnelTaker(Protocol):
    """Handles connections that start with CONNECT (egress.tunnel.connect_tunnel)."""

    def serve(
        self, caller: RegisteredAgent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Awaitable[None]:
        """Serve a connection from the first byte of its CONNECT until it is closed."""
        ...


class Listeners:
    """All listeners of this egress."""

    def __init__(self, paths: EgressPaths, proxy: Proxy, tunnels: TunnelTaker | None = None) -> None:
        self._paths = paths
        self._proxy = proxy
        self._tunnels = tunnels
        self._open: dict[str, _Listener] = {}
        self._ports = _Ports(paths.folder / "ports.json")

    def __contains__(self, agent: str) -> bool:
        return agent in self._open

    @property
    def lines(self) -> list[RegisteredAgent]:
        """The agents with an open listener."""
        return [each.line for each in self._open.values()]

    async def open(self, registration: AgentRegistration) -> Address:
        """Open a listener for this agent, or apply its new registration if one is open.

        Raises:
            ListenerError: the listener cannot be opened.
        """
        agent = registration.agent
        known = self._open.get(agent)
        if known is not None:
            if known.line.registration.listener == registration.listener:
                known.line.renew(registration)
                return known.address
            await self.close(agent)
        line = RegisteredAgent(registration)
        try:
            listener = self._unix(line) if registration.listener == "unix" else self._port(line)
            try:
                await listener.start()
            except BaseException:
                listener.stop()
                raise
        except OSError as error:
            raise ListenerError(f"the listener of {agent} cannot be opened: {error}.") from None
        self._open[agent] = listener
        return listener.address

    async def close(self, agent: str, *, forget: bool = False) -> None:
        """Close this agent's listener, and break its connections.

        Args:
            agent: the agent's name.
            forget: whether it gets another address the next time.
        """
        listener = self._open.pop(agent, None)
        if listener is not None:
            await listener.close()
            if listener.path is not None:
                with contextlib.suppress(OSError):
                    listener.path.unlink()
                with contextlib.suppress(OSError):
                    listener.path.parent.rmdir()
        if forget:
            self._ports.forget(agent)

    async def stop(self) -> None:
        """Accept no more connections; open ones continue."""
        for listener in self._open.values():
            listener.stop()

    async def close_all(self) -> None:
        """Close all listeners and connections."""
        for listener in self._open.values():
            await listener.close()
        self._open.clear()

    def _unix(self, line: RegisteredAgent) -> _Listener:
        path = self._paths.listener(line.agent)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        listening = unix_sockets.listen(path)
        return _Listener(self._proxy, self._tunnels, line, listening, Address(socket=str(path)), path=path)

    def _port(self, line: RegisteredAgent) -> _Listener:
        known = self._ports.of(line.agent)
        listening = _bound(known.port)
        port = listening.getsockname()[1]
        self._ports.keep(line.agent, _Port(port, known.token))
        address = Address(url=f"http://127.0.0.1:{port}/{known.token}")
        return _Listener(self._proxy, None, line, listening, address, token=known.token)


def _bound(port: int) -> socket.socket:
    """Return a socket on this port of the loopback interface, or on any other if the port is taken."""
    for wanted in (port, 0):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", wanted))
        except OSError:
            listening.close()
            if wanted == 0:
                raise
            continue
        return listening
    raise AssertionError


class _Listener:
    def __init__(
        self,
        proxy: Proxy,
        tunnels: TunnelTaker | None,
        line: RegisteredAgent,
        listening: socket.socket,
        address: Address,
        *,
        path: Path | None = None,
        token: str | None = None,
    ) -> None:
        self._proxy = proxy
        self._tunnels = tunnels
        self._listening = listening
        self._token = token
        self._http = bounded_http_server.Server(self._handle, broken=self._refused)
        self._connections: WeakSet[asyncio.Transport] = WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._stopped = False
        self.line = line
        self.address = address
        self.path = path

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        door = partial(_Door, self)
        make = loop.create_unix_server if self.path is not None else loop.create_server
        # Started once it is known, since this may be cancelled while it starts.
        self._server = await make(door, sock=self._listening, backlog=_BACKLOG, start_serving=False)
        await self._server.start_serving()

    def stop(self) -> None:
        self._stopped = True
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        self.stop()
        # asyncio hands a connection that it has accepted to a task, which drops it unclosed if it never begins.
        await asyncio.sleep(0)
        for connection in list(self._connections):
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.shutdown(0.1)

    def admit(self, transport: asyncio.Transport) -> bool:
        """Return whether another connection is accepted. One may arrive after `stop`, accepted before."""
        if self._stopped:
            return False
        if len(self._connections) >= MOST_CONNECTIONS:
            # Closed connections disappear from the set, but not at once.
            self._connections = WeakSet(each for each in self._connections if not each.is_closing())
        if len(self._connections) >= MOST_CONNECTIONS:
            return False
        self._connections.add(transport)
        return True

    def http(self) -> asyncio.Protocol:
        """Return the HTTP protocol for one connection."""
        return self._http()

    @property
    def takes_tunnels(self) -> bool:
        return self._tunnels is not None

    def tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand over a connection that starts with a CONNECT."""
        task = asyncio.create_task(self._tunnel(reader, writer), name=f"tunnel of {self.line.agent}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._tunnels is not None
        try:
            await self._tunnels.serve(self.line, reader, writer)
        except Exception:
            _log.exception("tunnel failed", agent=self.line.agent)
            writer.transport.abort()
        except BaseException:
            writer.transport.abort()
            raise

    def _refused(self, why: str) -> None:
        if self._token is None:
            # At a port, any user of this host may have sent it.
            self._proxy.refused(self.line, why)

    async def _handle(self, request: AgentRequest) -> bool:
        if request.method == "CONNECT":
            return _closed(request, 405)
        path = request.raw_path
        if self._token is not None:
            token, path = _split(path)
            if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode()):
                return _closed(request, 404)
        return await self._proxy.serve(self.line, request, path)


class _Door(asyncio.Protocol):
    """Checks the first bytes of a connection, and hands it to HTTP or to the tunnels."""

    def __init__(self, listener: _Listener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._begin = b""
        self._impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._listener.admit(self._transport):
            self._impatience = asyncio.get_running_loop().call_later(bounded_http_server.IDLE_S, self._transport.abort)
        else:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._rest()

    def data_received(self, content: bytes) -> None:
        assert self._transport is not None
        self._begin += content
        if len(self._begin) < len(_CONNECT) and _CONNECT.startswith(self._begin):
            return
        self._rest()
        if self._begin.startswith(_CONNECT) and self._listener.takes_tunnels:
            loop = asyncio.get_running_loop()
            reader = asyncio.StreamReader(limit=_READ_AHEAD, loop=loop)
            streams = asyncio.StreamReaderProtocol(reader, loop=loop)
            self._hand(self._transport, streams)
            self._listener.tunnel(reader, asyncio.StreamWriter(self._transport, streams, reader, loop))
        else:
            self._hand(self._transport, self._listener.http())

    def _hand(self, transport: asyncio.Transport, to: asyncio.Protocol) -> None:
        transport.set_protocol(to)
        to.connection_made(transport)
        to.data_received(self._begin)

    def _rest(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()


@dataclass(frozen=True, slots=True)
class _Port:
    port: int
    token: str


class _Ports:
    """The ports and tokens of agents, which stay the same after a restart. Readable only by this user."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, _Port] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            self._known = {
                name: _Port(int(found["port"]), str(found["token"]))
                for name, found in json.loads(path.read_text()).items()
            }

    def of(self, agent: str) -> _Port:
        return self._known.get(agent) or _Port(0, secrets.token_urlsafe(24))

    def keep(self, agent: str, port: _Port) -> None:
        if self._known.get(agent) != port:
            self._known[agent] = port
            self._write()

    def forget(self, agent: str) -> None:
        if self._known.pop(agent, None) is not None:
            self._write()

    def _write(self) -> None:
        content = {name: {"port": each.port, "token": each.token} for name, each in self._known.items()}
        durable_files.write(self._path, json.dumps(content))


def _split(path: str) -> tuple[str, str]:
    """Return the token of a port listener, and the rest of the path."""
    if not path.startswith("/"):
        return "", path
    token, slash, rest = path[1:].partition("/")
    return token, slash + rest


def _closed(request: AgentRequest, status: int) -> bool:
    """Refuse a request without any detail, because its sender or its target is unknown."""
    answer = ResponseWriter(request)
    answer.refuse(status, (), b"", close=True)
    return answer.given()
