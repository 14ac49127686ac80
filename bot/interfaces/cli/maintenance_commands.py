"""Backups, restores and updates, in a shell."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot.config.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Callable

    from bot.maintenance.backup.restore import Restored
    from bot.maintenance.backup.service import Backup
    from bot.maintenance.update.relaunch import Relaunched
    from bot.maintenance.update.service import Updated, UpdateOffer

#: Lines of a list that are shown to people; JSON contains all of them.
_SHOWN = 10


def _ticker() -> tuple[Callable[[str], None], Callable[[], None]]:
    """What shows how far a command is, where somebody looks, and what takes it away."""
    from shutil import get_terminal_size

    from bot.text.markdown import one_line

    def show(text: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\033[K{one_line(text, get_terminal_size().columns - 1)}", nl=False, err=True)

    def clear() -> None:
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)

    return show, clear


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--workspaces", is_flag=True, help="Include agents' workspaces, which may be large.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer for programs.")
def backup(file: Path | None, workspaces: bool, as_json: bool) -> int:
    """Write a backup of this installation into one file, whether Muster runs or not.

    FILE: the file, or a folder for a file named by date. Default: the folder backups in the state folder.

    A backup contains the logins of chat and runtimes. Protect it like a password.
    """
    import asyncio
    import json

    from bot.maintenance.backup.service import backup as make

    show, clear = _ticker()
    try:
        made = asyncio.run(
            make(Paths.of(os.environ), os.environ, now=time.time(), target=file, workspaces=workspaces, progress=show)
        )
    finally:
        clear()
    click.echo(json.dumps(_backup_json(made), indent=2) if as_json else _backup_text(made))
    return 0


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the answer for programs.")
def backup_restore(file: Path, as_json: bool) -> int:
    """Restore a backup: its state replaces the current one, which is kept beside it.

    FILE: the backup.

    Muster and its agents must be stopped. Chat messages written since the backup are not acted on again.
    """
    import asyncio
    import json

    from bot.maintenance.backup.restore import restore as put_back

    show, clear = _ticker()
    try:
        done = asyncio.run(put_back(Paths.of(os.environ), os.environ, file, now=time.time(), progress=show))
    finally:
        clear()
    click.echo(json.dumps(_restored_json(done), indent=2) if as_json else _restored_text(done))
    return 0


@click.command()
@click.option("--check", "only_check", is_flag=True, help="Show whether there is a newer version, and change nothing.")
@click.option(
    "--from",
    "place",
    metavar="WHEEL",
    help="Install this file or address. Default: the newest version in the package index.",
)
@click.option("--no-reseed", is_flag=True, help="Keep all roles, presets and settings as they are.")
@click.option("--relaunch", is_flag=True, help="Restart the orchestrator at once, and agents when their turn ends.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer for programs.")
def update(only_check: bool, place: str | None, no_reseed: bool, relaunch: bool, as_json: bool) -> int:
    """Install a newer version beside the current one, and switch to it.

    Running processes keep their version until they restart. If a step fails, nothing changes.
    """
    import asyncio
    import json

    from bot.maintenance.update import packages
    from bot.maintenance.update import service as updating
    from core.errors import MusterError

    if only_check and (relaunch or no_reseed):
        raise click.UsageError("--check changes nothing; leave --relaunch and --no-reseed out.")
    options = updating.Options(place=place, reseed=not no_reseed)
    if only_check:
        offer = updating.check(options)
        click.echo(json.dumps(_offer_json(offer), indent=2) if as_json else _offer_text(offer))
        return 0
    show, clear = _ticker()
    paths = Paths.of(os.environ)
    done: Updated | UpdateOffer | None = None
    again: Relaunched | None = None
    problem: MusterError | None = None
    try:
        try:
            done = asyncio.run(updating.update(paths, os.environ, options, now=time.time(), progress=show))
        except packages.VersionsUnknown as error:
            if not relaunch or place is not None:
                raise
            problem = error  # what is here already can be gone over to all the same
        if relaunch:
            from bot.maintenance.update.relaunch import relaunch as start_anew

            try:
                again = start_anew(paths, progress=show)
            except MusterError as error:
                problem = error  # the update is done; what is to be known of it is said first
    finally:
        clear()
    if done is not None or (again is not None and again.began):
        click.echo(json.dumps(_gone_over_json(done, again), indent=2) if as_json else _gone_over_text(done, again))
        if done is None:
            click.echo("Muster could not find out whether there is a newer version.", err=True)
            problem = None
    if problem is not None:
        raise problem
    return 1 if again is not None and again.refused else 0


# --- output ----------------------------------------------------------------------------------------------------------


def _backup_json(made: Backup) -> dict[str, object]:
    from bot.text.timestamps import timestamp

    return {
        "file": str(made.written.file),
        "bytes": made.written.size,
        "files": made.written.files,
        "muster": made.header.muster,
        "schema": made.header.schema,
        "made_at": timestamp(made.header.made_at),
        "rows": sum(made.header.rows.values()),
        "workspaces": made.header.workspaces,
        "left_out": list(made.written.left_out),
        "changed": list(made.written.changed),
    }


def _backup_text(made: Backup) -> str:
    rows = sum(made.header.rows.values())
    lines = [
        f"Wrote {made.written.file}: {made.written.files} files, {rows} rows of the register, "
        f"{_size(made.written.size)}. It holds the logins of chat and runtimes; keep it where only you can read."
    ]
    if not made.header.workspaces:
        lines.append("Workspaces are not in it; with --workspaces they are.")
    if made.written.changed:
        lines.append(_list("Written to while they were copied, by agents that run", made.written.changed))
    if made.written.left_out:
        lines.append(_list("Left out", made.written.left_out))
    return "\n".join(lines)


def _restored_json(done: Restored) -> dict[str, object]:
    from bot.text.timestamps import timestamp

    settled = done.settled
    return {
        "made_at": timestamp(done.header.made_at),
        "muster": done.header.muster,
        "kept": list(done.kept),
        "workspaces": done.workspaces,
        "ended": {
            "events": settled.events,
            "commands": settled.commands,
            "messages": settled.messages,
            "approvals": settled.approvals,
            "runs": settled.runs,
            "tasks": settled.tasks,
            "questions": settled.questions,
            "authorizations": settled.authorizations,
        },
        "looked_for": settled.looked_for,
        "stopped": list(settled.agents),
        "permissions": list(done.permissions),
        "keyless": list(done.keyless),
    }


def _restored_text(done: Restored) -> str:
    from bot.text.timestamps import timestamp

    settled = done.settled
    lines = [f"Restored the backup of {timestamp(done.header.made_at)} by Muster {done.header.muster}."]
    if done.kept:
        lines.append(f"What was here is kept in {' and '.join(done.kept)}. Delete it when you do not miss anything.")
    lines.append(
        "Nothing is done twice: Muster ignores what was written in chat before this moment, and tells each "
        "conversation so once. Write again what is still needed."
    )
    under_way = [
        f"{count} {what}"
        for count, what in (
            (settled.events, "chat events"),
            (settled.commands, "commands"),
            (settled.messages, "messages to agents (uncertain: `muster dead-letters` lists them)"),
            (settled.approvals, "permission requests"),
            (settled.runs, "runs (failed: `muster runs` lists them)"),
            (settled.tasks, "tasks (failed: `muster tasks --all` lists them)"),
            (settled.questions, "questions"),
            (settled.authorizations, "authorizations to spend faster"),
        )
        if count
    ]
    if under_way:
        lines.append(f"Under way when the backup was made, and ended: {', '.join(under_way)}.")
    if settled.looked_for:
        lines.append(f"{settled.looked_for} messages to chat waited then; each is sent only if it is not there yet.")
    if settled.agents:
        lines.append(
            f"Stopped: {', '.join(settled.agents)}. `muster up` starts those that the roster calls persistent."
        )
    if done.permissions:
        lines.append(
            f"Permissions given by command are those of the backup; check them: {', '.join(done.permissions)}."
        )
    if not done.workspaces:
        lines.append("Workspaces were not in it and are as they were.")
    if done.keyless:
        lines.append(
            f"The keys of encrypted rooms are in no backup, and those of {', '.join(done.keyless)} are not here: the "
            "bot needs a new log-in before it connects. `muster health` says how once Muster runs."
        )
    return "\n".join(lines)


def _offer_json(offer: UpdateOffer) -> dict[str, object]:
    return {"installed": offer.installed, "found": offer.found, "newer": offer.newer}


def _offer_text(offer: UpdateOffer) -> str:
    if offer.newer:
        return f"There is {offer.found}; {offer.installed} is installed. `muster update` goes over to it."
    return f"No version is newer: {offer.installed} is installed, and there is {offer.found}."


def _updated_json(done: Updated) -> dict[str, object]:
    return {
        "before": done.before,
        "after": done.after,
        "backup": done.backup,
        "replaced": list(done.replaced),
        "conflicts": list(done.conflicts),
        "notes": list(done.notes),
        "old": [{"agent": each.agent or None, "pid": each.pid, "version": each.version} for each in done.old],
    }


def _updated_text(done: Updated, *, relaunched: bool) -> str:
    saved = f" The backup from before is {done.backup}." if done.backup is not None else ""
    lines = [f"Updated from {done.before} to {done.after}.{saved}"]
    if done.replaced:
        lines.append(_list("Brought up to date, since nobody had edited them", done.replaced))
    if done.conflicts:
        lines.append(_list("Edited here and changed in the new version; compare, and then delete", done.conflicts))
    lines += done.notes
    if done.old and not relaunched:
        who = [f"{each.agent or 'the orchestrator'} (process {each.pid}, {each.version})" for each in done.old]
        lines.append(_list("Still running an older version", tuple(who)))
        lines.append("`muster update --relaunch` restarts them, each agent when its turn ends.")
    return "\n".join(lines)


def _gone_over_json(done: Updated | UpdateOffer | None, again: Relaunched | None) -> dict[str, object]:
    from bot.maintenance.update.service import UpdateOffer

    answer = {} if done is None else _offer_json(done) if isinstance(done, UpdateOffer) else _updated_json(done)
    return answer if again is None else answer | _relaunched_json(again)


def _gone_over_text(done: Updated | UpdateOffer | None, again: Relaunched | None) -> str:
    from bot.maintenance.update.service import UpdateOffer

    lines = []
    if done is not None:
        relaunched = again is not None
        lines.append(_offer_text(done) if isinstance(done, UpdateOffer) else _updated_text(done, relaunched=relaunched))
    if again is not None:
        lines.append(_relaunched_text(again))
    return "\n".join(lines)


def _relaunched_json(done: Relaunched) -> dict[str, object]:
    return {
        "relaunched": {
            "orchestrator": done.orchestrator,
            "egress": done.egress,
            "agents": list(done.agents),
            "refused": list(done.refused),
        }
    }


def _relaunched_text(done: Relaunched) -> str:
    lines = ["The orchestrator runs the new version now."] if done.orchestrator else []
    if done.egress:
        lines.append("The egress was stopped, and restarts with the new version.")
    if done.agents:
        lines.append(f"When their turn ends, these start again: {', '.join(done.agents)}.")
    if done.refused:
        lines.append(_list("Not started again", done.refused))
    return "\n".join(lines or ["Nothing runs another version."])


def _list(title: str, items: tuple[str, ...]) -> str:
    from bot.text.markdown import one_line

    more = [f"... and {len(items) - _SHOWN} more; --json lists all"] if len(items) > _SHOWN else []
    return "\n".join([f"{title}:", *(f"  {one_line(item, 200)}" for item in items[:_SHOWN]), *more])


def _size(count: int) -> str:
    if count < 2**20:
        return f"{count / 2**10:.0f} KiB"
    return f"{count / 2**20:.1f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"
