"""What is closed altogether: agents that were cut off, and the emergency stop.

In this order: closed in memory, so that nothing is admitted any more; what is under way ends; it is written down; and
only then acknowledged. Denials are in the ledger and are there again before anything listens; the emergency stop is a
file, so that it can be set and seen when nothing else works.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

import structlog

from core.durable_files import sync_folder
from core.errors import MusterError
from egress.ledger.model import ENDING
from egress.ledger.table_rows import Denial
from egress.limits.admission_interface import Cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from egress.ledger.service import UsageLedger
    from egress.settings import Policy

_log = structlog.get_logger(__name__)

#: Whom an emergency stop is about.
EVERYBODY: Final = "*"
_STOPPED: Final = "The emergency stop is set: nothing leaves this host. `muster estop --clear` opens it again."


class StopNotKept(MusterError):
    """The emergency stop's file could not be changed."""


class Denials:
    """All of them.

    Args:
        ledger: where they are kept.
        estop: the file whose presence is the emergency stop.
        end: ends what an agent, or `EVERYBODY`, has under way, at once, and returns how much it was.
        enforce: has an agent frozen or killed (agent, action, cause, by); returns at once.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        ledger: UsageLedger,
        estop: Path,
        *,
        end: Callable[[str, Cut], int],
        enforce: Callable[[str, str, str, str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._estop = os.fspath(estop)
        self._end = end
        self._enforce = enforce
        self._clock = clock
        self._denials = dict(ledger.denials)
        self._commanded = False
        self.stopped = False
        """Whether the emergency stop is set, as of the last look."""
        self.look()

    def __iter__(self) -> Iterator[Denial]:
        return iter(list(self._denials.values()))

    def closed(self, agent: str) -> Cut | None:
        """Return why nothing of this agent's may leave; None: it may."""
        self.look()
        if self.stopped:
            return Cut(reason=_STOPPED)
        denial = self._denials.get(agent) or self._denials.get(EVERYBODY)
        return None if denial is None else _cut(denial)

    async def deny(self, agent: str, action: Policy, *, cause: str, by: str, id: str) -> int:
        """Close everything to an agent, or to `EVERYBODY`; how many streams that ended. Durable when it returns.

        It is frozen or killed after that, if that was asked for, without being waited for. The same `id` again changes
        nothing.

        Raises:
            LedgerUnwritable: it holds, but is not durable yet; it will be as soon as the disk takes it.
        """
        known = self._denials.get(agent)
        denial = Denial(agent, action, cause, by, id, self._clock())
        self._denials[agent] = denial
        ended = self._end(agent, _cut(denial))
        if known is not None and (known.id, known.action) == (id, action):
            await self._ledger.flushed()
            return ended
        try:
            await self._ledger.deny(denial, result=f"{ended} streams ended", detail={"streams": ended})
        finally:
            if action != "cutoff":
                self._enforce(agent, action, cause, by)
        return ended

    async def allow(self, agent: str, *, cause: str, by: str, id: str = "") -> bool:
        """Take a denial back; whether there was one. It opens once that is durable.

        Raises:
            LedgerUnwritable: it could not be written, and stays closed.
        """
        denial = self._denials.get(agent)
        if denial is None:
            return False
        await self._ledger.allow(agent, "restore", cause=cause, by=by, id=id)
        # Who was cut off again in the meantime stays so.
        if self._denials.get(agent) is denial:
            del self._denials[agent]
        return True

    def look(self) -> None:
        """Look for the emergency stop's file. To be called a few times a second; every admission looks, too."""
        there = _is_there(self._estop)
        if there == self.stopped or self._commanded:
            return
        ended = self._turn(there)
        self._ledger.note(
            EVERYBODY,
            "estop" if there else "estop-clear",
            cause=f"{self._estop} {'is there' if there else 'is gone'}",
            by="egress",
            result=f"{ended} streams ended",
        )

    async def stop(self, *, cause: str, by: str) -> int:
        """Set the emergency stop; how many streams that ended. Durable when it returns.

        Raises:
            StopNotKept: it holds until this egress ends, but its file cannot be written.
            LedgerUnwritable: it holds and is kept; only its row in the audit has to wait.
        """
        self._commanded = True
        ended = self._turn(True)
        try:
            await asyncio.to_thread(_set, self._estop)
        except OSError as error:
            raise StopNotKept(
                f"The emergency stop holds while this egress runs, but its file {self._estop} cannot be written "
                f"({error.strerror}). Make room, and set it again."
            ) from None
        self._commanded = False
        await self._ledger.act(EVERYBODY, "estop", cause=cause, by=by, result=f"{ended} streams ended")
        return ended

    async def clear(self, *, cause: str, by: str) -> None:
        """Take the emergency stop back. It opens once that is in the audit.

        Raises:
            StopNotKept: its file cannot be removed; it holds.
            LedgerUnwritable: it holds.
        """
        if not self.stopped:
            return
        await self._ledger.act(EVERYBODY, "estop-clear", cause=cause, by=by, result="open", owed=False)
        try:
            await asyncio.to_thread(_unset, self._estop)
        except OSError as error:
            raise StopNotKept(
                f"The emergency stop's file {self._estop} cannot be removed ({error.strerror}). Remove it."
            ) from None
        self._commanded = False
        self._turn(False)

    def _turn(self, stopped: bool) -> int:
        self.stopped = stopped
        ended = self._end(EVERYBODY, Cut(reason=_STOPPED)) if stopped else 0
        _log.warning("estop" if stopped else "estop_cleared", streams=ended)
        return ended


#: What was done to whoever is closed out, and what ends that.
_WAYS_BACK: Final = {
    "cutoff": ("was cut off", "restore", "opens it again"),
    "freeze": ("was frozen", "resume", "brings it back"),
    "kill": ("was killed", "launch", "starts it anew"),
}


def _cut(denial: Denial) -> Cut:
    action = denial.action
    cause = f": {denial.cause.rstrip('.')}" if denial.cause else ""
    if denial.id.startswith(ENDING):
        # By a command that closes the way out first and ends the agent then; the cause says no more than that.
        action, cause = denial.id.removeprefix(ENDING).partition("/")[0], ""
    done, command, back = _WAYS_BACK.get(action, _WAYS_BACK["cutoff"])
    whom = "Every agent" if denial.agent == EVERYBODY else f"The agent {denial.agent}"
    return Cut(reason=f"{whom} {done} by {denial.by or 'a command'}{cause}. `muster {command} {denial.agent}` {back}.")


def _is_there(path: str) -> bool:
    try:
        os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        # Whether it is there cannot be told: stop rather than spend.
        return True
    return True


def _set(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    sync_folder(os.path.dirname(path) or ".")


def _unset(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_folder(os.path.dirname(path) or ".")
