"""`muster up` in the foreground: the orchestrator, and where a terminal is configured, its operator at the keyboard."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from bot import logs
from bot.config import load
from bot.orchestrator import redaction_of, running, until_stopped
from register.queries import agent_messages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bot.config import Settings
    from bot.orchestrator import Orchestrator
    from bot.paths import Paths


async def up(paths: Paths, environ: Mapping[str, str], *, at_keyboard: bool) -> int:
    """Run until told to stop; the exit status.

    Args:
        paths: the installation.
        environ: where references to secrets are looked up.
        at_keyboard: attach standard input and output to the terminal connector, when there is one. At the end of the
            input Muster waits until everything that was said is dealt with, and stops.
    """
    settings = load(paths)
    paths.prepare()
    with _log(paths, settings, environ, to_file=at_keyboard):
        async with running(paths, settings, environ) as orchestrator:
            for warning in settings.warnings:
                print(warning, file=sys.stderr)
            if at_keyboard and orchestrator.terminal is not None:
                await _first_of(_sit_down(orchestrator), until_stopped(orchestrator))
            else:
                await until_stopped(orchestrator)
    return 0


@contextlib.contextmanager
def _log(paths: Paths, settings: Settings, environ: Mapping[str, str], *, to_file: bool) -> Any:
    """The log goes to a file when the terminal is for talking, and to standard error otherwise."""
    redact = redaction_of(settings, environ)
    if not to_file:
        logs.configure(sys.stderr, redact)
        yield
        return
    descriptor = os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with open(descriptor, "a", encoding="utf-8", buffering=1) as stream:
        logs.configure(stream, redact)
        yield


async def _sit_down(orchestrator: Orchestrator) -> None:
    from connectors.terminal_prompt import converse

    await converse(
        orchestrator.terminal,
        complete=completion(orchestrator),
        history=orchestrator.paths.prompt_history,
        settle=lambda: settled(orchestrator),
    )


async def settled(orchestrator: Orchestrator) -> None:
    """Wait until every command is answered and every message to a running agent has had its turn."""
    while True:
        await orchestrator.quiet()
        async with orchestrator.store.read() as tx:
            underway = await agent_messages.in_states(tx, agent_messages.UNDERWAY)
        views = {view.row.name: view for view in await orchestrator.agents.view()}
        at_work = {"starting", "idle", "working"}
        if not any(views[m.agent].liveness.state in at_work for m in underway if m.agent in views):
            await orchestrator.quiet()
            return
        await asyncio.sleep(0.2)


def completion(orchestrator: Orchestrator) -> Any:
    """Words that can follow at the prompt, from the command table and the fleet."""
    from bot.commands.completion import candidates

    return candidates(orchestrator.services)


async def _first_of(*works: Any) -> None:
    """Run all until one ends, then cancel the others; a failure is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
