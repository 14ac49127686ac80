"""What agents did at the forge, or were refused: in the run's own log, and in the audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.issue_runs.agent_tools import semantic_log
from bot.issue_runs.services import IssueServices
from bot.text import markdown
from database.queries.forge import issue_runs
from database.queries.operations import audit_log

_ANY: Final = ("queued", "running", "checking", "frozen", "destroyed", "failed")


async def add_line(tx: AsyncConnection, run_id: str, line: str) -> None:
    """Add a line to what a run's agent did at the forge."""
    run = await issue_runs.get(tx, run_id)
    if run is not None:
        lines = semantic_log.with_line(run.operations, line)
        if lines != list(run.operations):
            await issue_runs.change(tx, run_id, only=_ANY, operations=lines)


async def audited(
    tx: AsyncConnection,
    services: IssueServices,
    *,
    agent: str,
    call: str,
    tool: str,
    arguments: Mapping[str, Any],
    outcome: str,
    detail: str,
) -> None:
    """Write a call into the audit, once.

    Args:
        tx: the transaction that decides or records the outcome.
        services: the services.
        agent: who called.
        call: the call's id.
        tool: what was called.
        arguments: without texts, which stand elsewhere.
        outcome: ``done`` or ``refused``.
        detail: the line of the run's log, or why it was refused.
    """
    await audit_log.add(
        tx,
        key=f"tool:{call}",
        at=services.clock(),
        identity=f"agent:{agent}",
        door="tools",
        action=tool,
        arguments=arguments,
        outcome=outcome,
        detail=markdown.gist(detail, services.redact, 300),
    )
