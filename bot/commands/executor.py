"""Execution of a command from the request to the answer, exactly once despite crashes.

The id of a run is derived from its request (a chat event, a client's key). The run is recorded before its command acts.
Its end, its answer and its audit entry are one transaction. By `finish`, an interface adds its own changes to this
transaction (the reply in the outbox, the inbox row that is done). A run that a crash interrupted resumes under its id
when the same request is repeated, which interfaces ensure.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.auth.permission import Permission
from bot.commands.checkpoints import RecordedSteps
from bot.commands.context import Context
from bot.commands.outcomes import CommandOutcomes, Finish, audited
from bot.commands.parser import with_usage
from bot.commands.registry import Checked, Command, Reply
from bot.commands.runs import (
    CONFIRM_FIRST,
    RunOutcome,
    RunRequest,
    apology,
    check_same,
    checked,
    code_of,
    late,
    new_run,
    outcome_of,
    question,
    refusal,
    request_of,
    unknown,
)
from bot.commands.services import CommandServices
from bot.commands.syntax import command_line, from_shell, written
from bot.text.errors import NotPermitted, UsageError, UserError
from core.crash_points import declare
from core.errors import MusterError, RegisterAway, RegisterError, RegisterFenced, RegisterUnusable
from database.queries.operations import command_runs
from database.queries.operations.command_runs import ENDED, CommandRun

ACCEPT = declare("command.accept")
CONFIRM = declare("command.confirm")
FINISH = declare("command.finish")

__all__ = ["Executor", "Finish", "Progress", "RunOutcome", "RunRequest"]

_log = structlog.get_logger("commands")


Progress: TypeAlias = "Callable[[str], Awaitable[None]]"


async def _owe_nothing(tx: AsyncConnection, outcome: RunOutcome) -> None:
    """Change nothing: the `finish` of an interface without a state of its own."""


async def _tell_nobody(text: str) -> None:
    """Discard the text: the `progress` of an interface that shows none."""


class Executor:
    """Executor of commands, one per process. It finishes a run even if the requesting interface is gone."""

    def __init__(self, services: CommandServices) -> None:
        self._services = services
        self._endings = CommandOutcomes(services)
        self._tasks: dict[str, tuple[RunRequest, asyncio.Task[RunOutcome]]] = {}

    async def run(
        self, request: RunRequest, *, finish: Finish = _owe_nothing, progress: Progress = _tell_nobody
    ) -> RunOutcome:
        """Run a command and return its outcome. A known id returns the outcome of its earlier run.

        Raises:
            RunConflict: the id belongs to another request.
            RegisterError: the register could not be written; the run continues when the request is repeated.
        """
        return await self._joined(request, self._run, finish, progress)

    async def refuse(
        self, request: RunRequest, sentence: str, *, reason: str = "usage", finish: Finish = _owe_nothing
    ) -> RunOutcome:
        """Record once a request that never became a run, because of a syntax error or an unknown command."""
        async with self._services.store.write(ACCEPT) as tx:
            known = await command_runs.get(tx, request.id)
            if known is not None and known.state == "running":
                # Another version of Muster began it, and parsed the request differently.
                return await self._endings.end(tx, known, "failed", Reply(sentence), finish, reason)
            if known is not None:
                outcome = outcome_of(known)
                await finish(tx, outcome)
                return outcome
            return await self._endings.refused(tx, request, Reply(sentence), reason, finish)

    async def confirm(
        self,
        run_id: str,
        identity: str,
        *,
        groups: Sequence[str] = (),
        finish: Finish = _owe_nothing,
        progress: Progress = _tell_nobody,
    ) -> RunOutcome:
        """Run a command that waited for the confirmation of this person. A repeated confirmation changes nothing.

        The person's permission at the time of the confirmation counts, including the `groups` at that time.

        Raises:
            NothingToConfirm: no run with this id ever waited.
            NotPermitted: it waits for another person.
        """
        async with self._services.store.read() as tx:
            run = await command_runs.get(tx, run_id)
        authority = await self._services.operators.authority(identity, groups)
        request = request_of(checked(run, identity), authority.permission, authority.through)
        return await self._joined(request, self._confirm, finish, progress)

    async def decline(self, run_id: str, identity: str, *, finish: Finish = _owe_nothing) -> RunOutcome:
        """Cancel a command that waits for a confirmation.

        Raises:
            NothingToConfirm: no run with this id ever waited.
            NotPermitted: it waits for another person.
            UserError: it is too late, because the command is running.
        """
        async with self._services.store.write(CONFIRM) as tx:
            run = checked(await command_runs.get(tx, run_id), identity)
            if run.state == "running":
                raise UserError(f"{command_line(run.name)} runs already and cannot be taken back.", code="run.begun")
            if run.state != "confirming":
                outcome = outcome_of(run)
                await finish(tx, outcome)
                return outcome
            return await self._endings.end(
                tx, run, "refused", Reply(f"{command_line(run.name)} was taken back."), finish
            )

    async def waiting(self, identity: str, conversation: str | None = None) -> list[CommandRun]:
        """Return the runs that wait for this person's confirmation (in this conversation), the oldest first."""
        now = self._services.clock()
        async with self._services.store.read() as tx:
            runs = await command_runs.in_states(tx, ("confirming",))
        return [
            run
            for run in runs
            if run.identity == identity
            and (conversation is None or run.conversation == conversation)
            and (run.confirm_until or 0) > now
        ]

    async def lapse(self, *, finish: Finish = _owe_nothing) -> list[RunOutcome]:
        """End the runs that were not confirmed in time. A job calls this every minute or so."""
        now = self._services.clock()
        async with self._services.store.read() as tx:
            runs = await command_runs.in_states(tx, ("confirming",))
        lapsed = []
        for run in runs:
            if (run.confirm_until or 0) > now or run.id in self._tasks:
                continue
            async with self._services.store.write(CONFIRM) as tx:
                now_found = await command_runs.get(tx, run.id)
                if now_found is not None and now_found.state == "confirming":
                    lapsed.append(await self._endings.end(tx, now_found, "lapsed", late(run), finish))
        return lapsed

    async def unfinished(self) -> list[CommandRun]:
        """Return the runs that an earlier process began and did not end, the oldest first."""
        async with self._services.store.read() as tx:
            runs = await command_runs.in_states(tx, ("running",))
        return [run for run in runs if run.id not in self._tasks]

    async def resume(self) -> list[CommandRun]:
        """Resume the runs of an earlier process at the start.

        Runs from chat are returned instead, because the inbox still holds their requests and resumes them.
        """
        of_chat = []
        for run in await self.unfinished():
            if run.door == "chat":
                of_chat.append(run)
            else:
                request = request_of(run, Permission.named(run.permission), run.through)
                self._start(request, self._run, _owe_nothing, _tell_nobody)
        return of_chat

    async def stop(self) -> None:
        """Interrupt all runs; they resume after the next start."""
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- one run -----------------------------------------------------------------------------------------------

    async def _joined(self, request: RunRequest, act: _Act, finish: Finish, progress: Progress) -> RunOutcome:
        underway = self._tasks.get(request.id)
        if underway is None:
            return await asyncio.shield(self._start(request, act, finish, progress))
        first, task = underway
        check_same(first, request, self._endings.kept)
        outcome = await asyncio.shield(task)
        async with self._services.store.write(FINISH) as tx:
            await finish(tx, outcome)
        return outcome

    def _start(self, request: RunRequest, act: _Act, finish: Finish, progress: Progress) -> asyncio.Task[RunOutcome]:
        task = asyncio.create_task(act(request, finish, progress), name=f"command {request.name} {request.id}")
        self._tasks[request.id] = request, task
        task.add_done_callback(lambda done: self._ended(request, done))
        return task

    def _ended(self, request: RunRequest, task: asyncio.Task[RunOutcome]) -> None:
        self._tasks.pop(request.id, None)
        # The requester may be gone, and an error that nobody retrieves must still be logged.
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, UserError):
            _log.error("command.not_ended", command=request.name, run=request.id, error=str(error))

    async def _run(self, request: RunRequest, finish: Finish, progress: Progress) -> RunOutcome:
        services = self._services
        command = services.table.get(request.name)
        refused = refusal(command, request)
        if command is not None and not command.effects and refused is None:
            # A repetition is harmless without effects, so only the end is recorded.
            return await self._perform(request, None, finish, progress)
        asks = command is not None and command.asks(request.arguments) and not request.confirmed
        findings: Checked | None = None
        with _away(_NOT_BEGUN, request.name):
            if command is not None and asks and (refused is None or refused[1] == CONFIRM_FIRST):
                impossible, findings = await self._looked_at(command, request, progress)
                refused = impossible or refused
            if findings is not None and refused is None:
                request = replace(request, arguments={**request.arguments, **findings.arguments})
            async with services.store.write(ACCEPT) as tx:
                known = await command_runs.get(tx, request.id)
                if known is None:
                    if refused is not None:
                        sentence, reason, code = refused
                        reply = Reply(sentence) if findings is None else _to_be_confirmed(sentence, findings)
                        return await self._endings.refused(tx, request, reply, reason, finish, code=code)
                    waits = asks
                    run = new_run(request, "confirming" if waits else "running", services.clock())
                    await command_runs.add(tx, run)
                    if command is not None and waits:
                        return await self._ask(tx, run, command, finish, "" if findings is None else findings.note)
        if known is not None:
            check_same(known, request, self._endings.kept)
            run = known
            if known.state != "running":
                outcome = outcome_of(known)
                async with services.store.write(FINISH) as tx:
                    await finish(tx, outcome)
                return outcome
        with _away(_GOES_ON, run.name):
            return await self._perform(request, run, finish, progress, taken_up=known is not None)

    async def _looked_at(
        self, command: Command, request: RunRequest, progress: Progress
    ) -> tuple[tuple[str, str | None, str | None] | None, Checked | None]:
        """Return why a command that needs a confirmation would fail anyway, or what to know before it."""
        if command.check is None:
            return None, None
        try:
            bound = command.bind(request.arguments)
            if not command.informs:
                return None, await command.check(self._services, bound)
            prefix = self._endings.prefix(request.door)
            say = RecordedSteps(self._services, request.id, progress, prefix=prefix).progress
            return None, await command.check(self._services, bound, say)
        except UserError as error:
            return (from_shell(str(error), self._services.table), None, error.code), None

    async def _confirm(self, request: RunRequest, finish: Finish, progress: Progress) -> RunOutcome:
        services = self._services
        async with services.store.write(CONFIRM) as tx:
            run = checked(await command_runs.get(tx, request.id), request.identity)
            if run.state in ENDED:
                outcome = outcome_of(run)
                await finish(tx, outcome)
                return outcome
            if run.state == "confirming":
                if (run.confirm_until or 0) <= services.clock():
                    return await self._endings.end(tx, run, "lapsed", late(run), finish)
                run = replace(run, through=request.through)
                refused = refusal(services.table.get(run.name), request)
                if refused is not None:
                    return await self._endings.end(tx, run, "refused", Reply(refused[0]), finish, refused[1])
                await command_runs.change(tx, run.id, only=("confirming",), state="running", through=run.through)
        with _away(_GOES_ON, run.name):
            return await self._perform(request, run, finish, progress, taken_up=run.state == "running")

    async def _perform(
        self, request: RunRequest, run: CommandRun | None, finish: Finish, progress: Progress, *, taken_up: bool = False
    ) -> RunOutcome:
        """Run the command and record its end; `run` is None if its beginning was not recorded."""
        services = self._services
        began = services.clock()
        command = services.table.get(request.name)
        reason, code = None, None
        if command is None:
            # Another version of Muster began it.
            state, reply, reason = "failed", Reply(unknown(request.name)), "unknown"
        else:
            context = Context(
                run_id=request.id,
                identity=request.identity,
                permission=request.permission,
                through=request.through,
                door=request.door,
                origin=request.origin,
                services=services,
                taken_up=taken_up,
                asked_at=began if run is None else run.started_at,
                steps=RecordedSteps(services, request.id, progress, prefix=self._endings.prefix(request.door)),
            )
            try:
                reply = await command.function(context, **command.bind(request.arguments))
                # Chat shows the text alone, and the data of a large fleet would be stored with each answer.
                reply = replace(reply, data=None) if request.door == "chat" else reply
                json.dumps(reply.data)
                state = "done" if reply.ok else "failed"
            except UsageError as error:
                state, reply, reason, code = "refused", Reply(with_usage(error, command)), "usage", error.code
            except NotPermitted as error:
                state, reply, reason, code = "refused", Reply(str(error)), "permission", error.code
            except UserError as error:
                state, reply, code = "refused", Reply(from_shell(str(error), services.table)), error.code
            except (RegisterAway, RegisterUnusable):
                raise  # this run has no end yet
            except MusterError as error:
                state, reply, code = "failed", Reply(from_shell(str(error), services.table)), error.code
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and _being_cancelled():
                    raise
                _log.exception("command.failed", command=command.name, run=request.id)
                state, reply, code = "failed", Reply(apology(command.name, request.id)), "internal"
        if run is None:
            return await self._end_at_once(new_run(request, state, began), state, reply, finish, reason, code)
        async with services.store.write(FINISH) as tx:
            return await self._endings.end(tx, run, state, reply, finish, reason, code=code)

    async def _end_at_once(
        self, run: CommandRun, state: str, reply: Reply, finish: Finish, reason: str | None, code: str | None
    ) -> RunOutcome:
        """Record the end of a run without a recorded beginning."""
        try:
            async with self._services.store.write(FINISH) as tx:
                return await self._endings.end(tx, run, state, reply, finish, reason, code=code, begun=False)
        except RegisterFenced:
            raise
        except RegisterError:
            # The register is away, full or damaged. `health` and `ps` must answer just then. If a reply or an audit
            # entry is required, the run waits for the register.
            if finish is not _owe_nothing or audited(self._services.table.get(run.name)):
                raise
            return outcome_of(
                replace(run, reply=self._endings.said(run, reply, reason, code or code_of(state, reason)))
            )

    async def _ask(
        self, tx: AsyncConnection, run: CommandRun, command: Command, finish: Finish, note: str
    ) -> RunOutcome:
        """Store the question with the run, so that a repeated request gets the same text."""
        text = self._services.redact(written(question(command, run.arguments, note), self._endings.prefix(run.door)))
        await command_runs.change(tx, run.id, only=("confirming",), reply={"text": text})
        outcome = outcome_of(replace(run, reply={"text": text}))
        await finish(tx, outcome)
        return outcome


def _to_be_confirmed(sentence: str, checked: Checked) -> Reply:
    """Return the refusal of a request that lacks its confirmation, with what to confirm."""
    return Reply(f"{sentence} {checked.note}", {"note": checked.note, "arguments": dict(checked.arguments)})


#: For a request without a record, and for a run in the register.
_NOT_BEGUN = "`{}` was not started; write it again then."
_GOES_ON = "`{}` had started, and continues then by itself."

_Act: TypeAlias = "Callable[[RunRequest, Finish, Progress], Coroutine[Any, Any, RunOutcome]]"


@contextmanager
def _away(sentence: str, name: str) -> Iterator[None]:
    """Add to an error of the register what it means for a command."""
    try:
        yield
    except RegisterAway as away:
        raise RegisterAway(f"{away} {sentence.format(name)}") from away


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
