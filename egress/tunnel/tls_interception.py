"""CONNECT to a metered host: the connection ends in the egress, and its requests are metered like all others.

A client may ignore base URLs and connect to api.anthropic.com by name. It reaches the same server as through a base
URL, with the same agent, account, limits and ledger. The server's certificate is one that its sandbox trusts
(egress.tunnel.certificate_authority). No byte is relayed to the host unmetered.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar
from urllib.parse import urlsplit

import structlog

from egress import provider_endpoints
from egress.http import bounded_http_server
from egress.http.response_writer import ResponseWriter
from egress.provider_endpoints import PROVIDERS, Provider
from egress.request.agent_request import AgentRequest
from egress.settings import AccountSettings
from egress.tunnel.certificate_authority import CertificateAuthority
from egress.tunnel.connect_tunnel import Caller, NotServed
from egress.tunnel.host_allowlist import HTTPS, TunnelTarget, hostname

log = structlog.get_logger("egress.tunnel.tls_interception")

HANDSHAKE_S: Final = 10.0
_TEXT: Final = ((b"Content-Type", b"text/plain; charset=utf-8"),)

_C = TypeVar("_C", bound=Caller)
Serve: TypeAlias = Callable[[_C, AgentRequest, str, Provider], Awaitable[bool]]
"""Answers one request of an agent: the agent, the request, its path from the provider's root, the provider. Returns
whether the connection may continue."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeteredHost:
    """A host whose calls use tokens."""

    host: str
    ports: frozenset[int]
    bases: tuple[tuple[Provider, str], ...]
    """The providers whose APIs are there, and their base paths without a trailing slash."""

    def find(self, method: str, target: str) -> tuple[Provider, str]:
        """Return the provider that a request calls, and its path from the provider's root. An unknown call belongs to
        the first provider."""
        path = target.partition("?")[0]
        below = [(who, base) for who, base in self.bases if path == base or path.startswith(f"{base}/")]
        for who, base in below:
            if provider_endpoints.operation(who, method, path[len(base) :] or "/") is not None:
                return who, target[len(base) :] or "/"
        who, base = below[0] if below else (self.bases[0][0], "")
        return who, target[len(base) :] or "/"


def metered_hosts(accounts: Iterable[AccountSettings]) -> Mapping[str, MeteredHost]:
    """Return the hosts to which no tunnel leads: those of the providers and of the accounts' upstreams."""
    ports: dict[str, set[int]] = {}
    bases: dict[str, dict[tuple[Provider, str], None]] = {}
    for provider, facts in PROVIDERS.items():
        for host in facts.hosts:
            ports.setdefault(host, set()).add(HTTPS)
            bases.setdefault(host, {})[provider, ""] = None
    for account in accounts:
        parts = urlsplit(account.upstream)
        name = hostname(parts.hostname or "")
        if name is None or parts.scheme != "https":
            # An address or this machine: tunnels reach it only if a route lists it.
            continue
        ports.setdefault(name, set()).add(parts.port or HTTPS)
        bases.setdefault(name, {})[account.provider, parts.path.rstrip("/")] = None
    return {
        host: MeteredHost(
            host=host,
            ports=frozenset(ports[host]),
            # The longest base is the most specific.
            bases=tuple(sorted(bases[host], key=lambda each: -len(each[1]))),
        )
        for host in ports
    }


