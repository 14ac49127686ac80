"""Orders for an agent that a person gave without the orchestrator: a file in the agent's folder, ``stay-down``.

Each line is an order, ``{"id": "6f0c...", "order": "stop", "by": "terminal:ana", "at": 1763690000.2}``. It is on disk
before it is carried out. The orchestrator takes the orders into the register and the audit once it can, and then marks
them as taken (`mark`). The file stays until the next launch, so an agent that was stopped like this stays down,
whatever the register says. An empty file is an order to stop: earlier versions wrote no more, and a full disk takes no
more.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from core import durable_files
from core.crash_points import around, declare

FILE: Final = "stay-down"
STOP: Final = "stop"
KILL: Final = "kill"
FREEZE: Final = "freeze"
RESUME: Final = "resume"
_ORDERS: Final = (STOP, KILL, FREEZE, RESUME)

#: The place of orders that name none: earlier versions did not.
SHELL: Final = "cli"

GIVEN = declare("order.given")
TAKEN = declare("order.taken")

#: The desired state after an order, by the one before it. A frozen agent that is stopped stays frozen, and a stopped
#: agent is not resumed, as with the commands.
_AFTER: Final = {
    (STOP, "running"): "stopped",
    (KILL, "running"): "stopped",
    (KILL, "frozen"): "stopped",
    (FREEZE, "running"): "frozen",
    (FREEZE, "stopped"): "frozen",
    (RESUME, "frozen"): "running",
}
_MARK: Final = {"taken": True}
#: The giver of an order in an empty file.
_UNNAMED: Final = "shell"


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineOrder:
    """One order."""

    id: str
    order: str
    by: str
    """The person's identity."""
    at: float
    """When it was given, in seconds since the epoch."""
    now: bool = False
    """Whether a turn was cancelled for it."""
    ran: bool = False
    """Whether an agent host ran then."""
    door: str = SHELL
    """Where it was given, as the audit names places."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderFile:
    """What an agent's file says."""

    orders: tuple[OfflineOrder, ...]
    """Those that the orchestrator has not taken yet, in the order in which they were given."""
    length: int
    """How many bytes were read."""

    @property
    def keeps_down(self) -> bool:
        """Whether no one may start the agent by itself."""
        return not self.orders or self.orders[-1].order != RESUME


def desired_after(order: OfflineOrder, wanted: str) -> str:
    """Return the desired state (running, stopped or frozen) after an order, from the one before it."""
    return _AFTER.get((order.order, wanted), wanted)


def desired_state(given: OrderFile | None) -> str:
    """Return the desired state after all orders of an agent's file; running if there are none."""
    wanted = "running"
    for order in given.orders if given is not None else ():
        wanted = desired_after(order, wanted)
    return wanted


def give(folder: Path, order: OfflineOrder) -> None:
    """Write an order durably.

    Raises:
        OSError: it cannot be written. If the file could be made at least, the agent stays down.
    """
    with around(GIVEN), _alone(folder):
        number = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size = os.fstat(number).st_size
            # A line that was cut short by a crash was never carried out.
            torn = size > 0 and os.pread(number, 1, size - 1) != b"\n"
            line = f"{json.dumps(asdict(order))}\n".encode()
            durable_files.append(number, b"\n" + line if torn else line, size=size, sync=True)
        finally:
            os.close(number)
        durable_files.sync_folder(folder)


def read(folder: Path) -> OrderFile | None:
    """Return what the agent's file says, or None if there is none.

    Raises:
        OSError: it cannot be read.
    """
    path = folder / FILE
    try:
        content, changed_at = path.read_bytes(), path.stat().st_mtime
    except FileNotFoundError:
        return None
    if not content:
        unnamed = OfflineOrder(id=f"{folder.name}-{changed_at:.6f}", order=STOP, by=_UNNAMED, at=changed_at)
        return OrderFile(orders=(unnamed,), length=0)
    orders: list[OfflineOrder] = []
    for line in content.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            found = json.loads(line)
            if found == _MARK:
                orders.clear()
            elif found["order"] in _ORDERS:
                orders.append(_order(found))
    return OrderFile(orders=tuple(orders), length=len(content))


def mark(folder: Path, taken: OrderFile, *, stays_down: bool) -> None:
    """Note that the register has these orders. Later ones in the file stay.

    Args:
        folder: the agent's.
        taken: the orders.
        stays_down: whether the agent is not to run after them.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / FILE
    with around(TAKEN), _alone(folder):
        later = path.read_bytes()[taken.length :]
        if later or stays_down:
            durable_files.write(path, f"{json.dumps(_MARK)}\n{later.decode('utf-8', 'replace')}")
        else:
            path.unlink()


def launched(folder: Path) -> None:
    """Forget that the agent stays down, because it is started. Orders that the register does not have stay."""
    with contextlib.suppress(OSError):
        if (found := read(folder)) is not None and not found.orders:
            (folder / FILE).unlink(missing_ok=True)


def keeps_down(folder: Path) -> bool:
    """Return whether the agent was ended on purpose without the orchestrator, and not started since."""
    try:
        found = read(folder)
    except OSError:
        return True
    return found is not None and found.keeps_down


def _order(source: dict[str, object]) -> OfflineOrder:
    return OfflineOrder(
        id=str(source["id"]),
        order=str(source["order"]),
        by=str(source["by"]),
        at=float(str(source["at"])),
        now=source.get("now") is True,
        ran=source.get("ran") is True,
        door=str(source.get("door", SHELL)),
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from changing the file, if the disk allows that."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(durable_files.locked(folder / FILE))
        yield
