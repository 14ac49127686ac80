"""The end of a command's run: its state, answer, audit entry and the interface's changes, in one transaction."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.registry import Command, Reply
from bot.commands.runs import RunOutcome, RunRequest, check_same, code_of, new_run, outcome_of
from bot.commands.services import CommandServices
from bot.commands.syntax import prefix_of, written
from core.redaction import redacted
from database.queries.operations import audit_log, command_runs
from database.queries.operations.command_runs import CommandRun

#: Maximum number of characters of one argument, and of an outcome, in the audit.
_AUDITED_ARGUMENT = 2000
_AUDITED_DETAIL = 300

Finish: TypeAlias = "Callable[[AsyncConnection, RunOutcome], Awaitable[None]]"


@dataclass(frozen=True, slots=True)
class CommandOutcomes:
    services: CommandServices

    async def refused(
        self,
        tx: AsyncConnection,
        request: RunRequest,
        reply: Reply,
        reason: str | None,
        finish: Finish,
        *,
        code: str | None = None,
    ) -> RunOutcome:
        """Record a request that never became a run."""
        run = new_run(request, "refused", self.services.clock(), self.kept(request.arguments))
        return await self.end(tx, run, "refused", reply, finish, reason, code=code, begun=False)

    async def end(
        self,
        tx: AsyncConnection,
        run: CommandRun,
        state: str,
        reply: Reply,
        finish: Finish,
        reason: str | None = None,
        *,
        code: str | None = None,
        begun: bool = True,
    ) -> RunOutcome:
        """End a run in the transaction `tx`: its state, its answer, its audit entry, and the interface's changes.

        A run that has already ended keeps its end. A run that was not `begun` is recorded here.
        """
        services = self.services
        said = self.said(run, reply, reason, code or code_of(state, reason))
        kept = self.kept(run.arguments)
        end: dict[str, Any] = {
            "state": state,
            "arguments": kept,
            "reply": said,
            "ended_at": services.clock(),
        }
        ended = replace(run, **end)
        if begun:
            stored = await command_runs.change(tx, run.id, only=("running", "confirming"), **end)
        else:
            stored = await command_runs.add(tx, ended)
        if not stored:
            earlier = await command_runs.get(tx, run.id)
            assert earlier is not None
            check_same(earlier, run, self.kept)
            ended = earlier
        outcome = outcome_of(ended)
        if stored and audited(services.table.get(run.name)):
            await audit_log.add(
                tx,
                key=f"command:{run.id}",
                at=services.clock(),
                identity=run.identity,
                through=run.through,
                door=run.door,
                connector=run.connector,
                conversation=run.conversation,
                action=run.name,
                arguments=kept,
                outcome=state,
                detail=" ".join(said["text"].split())[:_AUDITED_DETAIL] or None,
            )
        await finish(tx, outcome)
        return outcome

    def prefix(self, door: str) -> str:
        """Return the prefix of commands for readers of the answer."""
        return prefix_of(door, self.services.command_prefix)

    def said(self, run: CommandRun, reply: Reply, reason: str | None, code: str | None) -> dict[str, Any]:
        """Return an answer in its stored form, which is also the form that leaves Muster."""
        redact = self.services.redact
        text = redact(written(reply.text, self.prefix(run.door)))
        said = {"text": text, "data": redacted(reply.data, redact), "reason": reason, "code": code}
        return said if reply.file is None else {**said, "file": asdict(reply.file)}

    def kept(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments in their stored form: of limited length and without secrets."""
        kept: dict[str, Any] = {}
        for name, given in arguments.items():
            if isinstance(given, float) and not math.isfinite(given):
                kept[name] = str(given)  # JSON has none, and PostgreSQL refuses it
            elif given is None or isinstance(given, bool | int | float):
                kept[name] = given
            else:
                text = given if isinstance(given, str) else json.dumps(given, default=str)
                kept[name] = self.services.redact(text)[:_AUDITED_ARGUMENT]
        return kept


def audited(command: Command | None) -> bool:
    """Return whether runs of the command are audited; those of an unknown command are."""
    return command is None or command.audited
