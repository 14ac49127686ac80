"""Atomic replacement of many files and folders: a crash leaves all of it done, or none.

The plan is written to disk first. Each existing file or folder is moved aside, and its replacement is moved into place.
Then one atomic step decides the outcome. For files and an SQLite register, that step deletes the plan. For a register
on a server, it is the server's transaction. `settle` completes a leftover plan that was decided, and undoes any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bot.config.database import password
from bot.config.instance_lock import only_one
from bot.config.paths import Paths
from bot.text.errors import UserError
from core.crash_points import around, declare
from core.durable_files import sync_folder
from core.secret_references import Reference
from database.engine import dsn as addresses
from database.engine import schema_revision


class CutOff(UserError):
    """An interrupted update was undone."""

    code = "update.interrupted"


PLAN = declare("restore.plan")
MOVE = declare("restore.move")
DECIDE = declare("restore.decide")

_NAME: Final = "restore.part"


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """The replacement of one file or folder. All three paths are in one file system."""

    target: str
    ready: str | None
    """The replacement; None to remove the target only."""
    kept: str
    """Where the existing target is moved."""
    there: bool
    """Whether the target existed."""
    over: bool = False
    """Whether the replacement overwrites the target, so that one of them exists at every moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SwapPlan:
    """The moves of a swap. The folders in `drafts` are deleted at its end, whatever the outcome."""

    moves: tuple[Move, ...]
    drafts: tuple[str, ...]
    server: str | None = None
    """The address of the register to replace, if it is on a server."""
    reference: str | None = None
    """The reference of that register's password."""
    schema: str = ""
    """The schema in which the server keeps the replaced tables; once it exists, the swap is decided."""
    register: str | None = None
    """For an update: the register. The newer version migrates it to `revision`, which decides the swap."""
    revision: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, source: Mapping[str, Any]) -> SwapPlan:
        moves = tuple(Move(**each) for each in source["moves"])
        rest: dict[str, Any] = {key: source.get(key) for key in ("server", "reference", "register", "revision")}
        return cls(moves=moves, drafts=tuple(source["drafts"]), schema=str(source["schema"]), **rest)


def begin(paths: Paths, plan: SwapPlan) -> None:
    """Write the plan and carry out its moves. Call `finish` or `undo` next, in this process or a later one.

    Raises:
        OSError: a move failed; `undo` reverts the moves before it.
    """
    file = paths.state / _NAME
    draft = file.with_suffix(".draft.part")
    with around(PLAN):
        _write(draft, json.dumps(plan.to_json()))
        os.replace(draft, file)
        sync_folder(file.parent)
    for move in plan.moves:
        with around(MOVE):
            _make_room(move)
        with around(MOVE):
            if move.ready is not None:
                os.rename(move.ready, move.target)
    for folder in {Path(move.target).parent for move in plan.moves}:
        sync_folder(folder)


def finish(paths: Paths, plan: SwapPlan) -> None:
    """Delete the plan and the drafts. Unless a server already decided the swap, deleting the plan decides it."""
    with around(DECIDE):
        (paths.state / _NAME).unlink()
        sync_folder(paths.state)
    _clear(plan.drafts)


def undo(paths: Paths, plan: SwapPlan) -> None:
    """Move everything back to its original place. After a crash, a second call completes the first."""
    for move in reversed(plan.moves):
        target, kept = Path(move.target), Path(move.kept)
        if move.over and move.there:
            if os.path.lexists(kept):
                os.replace(kept, target)
            continue
        if move.ready is not None and not os.path.lexists(move.ready) and os.path.lexists(target):
            Path(move.ready).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.path.lexists(kept) or not move.there:
                os.rename(target, move.ready)
        if move.there and os.path.lexists(kept) and not os.path.lexists(target):
            os.rename(kept, target)
    for folder in {Path(move.target).parent for move in plan.moves}:
        sync_folder(folder)
    for folder in {Path(move.kept).parent for move in plan.moves}:
        with contextlib.suppress(OSError):
            folder.rmdir()
    (paths.state / _NAME).unlink(missing_ok=True)
    _clear(plan.drafts)


