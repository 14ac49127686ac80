"""`muster up` in the foreground: the orchestrator and, if a terminal is configured, its operator at the keyboard."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import structlog

from bot.app.orchestrator import Orchestrator, running, until_stopped
from bot.app.stages import beside
from bot.config.database import is_shared
from bot.config.instance_lock import AlreadyRunning
from bot.config.loader import load
from bot.config.paths import Paths
from bot.config.secrets import redaction_of
from bot.egress_client.process import EgressProcess, variables_of
from bot.leadership.lease import LeadershipLost, RegisterInUse
from bot.leadership.standby import Standby
from bot.maintenance import atomic_swap
from bot.setup import preflight
from core import logs
from core.async_waits import first_of
from core.errors import RegisterError
from database.queries.agents import agent_messages

log = structlog.get_logger(__name__)


async def up(paths: Paths, environ: Mapping[str, str], *, at_keyboard: bool, bring_up: bool = True) -> int:
    """Run until stopped, and return the exit status.

    If the register is on a server and another orchestrator leads, this one stands by until it can lead. It also stands
    by if it was silent for so long that another took the lead.

    Args:
        paths: the installation.
        environ: the environment in which references to secrets are resolved.
        at_keyboard: attach standard input and output to the terminal connector, if there is one. At the end of the
            input, Muster finishes what was entered and stops.
        bring_up: launch the persistent agents of the roster that do not run.
    """
    if (cut_off := await atomic_swap.settle(paths, environ)) is not None:
        print(cut_off, file=sys.stderr)
    settings = load(paths)
    paths.prepare()
    redact = redaction_of(settings, environ)
    with log_to(paths.log if at_keyboard else None, redact):
        for warning in settings.warnings:
            print(warning, file=sys.stderr)
        # Loaded while the register opens. It takes a tenth of the start.
        ahead = threading.Thread(target=import_module, args=("connectors.terminal.prompt",), daemon=True)
        if at_keyboard:
            ahead.start()
        egress = EgressProcess(paths, environ, variables_of(settings))
        async with contextlib.aclosing(egress):

            async def lead(stood_by: bool) -> None:
                async with (
                    running(
                        paths, settings, environ, bring_up=bring_up, egress=egress, stood_by=stood_by
                    ) as orchestrator,
                    beside("preflight", _warn(paths, environ, agents=bring_up, in_chat=at_keyboard)),
                ):
                    if (address := orchestrator.services.web_address) is not None:
                        _say(f"The dashboard is at {address}.")
                    if at_keyboard and orchestrator.services.terminal is not None:
                        await first_of(converse_at_keyboard(orchestrator), until_stopped(orchestrator))
                        if not sys.stdin.isatty() and not orchestrator.stopping.is_set():
                            _say(
                                "The input has ended, so Muster stops; its agents keep running. "
                                "`muster up --unattended` runs without input."
                            )
                    else:
                        await until_stopped(orchestrator)

            await _in_turn(lead, Standby(paths=paths, settings=settings, environ=environ, say=_say))
    return 0


async def _in_turn(lead: Callable[[bool], Coroutine[Any, Any, None]], standby: Standby) -> None:
    """Lead, and stand by whenever another orchestrator leads."""
    stood_by = False
    while True:
        try:
            # Each lead is a task of its own, so that cancellation of one does not affect the next.
            await asyncio.create_task(lead(stood_by))
            return
        except (AlreadyRunning, RegisterInUse, LeadershipLost, RegisterError) as refusal:
            # An unusable register ends a process that just started; a standby tries again.
            if not is_shared(standby.settings) or (isinstance(refusal, RegisterError) and not stood_by):
                raise
            if isinstance(refusal, LeadershipLost):
                _say(str(refusal))
        with _stopped_by_signals() as stop:
            if not await standby.wait(stop):
                return
        stood_by = True


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[asyncio.Event]:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _warn(paths: Paths, environ: Mapping[str, str], *, agents: bool, in_chat: bool) -> None:
    """Say where Muster was started what this start lacks."""
    try:
        lines = await asyncio.to_thread(preflight.warnings, paths, environ, agents=agents, in_chat=in_chat)
    except Exception:
        log.exception("core.no_preflight")  # it decides nothing, so it must not end the start
        return
    for line in lines:
        _say(f"warning: {line}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def log_to(path: Path | None, redact: Callable[[str], str]) -> Iterator[None]:
    """Log to a file, because the terminal is for the conversation; if `path` is None, log to standard error."""
    if path is None:
        logs.configure(logging.StreamHandler(sys.stderr), redact)
        yield
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with open(descriptor, "a", encoding="utf-8", buffering=1) as stream:
        logs.configure(logging.StreamHandler(stream), redact)
        yield


async def converse_at_keyboard(orchestrator: Orchestrator, *, before_leaving: str | None = None) -> None:
    """Attach standard input and output to the terminal connector, until the person leaves or the input ends.

    Args:
        orchestrator: the running orchestrator.
        before_leaving: shown at the first Ctrl-C, which then ends nothing yet.
    """
    from bot.commands.completion import at_prompt
    from connectors.terminal.prompt import converse

    await converse(
        orchestrator.terminal,
        complete=at_prompt(orchestrator.services),
        history=orchestrator.paths.prompt_history,
        settle=lambda: settled(orchestrator),
        before_leaving=before_leaving,
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
