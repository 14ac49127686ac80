"""Writing down what must be written down: again and again, until the register takes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from core.crash_points import Step
from core.errors import RegisterError
from database.engine.store import Store

#: Seconds between two attempts, at first and at most.
FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0

T = TypeVar("T")

_log = structlog.get_logger(__name__)


async def persist(store: Store, step: Step, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Do `work` in one transaction, and return its result.

    While the register is full or away, wait and do it again; nothing is half done.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            return await store.transact(step, work)
        except RegisterError as error:
            _log.error("register.refused", step=step, error=str(error), pause=pause)
        await store.rest(pause)
        pause = min(_LONGEST_PAUSE, pause * 2)
