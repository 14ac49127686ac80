"""`muster update`: install a newer version beside the running one, and switch to it.

    find, install beside, survey by the new version, back up, switch files and link, migrate by the new version

Existing files change only at the switch, whose plan is written first (`bot.maintenance.atomic_swap`). The
register's schema decides the outcome. Once the new version has migrated it, the update is done; before that, it is
undone. New entries in the inbox, the outbox and the cursors are kept in either case.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bot.config.database import password
from bot.config.loader import load
from bot.config.paths import Paths
from bot.maintenance import atomic_swap, versions
from bot.maintenance.atomic_swap import Move, SwapPlan
from bot.maintenance.backup import contents
from bot.maintenance.backup.service import backup
from bot.maintenance.interruptible import to_the_end
from bot.maintenance.update import default_files, packages, running_versions
from bot.maintenance.update.migrate import PROTOCOL
from bot.maintenance.update.packages import UpdateCandidate
from bot.maintenance.update.running_versions import RunningVersion
from bot.text.errors import UserError
from core.crash_points import around, declare
from database.engine import schema_revision
from fleet.hosting import NotHosted, systemd

INSTALL = declare("update.install")

#: Seconds for the new version to survey, and to migrate.
_SURVEY_LIMIT: Final = 60.0
_MIGRATE_LIMIT: Final = 1800.0
_DRAFT: Final = ".update-"
#: Older versions to keep beside the current one, because processes may still run from them.
_KEPT: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateOffer:
    """The installed version, and the one that was found."""

    installed: str
    found: str
    newer: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Updated:
    """A completed update."""

    before: str
    after: str
    backup: str | None
    """The backup's path; None if there was no register yet."""
    replaced: tuple[str, ...]
    """Unedited files of the operator that were replaced by the new version's."""
    conflicts: tuple[str, ...]
    """New defaults that were written beside edited files."""
    old: tuple[RunningVersion, ...]
    """The processes that still run an older version."""
    notes: tuple[str, ...] = ()
    """What the operator still has to do, a sentence each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Options of an update."""

    place: str | None = None
    """A wheel's path or URL; None for the newest version in the package index."""
    reseed: bool = True
    with_pip: bool = True


def check(options: Options) -> UpdateOffer:
    """Return the installed version and the newest one. Nothing is changed.

    Raises:
        UserError: the newest version cannot be determined.
    """
    found, installed = packages.find(options.place).version, packages.ours()
    return UpdateOffer(installed=installed, found=found, newer=versions.is_newer(found, installed))


async def update(
    paths: Paths,
    environ: Mapping[str, str],
    options: Options,
    *,
    now: float,
    progress: Callable[[str], None] = lambda _: None,
) -> Updated | UpdateOffer:
    """Update to the newest version, or return an `UpdateOffer` if the installed version is not older.

    Raises:
        UserError: the update failed; the message says why, and nothing has changed.
        RegisterError: the register cannot be used.
    """
    sources = packages.checkout()
    if sources is not None and options.place is None:
        raise UserError(
            f"This Muster runs from its sources in {sources}: `git pull` there, and then `make .venv/.installed`, "
            "updates it. With --from, a version is installed beside it.",
            code="update.not_a_package",
        )
    paths.prepare()
    load(paths)
    await atomic_swap.settle(paths, environ)
    progress("looking for a newer version")
    candidate = await asyncio.to_thread(packages.find, options.place)
    installed = packages.ours()
    if not versions.is_newer(candidate.version, installed):
        return UpdateOffer(installed=installed, found=candidate.version, newer=False)
    return await go_to(paths, environ, candidate, options, now=now, progress=progress)


async def go_to(
    paths: Paths,
    environ: Mapping[str, str],
    candidate: UpdateCandidate,
    options: Options,
    *,
    now: float,
    progress: Callable[[str], None] = lambda _: None,
) -> Updated:
    """Update to `candidate`, as `update` does once it has found a version."""
    installed = packages.ours()
    with atomic_swap.at_work(paths) as descriptor, _explained():
        _sweep(paths)
        progress(f"installing {candidate.version} beside {installed}")
        prefix = await asyncio.to_thread(_install, paths, candidate, with_pip=options.with_pip)
        survey = await asyncio.to_thread(_survey, paths, prefix, reseed=options.reseed)
        settings = load(paths)
        before = await schema_revision.of(settings.register_url, password=password(settings.register_password, environ))
        saved = None
        if before is not None:
            progress("backing up")
            made = await backup(paths, environ, now=now, progress=progress)
            before, saved = made.header.schema, str(made.written.file)
        progress("going over")
        await to_the_end(_go_over(paths, environ, prefix, survey, before or "", descriptor))
        _remove_old(paths)
    changes = survey["changes"]
    notes = await asyncio.to_thread(_reload_units, [each["path"] for each in changes])
    return Updated(
        before=installed,
        after=candidate.version,
        backup=saved,
        replaced=tuple(each["path"] for each in changes if each["verdict"] == "replace"),
        conflicts=tuple(each["path"] for each in changes if each["verdict"] == "conflict"),
        old=tuple(each for each in running_versions.running(paths) if not each.is_of(prefix)),
        notes=notes,
    )


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        way_out = "Make room on its disk." if error.errno in contents.NO_ROOM else "Check owner and mode."
        raise UserError(
            f"Muster was not updated: {error.strerror or error}{where}. {way_out} The old version is still in use.",
            code="update.failed",
        ) from error


