"""What dispatches tasks, made and run with the orchestrator."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from bot.auth.permission import ADMIN
from bot.tasks import run_now
from bot.tasks.assignment import Handing
from bot.tasks.settlement import Settling
from bot.tasks.state_machine import QUESTION, TaskSteps
from scheduler.dispatch.dispatch_loop import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.commands.executor import Executor
    from bot.reports.services import ReportServices
    from database.queries.chat.questions import Question
    from fleet.roster.cache import LatestRoster


def steps(services: ReportServices) -> TaskSteps:
    """Return what follows for tasks from how far their messages have come; needed before agents are kept."""
    services.task_steps = made = TaskSteps(services)
    return made


def install(services: ReportServices, executor: Executor, roster: LatestRoster) -> None:
    """Make the dispatcher."""
    settling = Settling(services)
    services.task_steps.ending = settling.ended
    services.settling = settling
    services.assignment = Handing(services, executor, roster)
    services.dispatcher = Dispatcher(
        store=services.store,
        clock=services.clock,
        hands=services.assignment,
        snapshot=services.pace.snapshot,
        limits=lambda: services.settings.dispatch.limits(services.settings.accounts),
        policy=lambda: services.settings.dispatch.policy(),
        unanswered_s=lambda: services.settings.dispatch.unanswered,
    )
    services.pace.on_change(services.dispatcher.opened)
    services.questions.on(QUESTION, services.task_steps.answered, services.task_steps.after_answer)

    async def begun(question: Question, word: str) -> None:
        del question
        if word == run_now.NOW:
            await run_now.begun(services)
        else:
            services.dispatcher.wake()

    needs = {run_now.NOW: ADMIN}
    services.questions.on(run_now.KIND, partial(_taken, services), begun, needs=needs)


async def _taken(services: ReportServices, tx: AsyncConnection, question: Question, word: str, *, by: str) -> str:
    return await run_now.take(tx, services, question, word, by=by)


def heard(services: ReportServices) -> None:
    """An agent's journal was told on, or its host said how it is: a task may be over, or an agent free."""
    services.settling.wake()
    services.dispatcher.wake()


def publishing(
    services: ReportServices, publish: Callable[[Mapping[str, Any]], None]
) -> Callable[[Mapping[str, Any]], None]:
    """`publish`, with which the dispatcher hears how agents are."""

    def published(event: Mapping[str, Any]) -> None:
        publish(event)
        if event.get("type") == "status":
            heard(services)

    return published


async def run(services: ReportServices) -> None:
    """Dispatch and settle until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(services.dispatcher.run(), name="dispatch tasks")
        group.create_task(services.settling.run(), name="settle tasks")
