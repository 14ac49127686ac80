"""`muster backup restore`: replace an installation with a backup, and keep the replaced files beside it.

The restored register is older than the chat and must account for the time between. Three modules do so.
`database.queries.operations.restored_backup` ends what was in progress. `fleet.host.restored_journal` empties queues
and advances the numbers. `bot.interfaces.chat.restore_guard` ignores messages written before the restore.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from bot.config.database import password
from bot.config.instance_lock import AlreadyRunning, only_one
from bot.config.loader import Settings, load
from bot.config.paths import Paths
from bot.maintenance import atomic_swap
from bot.maintenance.atomic_swap import SwapPlan
from bot.maintenance.backup import contents, reader
from bot.maintenance.backup.archive import Header
from bot.maintenance.interruptible import in_thread, to_the_end
from bot.setup import shutdown_record
from bot.text.errors import ConfigError, UserError
from core.crash_points import declare
from core.errors import RegisterError, RegisterFull
from core.secret_references import Reference
from database import migrations
from database.engine import dsn as addresses
from database.engine import snapshot
from database.engine.store import Store
from database.queries.chat import operator_permissions
from database.queries.operations import restored_backup
from database.queries.operations.restored_backup import EndedByRestore
from fleet.host import restored_journal
from fleet.supervision import host_lifecycle, host_lock

SETTLE = declare("restore.settle")

#: The prefix of restore drafts, also of those that a crash left behind. Only restores use it.
_DRAFT = ".restore-"

#: The length and offset of the bytes on which SQLite locks a file: pending, reserved, and 510 shared ones.
_LOCK_BYTES = (512, 0x40000000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """A completed restore."""

    header: Header
    kept: tuple[str, ...]
    """Where the replaced files and schemas are kept."""
    settled: EndedByRestore
    permissions: tuple[str, ...]
    """Permissions granted by command, as of the backup: ``identity: permission``."""
    workspaces: bool
    """Whether the workspaces were restored, too."""
    keyless: tuple[str, ...] = ()
    """The connectors with encryption that have no keys on this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """The location of the restored configuration's register."""

    url: str
    address: addresses.Address
    reference: Reference | None


async def restore(
    paths: Paths,
    environ: Mapping[str, str],
    file: Path,
    *,
    now: float,
    progress: Callable[[str], None] = lambda _: None,
) -> Restored:
    """Replace the installation with a backup.

    Args:
        paths: the installation.
        environ: the environment, which may contain the register's password.
        file: the backup.
        now: seconds since the epoch.
        progress: called with a short progress message.

    Raises:
        UserError: Muster or an agent runs here, or the backup cannot be restored. Nothing is changed.
        RegisterError: the register cannot be used. Nothing is changed.
    """
    found = await asyncio.to_thread(reader.header, file)
    _refuse_newer(file, found, found.schema)
    paths.prepare()
    await atomic_swap.settle(paths, environ)
    with atomic_swap.at_work(paths), _nobody_else(paths):
        identity = secrets.token_hex(4)
        drafts = _Drafts(paths, identity)
        drafts.sweep()
        try:
            return await _restore(paths, environ, file, identity, drafts, now, progress)
        except OSError as error:
            if error.errno in contents.NO_ROOM:
                raise _no_room(paths) from error
            raise UserError(
                f"{file} was not restored: {error.strerror or error}. Nothing was changed.", code="disk.unwritable"
            ) from error
        finally:
            drafts.remove()


def _refuse_newer(file: Path, header: Header, schema: str) -> None:
    if not schema:
        raise reader.BadArchive(f"The register in {file} does not say which schema it has. Take another backup.")
    if schema not in migrations.known():
        raise UserError(
            f"{file} was written by a newer Muster ({header.muster}): its register has the schema {schema}, but this "
            f"version supports up to {migrations.head()}. Install that version first.",
            code="backup.newer",
        )


def _no_room(paths: Paths) -> UserError:
    return UserError(
        f"The disk of {paths.state} is full: a backup is unpacked there before it is put in its place. Nothing was "
        "restored, and nothing was changed; make room."
    )


