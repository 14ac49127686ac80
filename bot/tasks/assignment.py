"""Assignment of tasks to agents for the dispatcher: readiness of agents, handover, starts and announcements."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.auth.permission import OPERATOR
from bot.commands.context import Origin
from bot.commands.executor import Executor
from bot.commands.runs import RunOutcome, RunRequest
from bot.commands.syntax import written
from bot.egress_client.held_agents import who_is_held
from bot.messaging.fleet_port import AgentView
from bot.messaging.thread_owners import room_of
from bot.pacing.session_admission import SessionPurpose, start_for, told, tried_in_words
from bot.pacing.window_status import PaceSnapshot
from bot.tasks import run_now
from bot.tasks import text as task_words
from bot.tasks.service import IN_LINE
from bot.tasks.state_machine import has_task_done
from bot.tasks.step_services import TaskStepServices
from bot.tasks.threads import TaskThreads
from bot.text.errors import UserError
from budget.dispatch.next_task import TURN, DispatchAgent, Readiness, TaskWait
from budget.policy.model_downgrade import Downgrade, QueueStart, RefuseStart
from budget.windows.pace_admission import WindowState
from budget.windows.work_draw import WorkDraw
from core.errors import MusterError, RegisterError
from database.queries import tasks
from database.queries.agents import agent_messages, agents, session_accounts
from database.queries.agents.agents import AgentRow
from database.queries.agents.session_accounts import AccountLease
from database.queries.tasks import Task
from fleet.errors import FleetError
from fleet.launch.launch_plan import DEFAULT_ROLE
from fleet.roster.cache import LatestRoster
from fleet.roster.drift import ENDED
from scheduler.dispatch.agent_availability import keeps_agent
from scheduler.dispatch.dispatch_inputs import Able

log = structlog.get_logger(__name__)

#: Seconds for which the egress's list of held agents is cached.
_HELD_S = 2.0
#: Seconds after a request in which the command's own answer makes a further announcement unnecessary.
ANSWERED_S = 5.0
#: Identity that starts agents for tasks.
IDENTITY = "muster:dispatch"
#: Minimum change of a start time that is announced again: a share of the wait, and seconds.
_TOLD_SHARE, _TOLD_S = 0.25, 3600.0
#: Reasons for waiting that are announced where the task was requested. The others pass quickly; `tasks` shows them.
_TOLD = frozenset({"pace", "limit", "price", "nobody"})


@dataclass(slots=True)
class TaskAssignment:
    """Agent operations of the dispatcher (scheduler.dispatch.task_transitions.TaskAssigner)."""

    services: TaskStepServices
    executor: Executor
    roster: LatestRoster
    _leased: dict[str, tuple[str, str | None, str | None]] = field(default_factory=dict)
    """By agent: the launch id, the provider and the account of the last lookup."""
    _held: tuple[float, frozenset[str] | None] = (float("-inf"), frozenset())
    """Time and result of the last query of held agents; None: all of them."""

    # --- looking ------------------------------------------------------------------------------------------------

    async def able(self, live: Sequence[Task]) -> Sequence[Able]:
        """Return the existing agents, and those of the roster that can be started."""
        views: list[AgentView] = await self.services.agents.view()
        await self.roster.refresh()
        entries = {entry.name: entry for entry in self.roster.entries}
        async with self.services.store.read() as tx:
            leases: dict[str, list[AccountLease]] = {}
            for lease in await session_accounts.live(tx):
                leases.setdefault(lease.agent, []).append(lease)
            underway = await agent_messages.in_states(tx, ["pending", "journaled", "accepted"])
        writing = {message.agent for message in underway}
        held = await self._who_is_held()
        found = []
        for view in views:
            row = view.row
            own = [
                task
                for task in live
                if task.assigned == row.name
                and keeps_agent(task, self.services.clock(), self.services.settings.dispatch.unanswered)
            ]
            readiness = readiness_of(
                view, in_roster=row.name in entries, has_mail=row.name in writing, has_task=bool(own)
            )
            if readiness == "idle" and (held is None or row.name in held):
                readiness = "away"  # its turn would only fail
            heard = None if view.status is None else view.status.event_at
            provider, account = await self._account(row, leases.get(row.name, []))
            found.append(
                Able(
                    agent=DispatchAgent(
                        name=row.name,
                        role=row.role,
                        runtime=row.runtime,
                        readiness=readiness,
                        account=account,
                        free_since=heard or row.started_at or 0.0,
                        stopped_at=row.stopped_at,
                        holds=next((task.id for task in own if task.state == "waiting"), None),
                        has_purpose=row.purpose is not None,
                    ),
                    model=row.model,
                    provider=provider,
                    profiles=self._profiles(row.sandbox),
                )
            )
        known = {view.row.name for view in views}
        for name, entry in entries.items():
            if name not in known:
                agent = DispatchAgent(
                    name=name, role=entry.role or DEFAULT_ROLE, runtime=entry.runtime or "", readiness="startable"
                )
                found.append(Able(agent=agent, model=entry.model))
        return found

    async def _who_is_held(self) -> frozenset[str] | None:
        now = asyncio.get_running_loop().time()
        if now - self._held[0] > _HELD_S:
            self._held = (now, await who_is_held(self.services))
        return self._held[1]

    def _profiles(self, sandbox: str) -> Sequence[str]:
        try:
            lineage: Sequence[str] = self.services.planner.profile(sandbox).lineage
        except FleetError:
            return ()
        return lineage

    async def _account(self, row: AgentRow, leases: Sequence[AccountLease]) -> tuple[str | None, str | None]:
        """Return the provider and the account of the agent's model."""
        if len(leases) < 2:
            return (leases[0].provider, leases[0].account) if leases else (None, None)
        known = self._leased.get(row.name)
        if known is None or known[0] != row.launch_id:
            try:
                choices = await asyncio.to_thread(self.services.planner.choices_of, row)
            except MusterError:
                choices = {}
            provider = next(iter(choices), leases[0].provider)
            account = next((lease.account for lease in leases if lease.provider == provider), leases[0].account)
            known = (row.launch_id, provider, account)
            self._leased[row.name] = known
        return known[1], known[2]

    async def draw(self, row: AgentRow, snapshot: PaceSnapshot) -> Sequence[WindowState]:
        """Return the windows that the agent's work draws on."""
        async with self.services.store.read() as tx:
            own = [lease for lease in await session_accounts.live(tx) if lease.agent == row.name]
        provider, account = await self._account(row, own)
        draw = WorkDraw(
            agent=row.name,
            role=row.role,
            model=row.model,
            profiles=self._profiles(row.sandbox),
            provider=provider,
            account=account,
        )
        return snapshot.for_draw(draw)

    # --- giving -------------------------------------------------------------------------------------------------

    async def hand_over(self, tx: AsyncConnection, task: Task, agent: str) -> bool:
        row = await agents.get(tx, agent)
        if row is None:
            return False
        await run_now.withdraw(tx, self.services, task, "It begins.")
        is_turn = task.kind == TURN
        await self.services.agents.send(
            tx,
            row,
            task.text if is_turn else task_words.for_agent(task, tools=has_task_done(row.runtime)),
            message_id=str(task.message),
            by=task.operator,
            attachments=task.attachments,
            # Receipts are shown on a person's message; a task has messages of its own.
            connector=task.connector if is_turn else None,
            conversation=task.conversation if is_turn else None,
            event_id=task.event_id if is_turn else None,
            answer_in=task.answer_in if is_turn else None,
        )
        if not is_turn:
            given = task_words.given(task, self.services.redact)
            answered = self.services.clock() - task.created_at < ANSWERED_S
            await self.services.task_steps.tell(
                tx, task, f"given/{task.attempt}", given, also=row, in_thread_alone=answered
            )
            await TaskThreads(self.services).show(tx, task.id)
        return True

    def handed_over(self, agent: str) -> None:
        self.services.agents.bring_mail(agent)
        self.services.delivery.wake()
        self.services.pace.begun()

    async def start(self, task: Task, agent: str) -> TaskWait | None:
        """Start an agent for a task, with a smaller model if necessary. Return why it is not started, or None."""
        services = self.services
        if task.operator.startswith(task_words.AGENT):
            # Otherwise an agent could start one that it may not launch, or one without a sandbox.
            return TaskWait(task=task.id, why="nobody", text=f"{agent} does not run, and only people may start it.")
        work = SessionPurpose(
            kind=task.kind,
            urgency=task.urgency,  # type: ignore[arg-type]
            deadline=task.deadline,
            tokens=task.estimate,
        )
        try:
            opened = await start_for(services, agent, work)
        except RegisterError:
            raise
        except MusterError as error:
            return TaskWait(task=task.id, why="nobody", text=f"{agent} cannot be started: {error}")
        step = opened.step
        if isinstance(step, QueueStart | RefuseStart):
            at = step.at if isinstance(step, QueueStart) else None
            why = f"{step.why}{tried_in_words(step)}"
            leave = () if opened.held is None else opened.held.leave
            return TaskWait(task=task.id, why="pace", text=why, look_at=at, cost=opened.cost, leave=leave)
        arguments: dict[str, object] = {"name": agent}
        if isinstance(step, Downgrade):
            arguments |= {"runtime": step.rung.runtime, "model": step.rung.model}
        outcome: list[RunOutcome] = []
        said = told(services, opened)

        async def finish(tx: AsyncConnection, done: RunOutcome) -> None:
            outcome.append(done)
            row = await agents.get(tx, agent)
            if done.state == "done" and row is not None and isinstance(step, Downgrade) and said is not None:
                await services.task_steps.tell(tx, task, f"downgrade/{agent}/{task.attempt}", said, also=row)

        origin = services.clock()
        request = RunRequest(
            id=f"dispatch-{task.id}-{task.attempt}-{agent}-{origin * 1000:.0f}",
            name="launch",
            arguments=arguments,
            identity=IDENTITY,
            permission=OPERATOR,
            door="dispatch",
            origin=await self._origin(task),
        )
        try:
            await self.executor.run(request, finish=finish)
        except UserError as error:
            return TaskWait(task=task.id, why="nobody", text=f"{agent} cannot be started: {error}")
        services.delivery.wake()
        if not outcome or outcome[0].state != "done":
            why = written(outcome[0].text, services.command_prefix) if outcome else "it was not tried"
            return TaskWait(task=task.id, why="nobody", text=f"{agent} was not started: {why}")
        return None

    async def _origin(self, task: Task) -> Origin | None:
        """Return where the task was requested; an agent started for it gets its thread there if it has none."""
        if task.connector is None or task.conversation is None:
            return None
        async with self.services.store.read() as tx:
            room = await room_of(tx, task.connector, task.conversation)
        return Origin(connector=task.connector, conversation=room, parent=None, event_id="")

    # --- telling ------------------------------------------------------------------------------------------------

    async def refused(self, tx: AsyncConnection, task: Task, why: str) -> None:
        if task.attempt:
            # The use of earlier attempts is counted now, not only after the next start.
            self.services.task_steps.ending(task.id)
        text = f"⛔ Task {task_words.named(task, self.services.redact)} is refused: {why}"
        await self.services.task_steps.tell(tx, task, "refused", text)
        await TaskThreads(self.services).close(tx, task.id, text, elsewhere=(f"task/{task.id}/refused", text))

    async def waits(self, tx: AsyncConnection, task: Task, wait: TaskWait) -> None:
        if wait.why not in _TOLD or task.kind == TURN:
            return
        now = self.services.clock()
        last = await tasks.last_told(tx, task.id)
        if last is not None and not worth_telling(last.decision or {}, wait, last.at, now):
            return
        answered = task.why == IN_LINE and now - task.created_at < ANSWERED_S
        redact, zone = self.services.redact, self.services.settings.timezone
        text = None if answered else task_words.waiting(task, redact, wait, now, zone)
        await self.services.task_steps.told_wait(tx, task, text, wait)

    def told(self) -> None:
        self.services.delivery.wake()


