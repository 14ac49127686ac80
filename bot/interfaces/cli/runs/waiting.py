"""Waiting for an agent: the answer on standard output, the progress on standard error, the outcome as exit status.

The agent goes on whatever becomes of this process. Nothing is ever asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from bot.commands.syntax import SHELL, command_line, written
from bot.interfaces.cli.output import is_silenced
from bot.interfaces.cli.runs.exit_status import AGENT_FAILED, BY_SIGNAL, OF_STATE

if TYPE_CHECKING:
    from bot.api_client import Client

#: Signals that end the wait. SIGHUP comes when the terminal is lost.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal came. No `except Exception` on the way may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` for a signal that would end the process, within the block."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        raise Interrupted(number)

    before = {}
    with contextlib.suppress(ValueError):  # signals are the main thread's
        before = {each: signal.signal(each, interrupt) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def wait(client: Client, kind: str, work_id: str, *, begun: str, as_json: bool) -> int:
    """Wait for a run, a message or a task. Return the exit status.

    Args:
        client: the connection to Muster.
        kind: runs, messages or tasks.
        work_id: its id.
        begun: what was begun, for standard error.
        as_json: print one object at the end, with the whole answer in it.

    Raises:
        MusterError: Muster went away, or there is no such work.
        Interrupted: a signal came; the note about that was printed.
    """
    tell(begun)
    answer: list[str] = []
    try:
        for item in client.follow(kind, work_id):
            if "answer" in item:
                answer.append(str(item["answer"]))
                if not as_json:
                    _print(answer[-1])
            elif "progress" in item:
                tell(str(item["progress"]))
            elif "end" in item:
                return _end(item["end"], "".join(answer), as_json=as_json)
    except (Interrupted, BrokenPipeError):
        _leave(kind, work_id)
        raise
    return AGENT_FAILED


def _end(end: dict[str, Any], answer: str, *, as_json: bool) -> int:
    state = str(end.get("state"))
    if as_json:
        # ASCII, so that control sequences in an agent's answer cannot reach the terminal.
        print(json.dumps({**end, "answer": answer}, indent=2))
    else:
        if not answer and end.get("answer"):
            _print(answer := str(end["answer"]))
        if answer and not answer.endswith("\n"):
            _print("\n")
    if state != "done":
        why = f": {end['detail']}" if end.get("detail") else ""
        tell(f"It ended as {state.replace('_', ' ')}{why}", always=True)
    return OF_STATE.get(state, AGENT_FAILED)


def _leave(kind: str, work_id: str) -> None:
    """Say that the agent goes on, and how to reach and end it."""
    look = {"runs": f"runs {work_id}", "tasks": f"task show {work_id}"}.get(kind, "ps")
    stop = {"runs": f"runs stop {work_id}", "tasks": f"task cancel {work_id}"}.get(kind)
    end = f", and {command_line(stop)} ends it" if stop is not None else ""
    tell(f"Interrupted. The agent goes on: {command_line(look)} shows it{end}.", always=True)


def tell(text: str, *, always: bool = False) -> None:
    """Print a line on standard error, if there is one still; `muster --quiet` prints only what is `always` needed."""
    from bot.text.markdown import shown

    if is_silenced() and not always:
        return
    with contextlib.suppress(OSError):  # the terminal is gone
        print(shown(written(text, SHELL)), file=sys.stderr, flush=True)


def _print(text: str) -> None:
    """Print a part of the answer as it is. On a terminal, control sequences are made visible."""
    from bot.text.markdown import shown

    sys.stdout.write(shown(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def status_of(act: Callable[[], int]) -> int:
    """Return the exit status of an act that a signal may interrupt."""
    try:
        with interruptible():
            return act()
    except Interrupted as interrupted:
        # Python flushes once more at its exit, and the terminal may be gone.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            return BY_SIGNAL + interrupted.number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BY_SIGNAL + interrupted.number
