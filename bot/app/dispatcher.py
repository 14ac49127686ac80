"""The task dispatcher of the orchestrator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.auth.permission import ADMIN
from bot.commands.executor import Executor
from bot.reports.services import ReportServices
from bot.tasks import run_now
from bot.tasks.assignment import TaskAssignment
from bot.tasks.settlement import TaskSettlement
from bot.tasks.state_machine import QUESTION, TaskSteps
from database.queries.chat.questions import Question
from fleet.roster.cache import LatestRoster
from scheduler.dispatch.dispatch_loop import Dispatcher


def steps(services: ReportServices) -> TaskSteps:
    """Create the handler of message progress for tasks; it is needed before the agents' supervisors start."""
    services.task_steps = made = TaskSteps(services)
    return made


def install(services: ReportServices, executor: Executor, roster: LatestRoster) -> None:
    """Create the dispatcher and connect it to the services that it uses."""
    settling = TaskSettlement(services)
    services.task_steps.ending = settling.ended
    services.settling = settling
    services.assignment = TaskAssignment(services, executor, roster)
    services.dispatcher = Dispatcher(
        store=services.store,
        clock=services.clock,
        assigner=services.assignment,
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
    return await run_now.take(tx, services, question, word, by=by, cancel=services.task_steps.cancel)


def heard(services: ReportServices) -> None:
    """Wake the dispatcher after news of an agent: a task may have ended, or an agent may be free."""
    services.settling.wake()
    services.dispatcher.wake()


def publishing(
    services: ReportServices, publish: Callable[[Mapping[str, Any]], None]
) -> Callable[[Mapping[str, Any]], None]:
    """Return a `publish` that also informs the dispatcher of agents' status."""

    def published(event: Mapping[str, Any]) -> None:
        publish(event)
        if event.get("type") == "status":
            heard(services)

    return published


async def run(services: ReportServices) -> None:
    """Dispatch and settle tasks until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(services.dispatcher.run(), name="dispatch tasks")
        group.create_task(services.settling.run(), name="settle tasks")
