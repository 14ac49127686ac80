"""Agents that were cut off, and the emergency stop.

The order of steps is fixed. First the denial takes effect in memory, so that nothing more is admitted. Then running
requests end, the denial is written down, and only then it is acknowledged. Denials are in the ledger and are restored
before any listener opens. The emergency stop is a file, so that it can be set and seen when nothing else works.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import structlog

from budget.limits.scopes import Policy
from core.durable_files import sync_folder
from core.errors import MusterError
from egress.ledger.model import ENDING
from egress.ledger.service import UsageLedger
from egress.ledger.table_rows import Denial
from egress.limits.admission_interface import Cut

_log = structlog.get_logger(__name__)

#: The agent name that an emergency stop uses.
EVERYBODY: Final = "*"
_STOPPED: Final = "The emergency stop is set: nothing leaves this host. `muster estop --clear` opens it again."


class StopNotKept(MusterError):
    """The file of the emergency stop could not be changed."""


class Blocklist:
    """All denials of one egress, and its emergency stop.

    Args:
        ledger: where denials are kept.
        estop: the file whose presence is the emergency stop.
        end: ends the running requests of an agent, or of `EVERYBODY`, at once, and returns their number.
        enforce: starts to freeze or kill an agent (agent, action, cause, by); returns at once.
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
        """Return why no traffic of this agent may leave, or None if it may."""
        self.look()
        if self.stopped:
            return Cut(reason=_STOPPED)
        denial = self._denials.get(agent) or self._denials.get(EVERYBODY)
        return None if denial is None else _cut(denial)

    async def deny(self, agent: str, action: Policy, *, cause: str, by: str, id: str) -> int:
        """Deny all traffic of an agent, or of `EVERYBODY`, and return how many streams ended. Durable when it returns.

        A requested freeze or kill starts afterwards, and this call does not wait for it. A repeated `id` changes
        nothing.

        Raises:
            LedgerUnwritable: the denial is in force but not durable; it will be once the disk accepts writes.
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
        """Remove a denial, and return whether there was one. Traffic is allowed once the removal is durable.

        Raises:
            LedgerUnwritable: the removal could not be written; the denial stays in force.
        """
        denial = self._denials.get(agent)
        if denial is None:
            return False
        await self._ledger.allow(agent, "restore", cause=cause, by=by, id=id)
        # A denial that arrived during the write stays in force.
        if self._denials.get(agent) is denial:
            del self._denials[agent]
        return True

    def look(self) -> None:
        """Check the emergency stop's file. Call it a few times a second; every admission checks, too."""
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
        """Set the emergency stop, and return how many streams ended. Durable when it returns.

        Raises:
            StopNotKept: the stop is in force until this egress ends, but its file cannot be written.
            LedgerUnwritable: the stop is in force and durable; only its audit row is delayed.
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
        """Clear the emergency stop. Traffic is allowed once the audit row is durable.

        Raises:
            StopNotKept: the file cannot be removed; the stop stays in force.
            LedgerUnwritable: the audit row could not be written; the stop stays in force.
        """
        if not self.stopped:
            return
        await self._ledger.act(EVERYBODY, "estop-clear", cause=cause, by=by, result="open", owed=False)
        try:
            await asyncio.to_thread(_unset, self._estop)
        except OSError as error:
            raise StopNotKept(
                f"The emergency stop's file {self._estop} cannot be removed ({error.strerror}). Remove it by hand."
            ) from None
        self._commanded = False
        self._turn(False)

    def _turn(self, stopped: bool) -> int:
        self.stopped = stopped
        ended = self._end(EVERYBODY, Cut(reason=_STOPPED)) if stopped else 0
        _log.warning("estop" if stopped else "estop_cleared", streams=ended)
        return ended


#: By action: what happened to the agent, the command that undoes it, and the effect of that command.
_WAYS_BACK: Final = {
    "cutoff": ("was cut off", "restore", "opens it again"),
    "freeze": ("was frozen", "resume", "brings it back"),
    "kill": ("was killed", "launch", "starts it again"),
}


def _cut(denial: Denial) -> Cut:
    action = denial.action
    cause = f": {denial.cause.rstrip('.')}" if denial.cause else ""
    if denial.id.startswith(ENDING):
        # The command cuts the agent off first and ends it afterwards; the cause only repeats the action.
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
        # The file may exist: stop rather than spend.
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