async def settle(paths: Paths, environ: Mapping[str, str]) -> str | None:
    """Complete or undo an interrupted restore or update; return a sentence that says which, or None if there was none.

    Raises:
        CutOff: an update was undone, and this process may run the version that must not be used.
        UserError: another process restores or updates this installation, or the plan cannot be read.
        RegisterError: the server that knows the outcome cannot be reached.
    """
    file = paths.state / _NAME
    if not file.exists():
        return None
    with at_work(paths):
        try:
            plan = SwapPlan.from_json(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"A restore or an update was interrupted, and its record {file} cannot be read ({error}). The replaced "
                f"files are in the folders {paths.state}/before-restore-*.",
                code="update.interrupted",
            ) from error
        if plan.register is not None:
            return await _settle(paths, environ, plan, "An update")
        # A restore and a running orchestrator exclude each other.
        with only_one(paths.lock):
            return await _settle(paths, environ, plan, "A restore")


async def _settle(paths: Paths, environ: Mapping[str, str], plan: SwapPlan, what: str) -> str:
    if await decided(plan, environ):
        await asyncio.to_thread(finish, paths, plan)
        return f"{what} that was interrupted is now complete."
    await asyncio.to_thread(undo, paths, plan)
    sentence = f"{what} that was interrupted is undone: everything is as it was before."
    if plan.register is not None:
        raise CutOff(f"{sentence} Run the command again.")
    return sentence


@contextlib.contextmanager
def at_work(paths: Paths) -> Iterator[int]:
    """Hold the lock for restores and updates during the block, and yield its descriptor.

    Raises:
        UserError: another process holds it.
    """
    path = paths.state / "upkeep.part"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise UserError(
                f"A restore or an update is running here (process {pid or 'unknown'}). Wait until it is done.",
                code="update.running",
            ) from None
        with contextlib.suppress(OSError):  # on a full disk the lock alone will do
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


async def decided(plan: SwapPlan, environ: Mapping[str, str]) -> bool:
    """Return whether the deciding step was carried out, according to the register.

    Raises:
        RegisterError: the register cannot be reached.
    """
    if plan.register is not None:
        if not plan.revision:
            return False
        reference = None if plan.reference is None else Reference.parse(plan.reference)
        return await schema_revision.of(plan.register, password=password(reference, environ)) == plan.revision
    if plan.server is None:
        return False
    from database.engine import postgres_restore

    address = addresses.parse(plan.server)
    assert isinstance(address, addresses.ServerAddress)
    reference = None if plan.reference is None else Reference.parse(plan.reference)
    return await postgres_restore.is_kept(address, password(reference, environ), plan.schema)


def is_open(paths: Paths) -> bool:
    """Return whether an unfinished plan exists."""
    return (paths.state / _NAME).exists()


def moves_of(folder: Path, ready: Path, kept: Path, names: Sequence[str]) -> list[Move]:
    """Return the moves that put the files of `ready` into `folder` by name, and the existing ones into `kept`."""
    return [
        Move(
            target=str(folder / name),
            ready=str(ready / name) if os.path.lexists(ready / name) else None,
            kept=str(kept / name),
            there=os.path.lexists(folder / name),
        )
        for name in names
    ]


def _make_room(move: Move) -> None:
    if not move.there:
        return
    Path(move.kept).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if move.over:
        os.link(move.target, move.kept, follow_symlinks=False)
    else:
        os.rename(move.target, move.kept)


def _clear(drafts: Sequence[str]) -> None:
    for draft in drafts:
        shutil.rmtree(draft, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        # A full disk still creates the file, but writes none of the text.
        path.unlink(missing_ok=True)
        raise
