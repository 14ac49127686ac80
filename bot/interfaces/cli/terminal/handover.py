"""`muster handover`: this terminal becomes that of an agent's own terminal program, until that ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from typing import Final

from bot.agents.sessions import handover_text
from bot.interfaces.cli.output import DONE, FAILED, say
from bot.text.errors import UserError
from core.async_waits import first_of
from fleet.control.terminal_frames import TerminalBytes, TerminalEnd, TerminalSize
from fleet.control.terminal_link import TerminalLink
from fleet.errors import AgentRefused, AgentUnreachable

#: Takes back what a program may have set and not reset, as one that was killed does (ECMA-48; xterm control sequences):
#: a sequence that it did not end, a link, the other screen, line drawing in place of letters, the keys of a keypad,
#: margins, a hidden cursor, reports of the mouse, of focus and of pasting, of keys, and colors.
RESET: Final = (
    b"\x18\x1b\\\x1b]8;;\x1b\\\x1b[?1047l\x0f\x1b(B\x1b[?1l\x1b>\x1b[4l\x1b[?7h\x1b7\x1b[r\x1b8"
    b"\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[<u\x1b[>4m\x1b[m"
)
#: Asks a terminal whether it is well, and its answer. It answers in order, so what comes before answers the program.
ASK: Final = b"\x1b[5n"
ANSWER: Final = b"\x1b[0n"
#: Seconds that a terminal has for the answer, seconds of silence after it, and seconds for all of that. The program may
#: have asked the same, so the first answer is not always the last.
ANSWER_S, QUIET_S, DROPPING_S = 1.0, 0.2, 3.0
_READ: Final = 2**16
_STDIN, _STDOUT = 0, 1


def check_terminal() -> None:
    """Refuse to go on without a terminal.

    Raises:
        UserError: there is none.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(
            "A handover needs a terminal, and standard input or output is none. Run the command by itself in a shell. "
            "Nothing was changed.",
            code="terminal.missing",
        )


def take(order: Mapping[str, object], environ: Mapping[str, str]) -> int:
    """Have the agent handed over to this terminal, and return the exit status once it was given back.

    Args:
        order: what the orchestrator answered to `handover`.
        environ: this shell's environment.

    Raises:
        UserError: the agent host refused; the message says what to do.
    """
    return asyncio.run(_take(order, environ))


async def _take(order: Mapping[str, object], environ: Mapping[str, str]) -> int:
    name, by = str(order["agent"]), str(order["by"])
    try:
        link = await TerminalLink.open(
            str(order["socket"]), by=by, now=order.get("now") is True, size=_size(), environ=environ
        )
    except AgentRefused as refusal:
        raise handover_text.refused(name, refusal) from None
    reason = None
    async with link:
        with _raw():
            reason = await _carry(link)
    if reason is None:
        say(f"The agent host of {name} went away, and the program with it. `muster ps` shows the agent.", error=True)
        return FAILED
    with contextlib.suppress(OSError):
        say(f"{reason} {name} goes on under Muster.")
    return DONE


async def _carry(link: TerminalLink) -> str | None:
    """Carry bytes until the program is gone; return how it ended, or None if its agent host went away."""
    loop = asyncio.get_running_loop()
    resized, told_to_end = asyncio.Event(), asyncio.Event()
    reason: str | None = None

    async def typed() -> None:
        while content := await _typed():
            await link.send(TerminalBytes(content))

    async def printed() -> None:
        nonlocal reason
        with contextlib.suppress(AgentUnreachable):
            while True:
                match await link.receive():
                    case TerminalBytes(content):
                        _print(content)
                    case TerminalEnd(said):
                        reason = said
                        return

    async def sizes() -> None:
        while True:
            await resized.wait()
            resized.clear()
            await link.send(_size())

    loop.add_signal_handler(signal.SIGWINCH, resized.set)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_end.set)
    printing = asyncio.ensure_future(printed())
    try:
        await first_of(asyncio.shield(printing), typed(), sizes(), told_to_end.wait())
        return reason if printing.done() else "This terminal was closed."
    finally:
        printing.cancel()
        await asyncio.gather(printing, return_exceptions=True)


async def _typed() -> bytes:
    """Return what was typed next; empty once the terminal is gone."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(_STDIN, ready.set)
    try:
        await ready.wait()
        return os.read(_STDIN, _READ)
    except OSError:
        return b""
    finally:
        loop.remove_reader(_STDIN)


def _print(content: bytes) -> None:
    """Print what an untrusted program says, as it is: that is what its person asked for."""
    while content:
        content = content[os.write(_STDOUT, content) :]


def _drop_answers() -> None:
    """Read what the terminal still answers to the program. The person's shell would take it for typed words."""
    _print(ASK)
    seen, pause, until = b"", ANSWER_S, time.monotonic() + DROPPING_S
    while (left := until - time.monotonic()) > 0 and select.select([_STDIN], [], [], min(pause, left))[0]:
        if not (read := os.read(_STDIN, _READ)):
            return
        seen = seen[-len(ANSWER) :] + read
        if ANSWER in seen:
            pause = QUIET_S


def _size() -> TerminalSize:
    with contextlib.suppress(OSError):
        size = os.get_terminal_size(_STDOUT)
        return TerminalSize(size.lines, size.columns)
    return TerminalSize(24, 80)


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Have the terminal give each key as it is; it is what it was afterwards."""
    before = termios.tcgetattr(_STDIN)
    try:
        tty.setraw(_STDIN)
        yield
    finally:
        with contextlib.suppress(OSError):
            _print(RESET)
            _drop_answers()
        with contextlib.suppress(termios.error):
            termios.tcsetattr(_STDIN, termios.TCSAFLUSH, before)
