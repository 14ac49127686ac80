"""That a job fails, and that it is well again, is told once each."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import Composer, MessagePlace
from bot.monitoring.job_alerts import JobAlertPoster
from connectors.contract.messages import Capabilities
from database import schema
from database.engine.store import Store
from database.queries.operations import watchdog_findings
from scheduler import job_alert_policy
from scheduler.jobs import JobRecord
from tests import waiting
from tests.crash.deaths import Subject, both, each

NOW = 1_000_000.0


async def tell(folder: Path) -> None:
    job_alert_policy.CALM_S = 0.0  # type: ignore[misc]
    store = await Store.open(f"sqlite:///{folder / 'register.db'}")

    async def room(tx: AsyncConnection) -> MessagePlace:
        return MessagePlace("memory", conversation="room")

    alarms = JobAlertPoster(
        store=store,
        channel=AgentChannel(
            speaker=Composer(folder),
            redaction=str,  # type: ignore[arg-type]
            capabilities=lambda _: Capabilities(),
            clock=lambda: NOW,
            time_of_day=str,
            prefix="!",
        ),
        room=room,
        wake_delivery=lambda: None,
    )
    running = asyncio.create_task(alarms.run())
    if not await _said(store, "succeeds again"):
        alarms.ended(JobRecord(name="sweep", last_error="boom"))
        await _until(store, "failed")
    alarms.ended(JobRecord(name="sweep"))
    await _until(store, "succeeds again")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await store.close()


async def once(folder: Path) -> None:
    store = await Store.open(f"sqlite:///{folder / 'register.db'}")
    for words in ("failed:", "succeeds again"):
        assert await _said(store, words) == 1, words
    async with store.read() as tx:
        assert [row.kind for row in await watchdog_findings.of_jobs(tx)] == [watchdog_findings.JOB_WELL]
    await store.close()


async def _said(store: Store, words: str) -> int:
    async with store.read() as tx:
        contents = (await tx.execute(select(schema.outbox.c.content))).scalars().all()
    return sum(words in str(content) for content in contents)


async def _until(store: Store, words: str) -> None:
    await waiting.until(lambda: _said(store, words))


JOBS = Subject(
    script=tell, invariant=once, walks=each(*(f"{place}:{passage}" for place in both("job.tell") for passage in (1, 2)))
)
