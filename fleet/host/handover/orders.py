"""Who has an agent's conversation in a terminal, and what passes between the two terminals."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from core.async_waits import first_of
from fleet.control import terminal_frames
from fleet.control.host_spec import AgentSpec
from fleet.control.terminal_frames import TerminalBytes, TerminalEnd, TerminalFrame, TerminalSize
from fleet.errors import AgentRefused
from fleet.host.acp.update_parser import clean
from fleet.host.handover.terminal_program import TerminalProgram

#: What a program left in its terminal is read for so long after its end.
_LAST_WORDS_S: Final = 1.0
#: Bytes that are kept of what was typed and the program did not read yet. More is lost, as in any terminal.
UNREAD: Final = 2**20
#: A runtime names its sessions itself; these become a word of a command line.
_SESSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")


@dataclass(kw_only=True, slots=True)
class HandoverOrder:
    """A person's order to have an agent's conversation in a terminal."""

    by: str
    now: bool
    """Whether a turn that runs is cancelled for it."""
    size: TerminalSize
    variables: Mapping[str, str]
    begun: asyncio.Future[TerminalProgram]
    """The program, once it runs; or why it does not."""
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the program is about to be ended."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nothing is carried between the terminals any more."""
    over: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """How it ended, once the program is gone."""


def order_of(params: Mapping[str, object]) -> HandoverOrder:
    """Read an order.

    Raises:
        ValueError: it is none; the message says what is wrong.
    """
    by, environ = params.get("by"), params.get("environment")
    if not isinstance(by, str) or not by.strip():
        raise ValueError("by is the name of a person")
    return HandoverOrder(
        by=clean(by)[:500],
        now=params.get("now") is True,
        size=terminal_frames.size(params.get("rows"), params.get("columns")),
        variables=terminal_frames.variables(environ if isinstance(environ, dict) else {}),
        begun=asyncio.get_running_loop().create_future(),
    )


def terminal_command(spec: AgentSpec, session: str | None, *, begun: bool) -> tuple[str, ...]:
    """Return the command line of the terminal program that goes on with a session.

    Args:
        spec: the agent.
        session: its session.
        begun: whether something was said in it. Before that, programs find none.

    Raises:
        AgentRefused: ``no_terminal``: none is known for this runtime; ``no_session``: there is none to go on with.
    """
    if not spec.terminal:
        raise AgentRefused(
            f"No terminal program is known for the runtime {spec.runtime} as it was started.", refusal="no_terminal"
        )
    if session is None or not begun or not _SESSION.fullmatch(session):
        raise AgentRefused("It has no conversation that a terminal program could go on with.", refusal="no_session")
    return tuple(word.replace("{session}", session) for word in spec.terminal)


async def relay(
    order: HandoverOrder,
    program: TerminalProgram,
    *,
    receive: Callable[[], Awaitable[TerminalFrame | None]],
    send: Callable[[TerminalFrame], Awaitable[None]],
) -> None:
    """Carry what is typed and printed between a person's terminal and the program, until one of them is gone.

    Args:
        order: told when nobody is there any more.
        program: what runs.
        receive: returns what the person's terminal says next; None once it is gone.
        send: writes to the person's terminal.
    """

    unread, more = bytearray(), asyncio.Event()

    async def typed() -> None:
        # It never waits for the program: one that reads nothing would hide that its person is gone.
        while (frame := await receive()) is not None:
            match frame:
                case TerminalBytes(content):
                    unread.extend(content[: UNREAD - len(unread)])
                    more.set()
                case TerminalSize():
                    program.resize(frame)
                case TerminalEnd():
                    return

    async def taken() -> None:
        while await more.wait():
            more.clear()
            while unread:
                some = bytes(unread)
                unread.clear()
                await program.write(some)

    async def printed() -> None:
        async def read() -> None:
            while content := await program.read():
                await send(TerminalBytes(content))

        reading = asyncio.ensure_future(read())
        gone = asyncio.ensure_future(program.wait())
        try:
            await asyncio.wait({reading, gone}, return_when=asyncio.FIRST_COMPLETED)
            # A process that it left behind may hold the terminal open for ever.
            await asyncio.wait({reading}, timeout=_LAST_WORDS_S if gone.done() else None)
            if reading.done():
                reading.result()
        finally:
            for each in (reading, gone):
                each.cancel()
            await asyncio.gather(reading, gone, return_exceptions=True)

    try:
        await first_of(typed(), taken(), printed(), order.ending.wait())
    except (OSError, ValueError):
        pass  # The person's terminal is gone, or says what no terminal does.
    finally:
        order.left.set()
    reason = await asyncio.shield(order.over)
    with contextlib.suppress(OSError):
        await send(TerminalEnd(reason))