def readiness_of(view: AgentView, *, in_roster: bool, has_mail: bool, has_task: bool) -> Readiness:
    """Return how ready an agent is for work."""
    row, state = view.row, view.liveness.state
    if view.elsewhere or row.wanted == "frozen":
        return "away"
    if row.wanted == "stopped":
        if row.state not in ENDED:
            return "busy"  # it is about to stop
        return "startable" if in_roster else "down"
    if has_task:
        return "busy"
    if state == "starting" or (state in ENDED and view.tries_at is not None):
        return "starting"
    if state in ENDED or state in ("unknown", "frozen"):
        return "down"
    if state == "idle" and not has_mail and not view.queued:
        return "idle"
    return "busy"


def worth_telling(last: object, wait: TaskWait, told_at: float, now: float) -> bool:
    """Return whether a task's wait has changed enough to announce it again."""
    before = last if isinstance(last, dict) else {}
    if before.get("why") != wait.why:
        # Reasons that alternate are not announced each time.
        return now - told_at > _TOLD_S
    was = before.get("look_at")
    if (was is None) != (wait.look_at is None):
        return now - told_at > _TOLD_S
    if was is None or wait.look_at is None:
        return False
    return abs(float(was) - wait.look_at) > max(_TOLD_S, _TOLD_SHARE * abs(wait.look_at - now))
