"""Settlement of ended tasks: counts their use once the turn is over and the ledger is copied, then reports it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Literal

import structlog

from bot.tasks.step_services import TaskStepServices
from bot.text.errors import UserError
from core.async_waits import set_within
from core.crash_points import declare
from core.errors import MusterError, RegisterError
from database.queries import tasks
from database.queries.spending import usage_ledger
from database.queries.spending.usage_ledger import Copied
from database.queries.task_states import ENDED
from database.queries.tasks import Task
from fleet.errors import FleetError

log = structlog.get_logger(__name__)

SETTLE = declare("task.settle")

#: Seconds between two checks while tasks are left.
LOOK_AGAIN_S = 0.5
#: Tasks that ended this many seconds before a start are no longer reported.
LOOK_BACK_S = 86_400.0
#: Seconds after which the use copied so far is reported if the ledger cannot be read.
PATIENCE_S = 60.0


@dataclass(slots=True)
class TaskSettlement:
    """Settlement of one host's tasks."""

    services: TaskStepServices
    _left: dict[str, float] = field(default_factory=dict)
    """Tasks that are about to end or have ended, with the monotonic time of the notice."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def ended(self, task: str) -> None:
        """Note that a task is about to end; the next check sees whether it does."""
        self._left[task] = time.monotonic()
        self._news.set()

    def wake(self) -> None:
        """Check again, because the turn of an ended task may be over."""
        if self._left:
            self._news.set()

    async def run(self) -> None:
        """Settle tasks until canceled."""
        began = False
        while True:
            self._news.clear()
            try:
                if not began:
                    await self._begin()
                    began = True
                await self.look()
            except RegisterError as error:
                log.info("settling.stands_aside", reason=str(error))
                await self.services.store.rest(1.0)
            except Exception:
                log.exception("settling.failed")
                await asyncio.sleep(LOOK_AGAIN_S)
            await set_within(self._news, LOOK_AGAIN_S if self._left or not began else None)

    async def _begin(self) -> None:
        async with self.services.store.read() as tx:
            found = await tasks.unsettled(tx, since=self.services.clock() - LOOK_BACK_S)
        self._left |= {task.id: time.monotonic() for task in found}

    async def look(self) -> None:
        """Settle every task that can be settled.

        Raises:
            RegisterError: the register cannot be used.
        """
        for task_id in sorted(self._left):
            async with self.services.store.read() as tx:
                task = await tasks.get(tx, task_id)
                over = task is not None and await self.services.task_steps.is_over(tx, task)
                runs_on = None if task is None or over else await self.services.task_steps.runs_on(tx, task)
            if task is None or task.state not in ENDED or task.attempt == 0 or task.actual_tokens is not None:
                if task is None or task.state in ENDED or not self._may_end(task_id):
                    self._left.pop(task_id, None)
                continue
            if runs_on is not None:
                # The task was canceled just as its turn began.
                with contextlib.suppress(UserError, FleetError):
                    await self.services.agents.cancel(*runs_on)
            counted = await self._is_counted(task) if over else "not yet"
            if counted != "not yet":
                async with self.services.store.write(SETTLE) as tx:
                    await self.services.task_steps.settle(tx, task, whole=counted == "all")
                self._left.pop(task_id, None)
                self.services.delivery.wake()
                self.services.dispatcher.learned_more()
                self.services.dispatcher.wake()

    def _may_end(self, task: str) -> bool:
        """Return whether the transaction that ends the task may still be open."""
        # From the queue, too: what was tried before ends there where it is cancelled or refused.
        return time.monotonic() - self._left.get(task, 0.0) < PATIENCE_S

    async def _is_counted(self, task: Task) -> Literal["all", "not yet", "unknown"]:
        return await is_counted(self.services, task.ended_at or 0.0)


async def is_counted(services: TaskStepServices, ended_at: float) -> Literal["all", "not yet", "unknown"]:
    """Return whether the register has all use up to now; unknown: waiting any longer is useless.

    Args:
        services: the services to use.
        ended_at: when the work ended; it is waited for `PATIENCE_S` from then on.
    """
    egress_client = services.egress_client
    if egress_client is None or egress_client.client is None:
        return "unknown"
    try:
        anywhere = await egress_client.copier.pages(Copied(ledger=""), limit=1, wait_s=0.0)
        async with services.store.read() as tx:
            at = await usage_ledger.copied(tx, anywhere.ledger)
        page = await egress_client.copier.pages(at, limit=1, wait_s=0.0)
    except RegisterError:
        raise
    except (MusterError, OSError, TimeoutError):
        page = None
    if page is not None and page.ledger == at.ledger and not page.entries:
        return "all"
    return "unknown" if services.clock() - ended_at > PATIENCE_S else "not yet"
