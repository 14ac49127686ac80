"""Updates of the operator's files that Muster created.

An update compares three contents: the default when the file was written, the default now, and the current file. It
never changes a file that the operator edited. If the default has changed as well, the new default is written beside the
file under another name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from bot.config.loader import check
from bot.config.paths import Paths
from bot.setup import systemd_units, wizard
from bot.setup.wizard_chat import WizardAnswers
from fleet import roles
from fleet.hosting import NotHosted, systemd

#: In the state folder: the files that `muster init` wrote, and the answers behind them.
RECORD: Final = "seeds.json"
#: The suffix of a new default that is written beside an edited file.
BESIDE: Final = ".new"

Verdict: TypeAlias = Literal["leave", "replace", "conflict"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileChange:
    """A file to write."""

    path: str
    content: str
    verdict: Verdict
    """replace: overwrite the file itself; conflict: write beside it."""


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def decide(before: str | None, now: str | None, yours: str | None) -> Verdict:
    """Decide what an update does with a file.

    Args:
        before: digest of the earlier default; None if unknown, or if there was none.
        now: digest of the default now.
        yours: digest of the current file; None if it does not exist, and is therefore not wanted.
    """
    if yours is None or now is None or before is None or now in (before, yours):
        return "leave"
    return "replace" if yours == before else "conflict"


def merge(before: str | None, now: str | None, yours: str, old: str, new: str) -> tuple[Verdict, str]:
    """Decide what an update does with a systemd unit, and return its content.

    If only the interpreter changed, it is replaced in an edited unit as well.

    Args:
        before: what the earlier version would have written here.
        now: what this version would write.
        yours: the current content.
        old: the earlier version's interpreter.
        new: this version's interpreter.
    """
    if before is None or now is None or now == yours:
        return "leave", yours
    if yours == before:
        return "replace", now
    moved = [text.replace(f'"{old}"', f'"{new}"') for text in (before, yours)]
    if moved[0] == now:
        return ("leave", yours) if moved[1] == yours else ("replace", moved[1])
    return "conflict", now


def shipped_units(paths: Paths, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the systemd units that this version would write for the installation, by name."""
    roster = check(paths).roster
    try:
        agents = systemd_units.of_agents(paths, () if roster is None else roster.agents)
        return {**agents, **systemd_units.of_orchestrator(paths, environ)}
    except NotHosted:
        return {}


def unit_changes(paths: Paths, environ: Mapping[str, str], before: Mapping[str, str], old: str) -> list[FileChange]:
    """Return the changes to the installation's units between an earlier version and this one.

    Args:
        paths: the installation.
        environ: the environment; a unit contains some of its variables.
        before: `shipped_units` of the earlier version, in the same environment.
        old: the earlier version's interpreter.
    """
    now, found = shipped_units(paths, environ), []
    for name, yours in systemd_units.present(paths, orchestrator=True)[0].items():
        verdict, content = merge(before.get(name), now.get(name), yours, old, sys.executable)
        path = systemd.folder() / (f"{name}{BESIDE}" if verdict == "conflict" else name)
        if verdict != "leave" and _content(path) != content:
            found.append(FileChange(path=str(path), content=content, verdict=verdict))
    return found


def remember(paths: Paths, answers: WizardAnswers) -> None:
    """Record what `muster init` wrote. If the record cannot be written, updates leave these files unchanged."""
    record = {
        "answers": asdict(answers),
        "files": {
            paths.muster_yaml.name: digest(wizard.muster_yaml(answers)),
            paths.roster_yaml.name: digest(wizard.roster_yaml(answers)),
        },
    }
    write_record(paths, record)


def write_record(paths: Paths, record: Mapping[str, Any]) -> None:
    """Replace the record atomically."""
    draft = paths.state / f"{RECORD}.part"
    with contextlib.suppress(OSError):
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(record, file)
        os.replace(draft, paths.state / RECORD)


def shipped_roles() -> dict[str, str]:
    """Return the digests of the roles that this version ships, by file name."""
    return {path.name: digest(path.read_text(encoding="utf-8")) for path in sorted(roles.SHIPPED.glob("*.md"))}


def changes(paths: Paths, roles_before: Mapping[str, str]) -> list[FileChange]:
    """Return the changes to the operator's files between an earlier version and this one.

    Args:
        paths: the installation.
        roles_before: `shipped_roles` of the earlier version.
    """
    found = []
    for path in sorted(roles.SHIPPED.glob("*.md")):
        found.append(_change(paths.roles / path.name, roles_before.get(path.name), path.read_text(encoding="utf-8")))
    record = read_record(paths)
    answers = _answers(record.get("answers"))
    if answers is not None:
        now = {paths.muster_yaml: wizard.muster_yaml(answers), paths.roster_yaml: wizard.roster_yaml(answers)}
        for path, content in now.items():
            found.append(_change(path, record["files"].get(path.name), content))
    return [change for change in found if change is not None]


def record_now(paths: Paths) -> dict[str, Any] | None:
    """Return the record as it is after the changes, or None if there is none."""
    record = read_record(paths)
    answers = _answers(record.get("answers"))
    if answers is None:
        return None
    now = {
        paths.muster_yaml.name: digest(wizard.muster_yaml(answers)),
        paths.roster_yaml.name: digest(wizard.roster_yaml(answers)),
    }
    return {"answers": asdict(answers), "files": now}


def read_record(paths: Paths) -> dict[str, Any]:
    """Return the record that `remember` wrote; empty if it is missing or unreadable."""
    try:
        found = json.loads((paths.state / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = isinstance(found, dict) and isinstance(found.get("files"), dict)
    return found if known else {}


def _change(path: Path, before: str | None, content: str) -> FileChange | None:
    yours = _content(path)
    verdict = decide(before, digest(content), None if yours is None else digest(yours))
    if verdict == "leave":
        return None
    if verdict == "conflict":
        path = path.with_name(f"{path.name}{BESIDE}")
        if _content(path) == content:
            return None  # it was laid there before
    return FileChange(path=str(path), content=content, verdict=verdict)


def _content(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _answers(source: object) -> WizardAnswers | None:
    if not isinstance(source, dict):
        return None
    names = {field.name for field in fields(WizardAnswers)}
    known: dict[str, Any] = {key: value for key, value in source.items() if key in names}
    known["operators"] = tuple(known.get("operators") or ())
    known["accounts"] = tuple(known.get("accounts") or ())
    try:
        made = WizardAnswers(**known)
        wizard.roster_yaml(made)
    except (TypeError, OSError, ValueError):
        return None  # of another version, whose questions were others
    return made
