"""The services of one egress: settings, registered agents, status and ledger pages."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from core import durable_files
from core.errors import MusterError
from egress.http.agent_listeners import Listeners
from egress.http.proxy import Proxy
from egress.http.registered_agent import RegisteredAgent
from egress.ledger.service import UsageLedger
from egress.ledger.writer_thread import LedgerHead
from egress.limits.admission_control import AdmissionControl
from egress.paths import EgressPaths
from egress.settings import ROLES, Address, AgentRegistration, EgressSettings
from egress.tunnel import host_allowlist
from egress.tunnel.connect_tunnel import Tunnels
from egress.tunnel.tls_interception import Interception
from egress.upstream.connection_pool import check

_log = structlog.get_logger("egress.daemon.egress_service")


class UnusableSettings(MusterError):
    """The egress cannot work with these settings."""


class Egress:
    """The egress's services; created by egress.daemon.startup.running."""

    def __init__(
        self,
        paths: EgressPaths,
        ledger: UsageLedger,
        gate: AdmissionControl,
        proxy: Proxy,
        listeners: Listeners,
        tunnels: Tunnels[RegisteredAgent],
        interception: Interception[RegisteredAgent],
        clock: Callable[[], float],
    ) -> None:
        self._paths = paths
        self._settings = EgressSettings(host="")
        self._clock = clock
        self._since = clock()
        self._changing = asyncio.Lock()
        self.ledger = ledger
        self.gate = gate
        self.proxy = proxy
        self.listeners = listeners
        self._tunnels = tunnels
        self._interception = interception
        self.stopped = asyncio.Event()
        """Somebody asked for the end."""

    def status(self) -> dict[str, Any]:
        """Return a short summary of this egress, without secrets."""
        return {
            "pid": os.getpid(),
            "since": self._since,
            "host": self._settings.host,
            "revision": self._settings.revision,
            "understands": [ROLES],
            "ledger": self.ledger.id,
            "incarnation": self.ledger.incarnation,
            "recovered": self.ledger.recovered,
            "unwritable": str(self.ledger.unwritable) if self.ledger.unwritable is not None else None,
            "head": self.ledger.head._asdict(),
            "agents": sorted(self.ledger.agents),
            "streams": self.proxy.streams,
            # Calls that use no tokens, counted since each agent's listener was opened.
            "harmless": {
                line.agent: {"passed": line.pace.passed, "held_back": line.pace.held_back}
                for line in self.listeners.lines
            },
            "estop": self._paths.estop.exists(),
        }

    async def configure(self, settings: EgressSettings, secrets: Mapping[str, str] | None = None) -> None:
        """Apply new settings durably; secrets stay in memory only.

        Raises:
            UnusableSettings: the settings are invalid or could not be saved; nothing was changed.
        """
        for account in settings.accounts:
            try:
                check(account.upstream)
            except ValueError as error:
                raise UnusableSettings(f"account {account.name}: {error}") from None
        async with self._changing:
            settings = settings.model_copy(update={"told_at": self._clock()})
            await self.gate.set_settings(settings)
            try:
                await asyncio.to_thread(durable_files.write, self._paths.settings, settings.model_dump_json())
                self._interception.take(settings.accounts)
            except OSError as error:
                # Settings that would be lost in a restart must not apply until then, either.
                await self.gate.set_settings(self._settings)
                where = error.filename or self._paths.settings
                raise UnusableSettings(f"{where} cannot be written: {error.strerror}.") from None
            self._settings = settings
            self.proxy.take(settings)
            if secrets is not None:
                self.proxy.credentials.push(secrets)

    def resume(self, settings: EgressSettings) -> None:
        """Apply saved or default settings."""
        self._settings = settings
        self.proxy.take(settings)

    async def register(self, registration: AgentRegistration) -> Address:
        """Serve an agent; durable when it returns.

        Raises:
            ListenerError, LedgerUnwritable, RouteError: the agent is not served.
        """
        host_allowlist.routes(registration.routes)
        async with self._changing:
            known = self.ledger.agents.get(registration.agent)
            if known is not None and known.routes != registration.routes:
                # Open tunnels may use routes that were removed.
                self._tunnels.close(registration.agent)
            await self.gate.register(registration)
            return await self.listeners.open(registration)

    async def forget(self, agent: str) -> None:
        """Stop serving an agent. What it used stays in the ledger."""
        async with self._changing:
            await self.listeners.close(agent, forget=True)
            await self.gate.unregister(agent)

    async def entries(
        self, after: int, observations: int, actions: int, *, limit: int, wait_s: float
    ) -> dict[str, Any]:
        """Return pages of the ledger after these positions; wait up to `wait_s` seconds for the first new row.

        By asking, the caller confirms that it has durably stored everything before these positions.
        """
        self.ledger.copied(entries=after, actions=actions)
        if wait_s > 0:
            known = LedgerHead(entries=after, actions=actions, observations=observations)
            await self.ledger.newer(known, wait_s)
        return {
            "ledger": self.ledger.id,
            "entries": await self.ledger.entries_after(after, limit),
            "observations": [
                {"seq": seq, **dataclasses.asdict(found)}
                for seq, found in await self.ledger.observations_after(observations, limit)
            ],
            "actions": await self.ledger.actions_after(actions, limit),
        }

    def stop(self) -> None:
        """Start the shutdown."""
        self.stopped.set()
