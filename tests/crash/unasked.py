"""What Muster does to agents without anybody's word is done once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.journal.effects import JournalEffects
from bot.approvals.questions import Questions
from bot.config.limits import Budgets
from bot.config.pacing import Pacing
from bot.messaging.composer import Composer
from bot.pacing.auto_resume import AutoResume
from bot.pacing.runaway_guard import RunawayGuard
from bot.pacing.window_status import PaceSnapshot
from budget.windows.even_spread_line import PacePolicy
from connectors.memory import ALL_CAPABILITIES
from core.crash_points import declare
from core.redaction import SecretMasker
from database.engine.store import Store
from database.queries.agents import agent_messages, agents, auto_resume, last_results
from database.queries.agents.agent_messages import AgentMessage
from database.queries.agents.agents import AgentRow
from database.queries.agents.auto_resume import Continuation
from database.queries.chat import questions
from database.queries.spending import usage_ledger
from database.schema import outbox
from fleet.roster.cache import LatestRoster
from tests.crash.deaths import Subject, both
from tests.database.queries.rows import row as ledger_row

STEP = declare("tests.unasked")
NOON = 1_796_040_000.0

ROW = AgentRow(
    name="coder0", role="coder", runtime="sim", model=None, sandbox="none", workspace="/w", wanted="running",
    at_once=False, keep_session=True, state="idle", detail=None, launch_id="l0", launched_by="memory:@ana",
    connector="memory", room="room", thread_key="th/l0", started_at=NOON - 9_000, stopped_at=None,
)  # fmt: skip


def message(id: str, at: float, state: str = "pending") -> AgentMessage:
    return AgentMessage(
        id=id, agent="coder0", mode="queue", text="x", attachments=(), sender="memory:@ana", connector=None,
        conversation=None, event_id=None, answer_in=None, state=state, turn=None, detail=None, created_at=at,
        updated_at=at, give_up_at=at + 9e9,
    )  # fmt: skip


async def desk(folder: Path, now: float) -> Any:
    """As much of a running Muster as what is tested needs, without agent hosts and without an egress."""
    store = await Store.open(f"sqlite:///{folder}/register.db")
    speaker = Composer(folder / "files")
    journal_effects = JournalEffects(
        speaker, SecretMasker(), lambda _: ALL_CAPABILITIES, lambda: now, lambda at: f"{at:.0f}", "!"
    )

    async def send(tx: AsyncConnection, row: AgentRow, text: str, *, message_id: str, by: str) -> None:
        del row, text, by
        await agent_messages.add(tx, message(message_id, now))

    agents_ = SimpleNamespace(
        journal_effects=journal_effects, send=send,
        in_turn=lambda _: False,
        look_again=lambda _: None,
        bring_mail=lambda _: None,
        is_ours=lambda _: True,
        desired_states=None,
    )  # fmt: skip

    async def paced() -> PaceSnapshot:
        return PaceSnapshot(now=now, policy=PacePolicy())

    pacing = Pacing.model_validate({"runaway": {"tokens": "100k"}, "stagger": "1s"})
    services = SimpleNamespace(
        store=store, clock=lambda: now, redact=str, command_prefix="!", capabilities=lambda _: ALL_CAPABILITIES,
        agents=agents_, delivery=SimpleNamespace(wake=lambda: None), egress_client=None,
        roster=LatestRoster(Path("there is none")), pace=SimpleNamespace(snapshot=paced),
        planner=SimpleNamespace(profile=lambda _: SimpleNamespace(lineage=("none",))),
        settings=SimpleNamespace(pacing=pacing, timezone=ZoneInfo("UTC"), budgets=Budgets(), accounts={}),
    )  # fmt: skip
    known: Any = services
    known.questions = Questions(known)
    return known


async def notes(tx: AsyncConnection, begins: str) -> int:
    query = select(func.count()).select_from(outbox).where(outbox.c.key.startswith(begins), outbox.c.target.is_(None))
    return int(await tx.scalar(query) or 0)


async def go_on(folder: Path) -> None:
    services = await desk(folder, NOON)
    store = services.store
    async with store.write(STEP) as tx:
        await agents.add(tx, ROW)
        await agent_messages.add(tx, message("m0", NOON - 10, "failed"))
        stop = Continuation(
            id="c0", agent="coder0", launch_id="l0", scope="agent:coder0", stopped_at=NOON - 10, resume_at=None,
            state="waiting",
        )  # fmt: skip
        await auto_resume.add(tx, stop)
    await AutoResume(services).look()
    await store.close()
    services = await desk(folder, NOON + 700)
    await AutoResume(services).look()
    await services.store.close()


async def told_once(folder: Path) -> None:
    services = await desk(folder, NOON)
    async with services.store.read() as tx:
        assert len(await agent_messages.in_states(tx, ["pending"])) == 1
        assert await notes(tx, "go-on/c0") == 2
        assert await auto_resume.waiting(tx) == []
    await services.store.close()


async def pause(folder: Path) -> None:
    """Ask about a runaway, and let it go."""
    services = await desk(folder, NOON)
    store = services.store
    async with store.write(STEP) as tx:
        await agents.add(tx, ROW)
        await last_results.note(tx, "coder0", "launch", NOON - 9_000)
        await usage_ledger.add(tx, [ledger_row(1, agent="coder0", ended_at=NOON - 60, input_tokens=900_000)])
    breaker = RunawayGuard(services)
    await breaker.look()
    async with store.write(STEP) as tx:
        for question in await questions.pending(tx):
            await services.questions.answer(tx, question, "go", by="memory:@ana", through=None)
    await breaker.look()
    await store.close()


async def asked_once(folder: Path) -> None:
    services = await desk(folder, NOON)
    async with services.store.read() as tx:
        assert len(await agent_messages.in_states(tx, ["pending"])) == 1
        assert len(await questions.answered(tx, kind="runaway", since=0)) == 1
        assert await questions.pending(tx) == []
    await services.store.close()


GONE_ON = Subject(script=go_on, invariant=told_once, walks=[both("continuing.waits"), both("continuing.goes_on")])
RUNAWAY = Subject(script=pause, invariant=asked_once, walks=[both("runaway.paused"), both("runaway.followed")])
