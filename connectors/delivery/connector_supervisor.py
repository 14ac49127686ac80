"""The life of one connector: started, watched, started again after a pause, or left down for a person to mend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal

import structlog

from connectors.contract.connector_protocol import Connector, NeedsPerson, NotReady
from connectors.contract.messages import Health
from connectors.delivery import inbox
from connectors.delivery.sender import OutboxSender
from connectors.delivery.settings import DeliverySettings
from core.errors import MusterError
from database.engine.store import Store

_log = structlog.get_logger(__name__)

_HEALTH_TIMEOUT: Final = 2.0


class Supervisor:
    """Keeps one connector going. Whatever it does, the others never notice."""

    def __init__(
        self,
        store: Store,
        name: str,
        connector: Connector,
        sender: OutboxSender,
        settings: DeliverySettings,
        *,
        clock: Callable[[], float],
        rng: Callable[[], float],
    ) -> None:
        self.connector = connector
        self.sender = sender
        self._store = store
        self._name = name
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._state: Literal["starting", "running", "ended", "pausing", "down", "stopped"] = "starting"
        self._trouble = ""
        self._failures = 0
        self._resume_at = 0.0

    def heard(self) -> None:
        """The chat system spoke through the connector."""
        self._failures = 0
        self.sender.heard()

    async def run(self) -> None:
        """Keep it going, until cancelled."""
        try:
            while True:
                await self._live()
                if self._state != "pausing":
                    await asyncio.Event().wait()  # it ended, or needs a person
                await asyncio.sleep(max(0.0, self._resume_at - self._clock()))
        finally:
            self._state = "stopped"
            await self._release()

    async def health(self) -> Health:
        """Return what is known of the connection, and what is being done about it."""
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT):
                health = await self.connector.health()
        except Exception as error:
            _log.warning("connector.health_broke", connector=self._name, error=str(error))
            health = Health(
                kind=self.connector.kind, reachable=None, authenticated=None, last_seen=None, detail="unknown"
            )
        match self._state:
            case "pausing":
                wait = max(0.0, self._resume_at - self._clock())
                return replace(health, reachable=False, detail=f"{self._trouble} Trying again in {wait:.0f} s.")
            case "down":
                return replace(health, reachable=health.reachable or False, detail=self._trouble)
            case "ended":
                return replace(health, detail="It ended; nothing more is read from it.")
            case "stopped":
                return replace(health, reachable=False, detail="Stopped.")
            case _:
                return health

    async def _live(self) -> None:
        """One life of the connector, from its start until it ends or fails."""
        began = self._clock()
        try:
            async with self._store.read() as tx:
                cursor = await inbox.cursor(tx, self._name)
            self._state = "running"
            _log.info("connector.starting", connector=self._name, cursor=cursor is not None)
            await self._start(cursor)
            self._state = "ended"  # what waits can still be said
            self.sender.set_open(True)
            _log.info("connector.ended", connector=self._name)
            return
        except NeedsPerson as error:
            self._state, self._trouble = "down", str(error)
            _log.error("connector.needs_person", connector=self._name, error=str(error))
        except Exception as error:
            self._pause(error, began)
        self.sender.set_open(False)
        await self._release()

    async def _start(self, cursor: str | None) -> None:
        """Run the connector until it ends by itself."""
        life = asyncio.create_task(self.connector.start(cursor), name=f"connector {self._name}")
        opening = asyncio.create_task(self._open(), name=f"opening {self._name}")
        try:
            await asyncio.wait({life})
        finally:
            life.cancel()
            opening.cancel()
            await asyncio.gather(life, opening, return_exceptions=True)
        if life.cancelled():
            raise RuntimeError("it cancelled itself")
        life.result()

    async def _open(self) -> None:
        """Let what waits be said once there is someone to say it to: before that, each would be tried for nothing."""
        try:
            await self.connector.connected()
        except Exception:
            _log.exception("connector.connected_broke", connector=self._name)
        self.sender.set_open(True)

    def _pause(self, error: Exception, began: float) -> None:
        if abs(self._clock() - began) > self._settings.restart_longest:
            self._failures = 0
        pause = min(self._settings.restart_longest, self._settings.restart_first * 2.0 ** min(self._failures, 30))
        pause *= 1.0 - 0.2 * self._rng()
        self._failures += 1
        self._state, self._resume_at = "pausing", self._clock() + pause
        if isinstance(error, MusterError):
            self._trouble = str(error)
        else:
            self._trouble = f"It failed unexpectedly: {type(error).__name__}: {error}."
        _log.warning(
            "connector.failed",
            connector=self._name,
            error=self._trouble,
            pause=pause,
            exc_info=None if isinstance(error, (NotReady, MusterError)) else error,
        )

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(self._settings.stop_timeout):
                await self.connector.stop()
        except Exception as error:
            _log.warning("connector.stop_broke", connector=self._name, error=f"{type(error).__name__}: {error}")