# --- the steps -------------------------------------------------------------------------------------------------------


def _install(paths: Paths, candidate: UpdateCandidate, *, with_pip: bool) -> Path:
    prefix = versions.folder(paths, candidate.version)
    if _stands(paths, prefix, candidate):
        return prefix
    prefix.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.rmtree(prefix, ignore_errors=True)
    try:
        packages.install(candidate, prefix, with_pip=with_pip)
        said = _ask(prefix, ["bot", "--version"], "", _SURVEY_LIMIT, {"MUSTER_STAY": "1"})
        if said.strip() != f"muster {candidate.version}":
            raise UserError(
                f"Version {candidate.version} was installed, but calls itself {said.strip()[:80]!r}.",
                code="update.failed",
            )
        with around(INSTALL):
            mark = prefix / versions.COMPLETE
            about = {"version": candidate.version, "at": time.time(), "sha256": candidate.digest}
            mark.write_text(json.dumps(about), encoding="utf-8")
    except BaseException:
        shutil.rmtree(prefix, ignore_errors=True)
        raise
    return prefix


def _stands(paths: Paths, prefix: Path, candidate: UpdateCandidate) -> bool:
    """Return whether the same file was installed before; a version can be built again with other content."""
    try:
        found = json.loads((prefix / versions.COMPLETE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    same = candidate.digest is None or (isinstance(found, dict) and found.get("sha256") in (None, candidate.digest))
    return same or running_versions.runs(paths, prefix)


def _survey(paths: Paths, prefix: Path, *, reseed: bool) -> dict[str, Any]:
    request = json.dumps(
        {
            "protocol": PROTOCOL,
            "roles": default_files.shipped_roles(),
            "units": default_files.shipped_units(paths, os.environ),
            "python": sys.executable,
        }
    )
    said = _ask(prefix, ["bot.maintenance.update.migrate", "survey"], request, _SURVEY_LIMIT, _home(paths))
    try:
        answer: dict[str, Any] = json.loads(said)
        if answer["protocol"] != PROTOCOL:
            raise UserError(
                f"Version {prefix.name} cannot be reached from this one in one step: install one between them first.",
                code="update.too_far",
            )
        schema, problems, changes = str(answer["schema"]), list(answer["problems"]), list(answer["changes"])
        changes = [{key: str(each[key]) for key in ("path", "content", "verdict")} for each in changes]
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"Version {prefix.name} does not say what it would change ({error!r}).", code="update.failed"
        ) from error
    if problems:
        lines = "\n".join(str(line) for line in problems)
        raise UserError(
            f"Version {prefix.name} would not take the configuration as it is:\n\n{lines}", code="config.invalid"
        )
    for each in changes:
        inside = Path(each["path"]).parent in (paths.config, paths.roles, systemd.folder())
        if not inside or each["verdict"] not in ("replace", "conflict"):
            raise UserError(
                f"Version {prefix.name} would change {each['path'][:200]!r}, which it may not change.",
                code="update.failed",
            )
    record = answer.get("record")
    return {"schema": schema, "changes": changes if reseed else [], "record": record if reseed else None}


async def _go_over(
    paths: Paths, environ: Mapping[str, str], prefix: Path, survey: Mapping[str, Any], before: str, descriptor: int
) -> None:
    settings = load(paths)
    reference = settings.register_password
    plan = await asyncio.to_thread(
        _plan, paths, prefix, survey, settings.register_url, None if reference is None else str(reference), before
    )
    try:
        await asyncio.to_thread(atomic_swap.begin, paths, plan)
        await asyncio.to_thread(
            _ask,
            prefix,
            ["bot.maintenance.update.migrate", "migrate"],
            "{}",
            _MIGRATE_LIMIT,
            _home(paths),
            (descriptor,),
        )
    except BaseException as error:
        if not await atomic_swap.decided(plan, environ):
            await asyncio.to_thread(atomic_swap.undo, paths, plan)
            if isinstance(error, OSError):
                raise UserError(
                    f"Muster was not updated: {error.strerror or error}. The old version and settings are back.",
                    code="update.failed",
                ) from error
            raise
        # Only the new version can use the migrated register, whatever error occurred afterwards.
    await asyncio.to_thread(atomic_swap.finish, paths, plan)


def _reload_units(changed: Sequence[str]) -> tuple[str, ...]:
    """Make systemd read changed units; if it cannot be reached, return what to do."""
    if not any(Path(path).parent == systemd.folder() and path.endswith(".service") for path in changed):
        return ()
    try:
        systemd.systemctl(["daemon-reload"])
    except NotHosted as error:
        return (f"{error} When that is fixed, run `systemctl --user daemon-reload`.",)
    return ()


def _plan(
    paths: Paths, prefix: Path, survey: Mapping[str, Any], register: str, reference: str | None, before: str
) -> SwapPlan:
    identity = secrets.token_hex(4)
    moves, drafts = [], []

    def add(target: Path, content: str | None) -> None:
        folder = target.parent / f"{_DRAFT}{identity}"
        drafts.append(str(folder))
        ready, kept = folder / "ready" / target.name, folder / "kept" / target.name
        ready.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if content is None:
            ready.symlink_to(Path("versions") / prefix.name)
        else:
            ready.write_text(content, encoding="utf-8")
            ready.chmod(0o600)
        there = os.path.lexists(target)
        moves.append(Move(target=str(target), ready=str(ready), kept=str(kept), there=there, over=True))

    for change in survey["changes"]:
        add(Path(change["path"]), change["content"])
    if survey["record"] is not None:
        add(paths.state / default_files.RECORD, json.dumps(survey["record"]))
    add(paths.state / "current", None)
    # If the schema does not change, only deleting the plan decides.
    goal = survey["schema"] if survey["schema"] != before else ""
    return SwapPlan(
        moves=tuple(moves),
        drafts=tuple(dict.fromkeys(drafts)),
        register=register,
        reference=reference,
        revision=goal,
    )


def _ask(
    prefix: Path, words: list[str], request: str, limit: float, more: Mapping[str, str], keep: tuple[int, ...] = ()
) -> str:
    """Run a module of another version and return its output.

    Raises:
        UserError: it failed; the message contains its error output.
    """
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONHOME"}
    try:
        done = subprocess.run(
            [str(versions.python_of(prefix)), "-P", "-m", *words],
            input=request.encode(),
            capture_output=True,
            timeout=limit,
            check=False,
            env={**environ, **more},
            cwd="/",
            pass_fds=keep,
            start_new_session=True,  # Ctrl-C is for us
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"Version {prefix.name} did not answer within {limit:.0f} s.", code="update.failed") from None
    except OSError as error:
        raise UserError(f"Version {prefix.name} cannot be run: {error.strerror}.", code="update.failed") from error
    if done.returncode:
        words_ = done.stderr.decode(errors="replace").strip()[-1500:]
        raise UserError(
            f"Version {prefix.name} failed. The old one goes on. Its output:\n\n{words_ or '(none)'}",
            code="update.failed",
        )
    return done.stdout.decode(errors="replace")


def _home(paths: Paths) -> dict[str, str]:
    return {} if paths.home is None else {"MUSTER_HOME": str(paths.home)}


# --- cleanup ---------------------------------------------------------------------------------------------------------


def _sweep(paths: Paths) -> None:
    """Remove the leftovers of interrupted updates."""
    for folder in (paths.state, paths.config, paths.roles, systemd.folder()):
        for left in folder.glob(f"{_DRAFT}*"):
            shutil.rmtree(left, ignore_errors=True)
    with contextlib.suppress(OSError):
        for prefix in (paths.state / "versions").iterdir():
            if not (prefix / versions.COMPLETE).is_file():
                shutil.rmtree(prefix, ignore_errors=True)


def _remove_old(paths: Paths) -> None:
    """Remove versions that are older than the kept ones and that no process runs."""
    for prefix in versions.standing(paths)[: -1 - _KEPT]:
        if (
            prefix != versions.current(paths)
            and not versions.runs_here(prefix)
            and not running_versions.runs(paths, prefix)
        ):
            shutil.rmtree(prefix, ignore_errors=True)