class Interception(Generic[_C]):
    """Answers for metered hosts. Belongs to one event loop; must be closed."""

    def __init__(
        self,
        *,
        authority: CertificateAuthority,
        serve: Serve[_C],
        accounts: Iterable[AccountSettings],
        has_account: Callable[[_C, Provider], bool],
        note: Callable[[str, str, str], None],
    ) -> None:
        """
        Args:
            authority: creates the certificates.
            serve: answers requests, as through a base URL.
            accounts: the accounts in the settings; their upstreams are metered, too.
            has_account: whether an agent has an account with a provider.
            note: writes an agent, an action and its cause to the audit.
        """
        self._authority = authority
        self._serve = serve
        self._has_account = has_account
        self._note = note
        self._hosts: Mapping[str, MeteredHost] = {}
        self._servers: weakref.WeakSet[bounded_http_server.Server] = weakref.WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()
        self.take(accounts)

    def take(self, accounts: Iterable[AccountSettings]) -> None:
        """Apply these accounts from the next connection on.

        Raises:
            OSError: the certificates cannot be written.
        """
        hosts = metered_hosts(accounts)
        self._authority.cover(hosts)
        self._hosts = hosts

    def meters(self, host: str) -> bool:
        """Return whether a host is metered: then no tunnel leads there."""
        return host in self._hosts

    def open(self, caller: _C, wanted: TunnelTarget) -> socket.socket:
        """Return a connection whose other end answers for that host.

        Raises:
            NotServed: this agent has no account there, or the port is wrong.
        """
        metered = self._hosts[wanted.host]
        if wanted.port not in metered.ports:
            ports = ", ".join(str(port) for port in sorted(metered.ports))
            raise NotServed(f"{wanted.host} is metered, and reachable only on port {ports}.")
        if not any(self._has_account(caller, provider) for provider, _ in metered.bases):
            names = " or ".join(dict.fromkeys(provider for provider, _ in metered.bases))
            raise NotServed(
                f"{wanted.host} is metered, and {caller.agent} has no account with {names}. An operator adds one in "
                "muster.yaml (accounts)."
            )
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        task = asyncio.create_task(self._answer(caller, metered, theirs), name=f"intercepted {wanted.host}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return ours

    async def close(self, grace_s: float = 0.0) -> None:
        """End all connections; running requests have `grace_s` seconds to end."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # With a timeout of 0, the server would wait forever.
        await asyncio.gather(*(server.shutdown(max(grace_s, 0.1)) for server in list(self._servers)))

    async def _answer(self, caller: _C, metered: MeteredHost, link: socket.socket) -> None:
        async def handle(request: AgentRequest) -> bool:
            return await self._request(caller, metered, request)

        def broken(why: str) -> None:
            self._note(caller.agent, "refused", f"{metered.host}: {why}")

        server = bounded_http_server.Server(handle, broken=broken)
        try:
            context = self._authority.context(metered.host)
        except BaseException:
            link.close()
            raise
        try:
            # From here on the transport owns the socket, and always closes it.
            await asyncio.get_running_loop().connect_accepted_socket(
                server, link, ssl=context, ssl_handshake_timeout=HANDSHAKE_S, ssl_shutdown_timeout=1.0
            )
        except (OSError, TimeoutError) as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else ""
            if "UNKNOWN_CA" in (reason or "") or "CERTIFICATE" in (reason or ""):
                # The client only reports a broken network; this row shows the operator the cause.
                self._note(
                    caller.agent,
                    "refused",
                    f"{metered.host}: a client did not trust the egress's certificate ({reason}); it must be told to "
                    "trust it (SSL_CERT_FILE, NODE_EXTRA_CA_CERTS), or use the base URL.",
                )
            else:
                # Not in the audit: an agent can cause any number of failed handshakes.
                log.debug("no handshake", agent=caller.agent, host=metered.host, error=str(error))
        else:
            self._servers.add(server)

    async def _request(self, caller: _C, metered: MeteredHost, request: AgentRequest) -> bool:
        hosts = request.headers.getall("Host", [])
        fine = {metered.host, *(f"{metered.host}:{port}" for port in metered.ports)}
        if len(hosts) != 1 or hosts[0].lower() not in fine:
            named = ascii(", ".join(hosts)[:200])[1:-1] or "no host"
            self._note(caller.agent, "route-refused", f"{metered.host}: a request in it names {named}")
            return _refused(request, 421, f"this connection is for {metered.host}, and the request names {named}.")
        if request.method == "CONNECT" or not request.raw_path.startswith("/"):
            self._note(caller.agent, "route-refused", f"{metered.host}: a tunnel or an absolute address within it")
            return _refused(request, 400, f"this is {metered.host}, and no proxy.")
        provider, path = metered.find(request.method, request.raw_path)
        return await self._serve(caller, request, path, provider)


def _refused(request: AgentRequest, status: int, message: str) -> bool:
    answer = ResponseWriter(request)
    answer.refuse(status, _TEXT, f"muster: {message}\n".encode(), close=True)
    return answer.given()