@contextlib.contextmanager
def _nobody_else(paths: Paths) -> Iterator[None]:
    """Hold the locks of the orchestrator and of every agent host.

    Raises:
        UserError: one of them runs; the message says which, and its process.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(only_one(paths.lock))
        except AlreadyRunning as error:
            raise UserError(
                f"{error} Stop it first: nothing is restored under a running Muster.", code="muster.running"
            ) from None
        folders = [folder for folder in sorted(paths.agents.iterdir()) if folder.is_dir()]
        running = [f"{each.name} (process {pid})" for each in folders if (pid := host_lock.holder(each)) is not None]
        if running:
            raise UserError(
                f"These agents run: {', '.join(running)}. `muster up --detach` and then `muster down --all` stops "
                "them; nothing is restored under running agents.",
                code="agent.running",
            )
        for folder in folders:
            # Processes left by a killed host would continue to use files that then belong to another agent.
            host_lifecycle.clear_away(folder)
            held.callback(os.close, host_lock.hold(folder))
        yield


@dataclass(slots=True)
class _Drafts:
    """The folders for drafts, each in the file system of its destination."""

    paths: Paths
    identity: str
    places: list[Path] = field(default_factory=list)
    """The destinations."""

    def __post_init__(self) -> None:
        self.places += (self.paths.state, self.paths.config)

    @property
    def state(self) -> Path:
        return self.paths.state / f"{_DRAFT}{self.identity}"

    def beside(self, folder: Path) -> Path:
        self.places.append(folder)
        return folder / f"{_DRAFT}{self.identity}"

    def all(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(folder / f"{_DRAFT}{self.identity}") for folder in self.places))

    def sweep(self) -> None:
        """Remove leftovers of earlier restores."""
        for folder in self.places:
            for left in folder.glob(f"{_DRAFT}*"):
                shutil.rmtree(left, ignore_errors=True)

    def remove(self) -> None:
        # An unfinished plan needs its drafts to be undone.
        if not atomic_swap.is_open(self.paths):
            for folder in self.all():
                shutil.rmtree(folder, ignore_errors=True)


async def _restore(
    paths: Paths,
    environ: Mapping[str, str],
    file: Path,
    identity: str,
    drafts: _Drafts,
    now: float,
    progress: Callable[[str], None],
) -> Restored:
    ready = drafts.state
    ready.mkdir(mode=0o700)
    header = await in_thread(partial(reader.unpack, file, ready), progress)
    for name in (contents.CONFIG, contents.STATE):
        (ready / name).mkdir(mode=0o700, exist_ok=True)
    try:
        settings = await asyncio.to_thread(_settings, paths, ready / contents.CONFIG)
    except ConfigError as error:
        raise UserError(
            f"The configuration in {file}, of Muster {header.muster}, is not valid for this version. Nothing was "
            f"changed.\n\n{error}",
            code="backup.invalid",
        ) from error
    place = _place(paths, settings, ready / contents.CONFIG)
    register = ready / contents.REGISTER
    try:
        _refuse_newer(file, header, (await asyncio.to_thread(snapshot.look, register)).revision)
        places = await asyncio.to_thread(_quiet, ready / contents.STATE / "agents", now)
        settled, permissions = await _settle(register, f"restore-{identity}", header, places, now)
    except RegisterFull as error:
        raise _no_room(paths) from error
    except (RegisterError, SQLAlchemyError) as error:
        reason = getattr(error, "orig", None) or error
        raise UserError(
            f"The register in {file} cannot be used, and nothing was changed. Take another backup. Reason: {reason}",
            code="backup.invalid",
        ) from error
    if settled.agents:
        shutdown_record.write(ready / contents.STATE / paths.brought_down.name, settled.agents)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
    name = f"{contents.KEPT}{stamp}-{identity}"
    plan = await asyncio.to_thread(_plan, paths, drafts, place, name, ready, header.workspaces)
    with _unused(place.address):
        await to_the_end(_carry_out(paths, environ, plan, place, register, progress))
    kept = sorted({str(Path(move.kept).parent) for move in plan.moves if move.there})
    if plan.server is not None:
        kept.append(f"the schema {plan.schema} of {place.address}")
    return Restored(
        header=header,
        kept=tuple(kept),
        settled=settled,
        permissions=permissions,
        workspaces=header.workspaces,
        keyless=tuple(
            each.name
            for each in settings.connectors
            if getattr(each.settings, "encryption", "off") != "off" and not paths.keys_folder(each.name).exists()
        ),
    )


async def _carry_out(
    paths: Paths,
    environ: Mapping[str, str],
    plan: SwapPlan,
    place: _Place,
    register: Path,
    progress: Callable[[str], None],
) -> None:
    try:
        await asyncio.to_thread(atomic_swap.begin, paths, plan)
        if isinstance(place.address, addresses.ServerAddress):
            from database.engine import postgres_restore

            await postgres_restore.replace(
                place.address,
                password(place.reference, environ),
                register,
                kept=plan.schema,
                progress=lambda table, rows, total: progress(f"register, {table}: {rows} of {total}"),
            )
    except BaseException:
        # During its commit, only the server knows the outcome; the next start asks it.
        if not isinstance(place.address, addresses.ServerAddress) or await _is_undone(place, environ, plan):
            await asyncio.to_thread(atomic_swap.undo, paths, plan)
        raise
    await asyncio.to_thread(atomic_swap.finish, paths, plan)


async def _is_undone(place: _Place, environ: Mapping[str, str], plan: SwapPlan) -> bool:
    from database.engine import postgres_restore

    assert isinstance(place.address, addresses.ServerAddress)
    try:
        return not await postgres_restore.is_kept(place.address, password(place.reference, environ), plan.schema)
    except Exception:
        return False


def _settings(paths: Paths, config: Path) -> Settings:
    """Load the restored configuration.

    Raises:
        ConfigError: it is not valid.
    """
    return load(dataclasses.replace(paths, config=config))


def _place(paths: Paths, settings: Settings, config: Path) -> _Place:
    reference = settings.register_password
    if reference is not None and reference.scheme == "file" and reference.name.startswith(f"{config}/"):
        # The configuration names the file relative to its final folder.
        reference = dataclasses.replace(reference, name=str(paths.config / Path(reference.name).relative_to(config)))
    url = settings.register_url
    return _Place(url=url, address=addresses.parse(url), reference=reference)


def _quiet(agents: Path, now: float) -> dict[str, int]:
    """Empty the agents' queues; return the incarnation up to which each journal counts as reported."""
    told = {}
    for folder in sorted(agents.iterdir()) if agents.is_dir() else ():
        if folder.is_dir() and (incarnation := restored_journal.quiet(folder, now)) is not None:
            told[folder.name] = incarnation
    return told


