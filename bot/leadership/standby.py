"""Standby orchestrators: a standby waits until the leader is gone, and reports meanwhile who leads.

Standbys need a register on a server. The leader may be of the same installation or of another one, on this machine or
elsewhere; each installation has at most one standby. A leader of the same installation is alive if it holds the
installation's lock. If it holds the lock but its lease has expired, it is stopped or hangs. The standby then kills it,
because two orchestrators must never manage the same agents.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import structlog

from bot.config.database import open_register
from bot.config.instance_lock import Holder, holder, only_one
from bot.config.loader import Settings
from bot.config.paths import Paths
from bot.leadership import lease as tenure
from bot.leadership import standby_registry
from bot.text import markdown
from core.async_waits import set_within
from core.errors import RegisterAway, RegisterError
from database.engine.fencing import elapsed
from database.engine.store import Store
from database.queries.operations import leases
from database.queries.operations.leases import Lease

log = structlog.get_logger(__name__)

#: Seconds between checks whether this process may lead.
LOOK = 1.0

Move = Literal["wait", "lead", "end"]


def move(lease: Lease | None, now: float, *, ours: bool, locked: bool, watched: bool = True) -> Move:
    """Decide whether to wait, to lead, or to end the silent process of this installation.

    Args:
        lease: the lease of the current or last leader.
        now: the time by which the lease expires.
        ours: whether the lease belongs to this installation.
        locked: whether a process of this installation holds its lock.
        watched: whether the register was reachable for long enough that a live leader would have renewed its lease.
            After an outage of the server every lease has expired, and the leader must be able to renew its own.
    """
    let_go = lease is None or lease.until == tenure.LET_GO
    vacant = let_go or (watched and lease is not None and lease.until <= now)
    if locked:
        # A process that just released its lease is about to release the lock too.
        silent = ours and vacant and not let_go
        return "end" if silent else "wait"
    return "lead" if vacant or ours else "wait"


@dataclass(kw_only=True, slots=True)
class Standby:
    paths: Paths
    settings: Settings
    environ: Mapping[str, str]
    say: Callable[[str], None]
    """Reports to the person at the terminal, or to the log."""
    steady: Callable[[], float] = elapsed
    """A monotonic clock in seconds, unaffected by changes of the system time."""
    _watched_from: float = 0.0
    """Since when every check has reached the register."""
    _blind: bool = False
    """Whether the last check did not reach the register."""

    async def wait(self, stop: asyncio.Event) -> bool:
        """Wait until this process may try to lead. Return False if it was asked to stop.

        Raises:
            AlreadyRunning: another process of this installation is the standby.
            RegisterError: the register cannot be used, for a reason other than being away.
        """
        self.paths.prepare()
        store = await self._open(stop)
        if store is None:
            return False
        self._watched_from = self.steady()
        try:
            with only_one(self.paths.standby_lock, note=await self._leader(store)):
                self.say(f"Muster stands by here (process {os.getpid()}). {await self._leader(store)}")
                log.info("standby.waits")
                # A separate task, because a slow write to the server must not delay the checks.
                noting = asyncio.create_task(standby_registry.keep(store, self.paths.state))
                try:
                    while not stop.is_set():
                        if await self._may_lead(store):
                            log.info("standby.leads")
                            return True
                        await _rest(stop)
                    return False
                finally:
                    noting.cancel()
                    await asyncio.wait([noting], timeout=LOOK)
        finally:
            await store.close()

    async def _open(self, stop: asyncio.Event) -> Store | None:
        """Return the register once it is reachable, or None if this process was asked to stop."""
        while not stop.is_set():
            try:
                return await open_register(self.settings, self.environ)
            except RegisterAway as error:
                log.info("standby.register_away", reason=str(error))
            await _rest(stop)
        return None

    async def _leader(self, store: Store) -> str:
        with contextlib.suppress(RegisterError):
            async with store.read() as tx:
                lease = await leases.find(tx, tenure.NAME)
            if lease is not None:
                return f"It takes over when {markdown.one_line(lease.owner, 300)} ends or falls silent."
        return "It takes over when the one that leads ends or is silent."

    async def _may_lead(self, store: Store) -> bool:
        try:
            async with store.read() as tx:
                lease = await leases.find(tx, tenure.NAME)
                now = await tenure.time_of(tx, store, lambda: 0.0)
        except RegisterError as error:
            if not self._blind:
                log.warning("standby.sees_nothing", reason=str(error))
            self._blind, self._watched_from = True, self.steady()
            return False
        self._blind = False
        watched = self.steady() - self._watched_from >= tenure.SHARED_DURATION
        ours = lease is not None and lease.owner.endswith(tenure.whereabouts(self.paths.state))
        locked = holder(self.paths.lock)
        match move(lease, now, ours=ours, locked=locked is not None, watched=watched):
            case "lead":
                return True
            case "end":
                assert locked is not None
                self._end(locked)
        return False

    def _end(self, silent: Holder) -> None:
        if silent.pid <= 0 or silent.host != socket.gethostname():
            return
        log.warning("standby.ends_silent_leader", pid=silent.pid)
        self.say(f"Process {silent.pid}, which led here, has been silent for too long. It is ended.")
        with contextlib.suppress(ProcessLookupError):
            os.kill(silent.pid, signal.SIGKILL)


async def _rest(stop: asyncio.Event) -> None:
    await set_within(stop, LOOK)
