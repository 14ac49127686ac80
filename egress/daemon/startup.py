"""Ordered startup and shutdown of a complete egress in one event loop.

It starts ledger, admission control, proxy, listeners and control socket. Denials and the emergency stop are loaded
before any listener opens. The control socket opens last: once it answers, all agents are served.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog
from pydantic import ValidationError

from egress.daemon.audit_throttle import EVERY_S, AuditThrottle
from egress.daemon.control_server import EgressControlServer
from egress.daemon.egress_service import Egress
from egress.http.agent_listeners import ListenerError, Listeners
from egress.http.proxy import Proxy
from egress.http.registered_agent import RegisteredAgent
from egress.ledger.service import UsageLedger
from egress.limits.admission_control import AdmissionControl
from egress.limits.freeze_and_kill import enforce
from egress.paths import EgressPaths
from egress.settings import EgressSettings
from egress.tunnel.certificate_authority import CertificateAuthority
from egress.tunnel.checked_dns_resolver import Resolver
from egress.tunnel.connect_tunnel import Tunnels
from egress.tunnel.tls_interception import Interception
from egress.upstream.connection_pool import Upstream
from egress.upstream.credentials import Credentials

_log = structlog.get_logger("egress.daemon.egress_service")

#: How long running requests may continue when the egress is asked to stop.
GRACE_S: Final = 3.0
#: How often the emergency stop's file is checked, in seconds.
LOOK_S: Final = 0.2


@asynccontextmanager
async def running(
    paths: EgressPaths,
    *,
    settings: EgressSettings | None = None,
    resolver: Resolver | None = None,
    control: bool = True,
    grace_s: float = GRACE_S,
    clock: Callable[[], float] = time.time,
    credentials: Credentials | None = None,
) -> AsyncIterator[Egress]:
    """Run an egress while the block runs.

    Args:
        paths: its folders, which are created.
        settings: used instead of the saved settings.
        resolver: resolves hosts for tunnels; None: the system's name servers.
        control: whether to open the control socket.
        grace_s: how long running requests may continue at the end.
        clock: seconds since the epoch.
        credentials: resolves the accounts' credentials; None: an empty store.
    """
    credentials = credentials or Credentials()
    for folder in (paths.folder, paths.spool, paths.sockets):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = settings or _kept(paths, clock()) or EgressSettings(host="")
    async with contextlib.AsyncExitStack() as stack:
        ledger = await UsageLedger.open(paths.ledger, clock=clock, secrets=credentials.secrets)
        stack.push_async_callback(ledger.close)
        gate = AdmissionControl(ledger, estop=paths.estop, enforce=enforce, clock=clock)
        stack.push_async_callback(gate.close)
        await gate.start(known)

        remarks = AuditThrottle(ledger.note)
        stack.callback(remarks.flush)
        note = remarks.attempt
        upstream = Upstream()
        proxy = Proxy(
            gate=gate,
            settings=known,
            spool=paths.spool,
            note=note,
            way=upstream,
            clock=clock,
            credentials=credentials,
        )
        interception = Interception(
            authority=CertificateAuthority(paths.authority, paths.trust),
            serve=proxy.serve,
            accounts=known.accounts,
            has_account=RegisteredAgent.has_account,
            note=note,
        )
        way_out = resolver or Resolver()
        stack.callback(way_out.close)
        tunnels = Tunnels(gate=gate, resolver=way_out, metered=interception, note=note, on_traffic=remarks.passed)
        listeners = Listeners(paths, proxy, tunnels)
        egress = Egress(paths, ledger, gate, proxy, listeners, tunnels, interception, clock)
        stack.push_async_callback(listeners.close_all)
        stack.push_async_callback(interception.close)
        stack.push_async_callback(proxy.close, grace_s)
        stack.push_async_callback(listeners.stop)
        egress.resume(known)
        for registration in list(ledger.agents.values()):
            try:
                await listeners.open(registration)
            except ListenerError as error:
                # The other agents are served anyway; the next registration of this one reports the error.
                _log.error("listener not opened", agent=registration.agent, error=str(error))
        looking = asyncio.create_task(_look(gate), name="emergency stop")
        stack.push_async_callback(_end, looking)
        telling = asyncio.create_task(_tell(remarks), name="remarks")
        stack.push_async_callback(_end, telling)
        if control:
            server = EgressControlServer(egress, paths.control, stop=egress.stop)
            await server.start()
            stack.push_async_callback(server.close)
        _log.info("egress ready", agents=len(ledger.agents), recovered=ledger.recovered)
        yield egress
    _log.info("egress ended")


async def _look(gate: AdmissionControl) -> None:
    while True:
        gate.look()
        await asyncio.sleep(LOOK_S)


async def _tell(remarks: AuditThrottle) -> None:
    while True:
        await asyncio.sleep(EVERY_S)
        remarks.flush()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _kept(paths: EgressPaths, now: float) -> EgressSettings | None:
    """Return the saved settings, or None if there are none or they cannot be read.

    If the clock was set back since, the remaining time of lifts is unknown. Then nothing is lifted until new settings
    arrive.
    """
    try:
        kept = EgressSettings.model_validate_json(paths.settings.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        _log.error("settings not readable", path=str(paths.settings), error=type(error).__name__)
        return None
    return kept if kept.told_at is None or kept.told_at <= now else kept.without_lifts()