async def _settle(
    register: Path, identity: str, header: Header, places: Mapping[str, int], now: float
) -> tuple[EndedByRestore, tuple[str, ...]]:
    store = await Store.open(f"sqlite:///{register}", alone=True)
    try:
        async with store.write(SETTLE) as tx:
            settled = await restored_backup.settle(tx, identity, now=now, backup_at=header.made_at, places=places)
            people = tuple(f"{row.identity}: {row.permission}" for row in await operator_permissions.every(tx))
    finally:
        await store.close()
    return settled, people


def _plan(paths: Paths, drafts: _Drafts, place: _Place, name: str, ready: Path, workspaces: bool) -> SwapPlan:
    config, state = drafts.beside(paths.config) / contents.CONFIG, ready / contents.STATE
    if not config.exists():
        # The configuration may be in another file system.
        shutil.copytree(ready / contents.CONFIG, config)
    server = place.address if isinstance(place.address, addresses.ServerAddress) else None
    moves = atomic_swap.moves_of(paths.config, config, paths.config / name, contents.CONFIGURATION)
    there = {path.name for path in paths.state.iterdir()} | {path.name for path in state.iterdir()}
    names = {each for each in there if contents.belongs(each) or (workspaces and each == "workspaces")}
    if isinstance(place.address, addresses.FileAddress):
        file, own = place.address.file, contents.files_of(place.address.file.name)
        inside = contents.within(paths.state, file)
        above = inside.parts[0] if inside is not None and len(inside.parts) > 1 else None
        if inside is not None and above is not None and (above in names or contents.belongs(above)):
            # The register moves with its folder; moved separately, it would be moved away again with that folder.
            names.add(above)
            _lay_out(ready / contents.REGISTER, state / inside.parent, own)
        else:
            folder = file.parent if inside is None else paths.state / inside.parent
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = drafts.beside(folder) / "register"
            _lay_out(ready / contents.REGISTER, draft, own)
            moves += atomic_swap.moves_of(folder, draft, folder / name, own)
            names -= set(own) if folder == paths.state else set()
    moves += atomic_swap.moves_of(paths.state, state, paths.state / name, sorted(names))
    os.sync()  # what is moved to its place must be there after a power cut, too
    return SwapPlan(
        moves=tuple(move for move in moves if move.there or move.ready is not None),
        drafts=drafts.all(),
        server=None if server is None else place.url,
        reference=None if place.reference is None else str(place.reference),
        schema="" if server is None else name.replace("-", "_").lower(),
    )


@contextlib.contextmanager
def _unused(register: addresses.Address) -> Iterator[None]:
    """Keep other processes from using the register's file while it is moved; a server handles that itself.

    Another installation may use the same register, and does not hold this installation's lock. The register is not
    opened, because it may be damaged. Instead, this locks the bytes that SQLite locks while a register is open (the
    lock-byte page, https://www.sqlite.org/fileformat2.html).

    Raises:
        UserError: another process has it open.
    """
    file = register.file if isinstance(register, addresses.FileAddress) else None
    if file is None or not file.is_file():
        yield
        return
    with file.open("r+b") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, *_LOCK_BYTES)
        except (BlockingIOError, PermissionError) as error:
            raise UserError(
                f"The register {file} is open in another process, perhaps in another Muster installation. Stop it "
                "first (`muster down` there); nothing was changed.",
                code="register.in_use",
            ) from error
        yield


def _lay_out(register: Path, folder: Path, names: Sequence[str]) -> None:
    """Copy a register into `folder` under the first of `names`, and delete files under the other names."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in names:
        (folder / name).unlink(missing_ok=True)
    shutil.copyfile(register, folder / names[0])
    (folder / names[0]).chmod(0o600)
