"""Files of the operator's that began as ours: what an update does with each of them.

Three are compared: what was shipped when it was written, what is shipped now, and what is there. What the operator has
edited is never touched; where the shipped one has changed as well, it is laid beside it under another name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from bot.config.loader import check
from bot.setup import systemd_units, wizard
from fleet import roles
from fleet.hosting import NotHosted, systemd

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bot.config.paths import Paths
    from bot.setup.wizard import WizardAnswers

#: In the state folder: what `muster init` wrote, and from which answers.
RECORD: Final = "seeds.json"
#: What a conflict is laid beside it as.
BESIDE: Final = ".new"

Verdict: TypeAlias = Literal["leave", "replace", "conflict"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileChange:
    """What is to be written."""

    path: str
    content: str
    verdict: Verdict
    """replace: the file itself; conflict: beside it."""


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def decide(before: str | None, now: str | None, yours: str | None) -> Verdict:
    """Return what happens to a file.

    Args:
        before: what was shipped, as a digest; None: not known, or nothing was.
        now: what is shipped.
        yours: what is there; None: nothing, and then it is not wanted.
    """
    if yours is None or now is None or before is None or now in (before, yours):
        return "leave"
    return "replace" if yours == before else "conflict"


def merge(before: str | None, now: str | None, yours: str, old: str, new: str) -> tuple[Verdict, str]:
    """Return what happens to a systemd unit, and what it says then.

    Where nothing but the interpreter has moved, it moves in what the operator edited as well.

    Args:
        before: what the earlier version would have written here.
        now: what this one would.
        yours: what there is.
        old: the earlier version's interpreter.
        new: this one's.
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
    """Return the systemd units that this version would write for the installation, by their names."""
    roster = check(paths).roster
    try:
        agents = systemd_units.of_agents(paths, () if roster is None else roster.agents)
        return {**agents, **systemd_units.of_orchestrator(paths, environ)}
    except NotHosted:
        return {}


def unit_changes(paths: Paths, environ: Mapping[str, str], before: Mapping[str, str], old: str) -> list[FileChange]:
    """Return what the step from an earlier version to this one changes in the units of this installation.

    Args:
        paths: the installation.
        environ: of which a unit names some variables.
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
    """Note what `muster init` wrote. A note that cannot be written only means that an update leaves the files alone."""
    record = {
        "answers": asdict(answers),
        "files": {
            paths.muster_yaml.name: digest(wizard.muster_yaml(answers)),
            paths.roster_yaml.name: digest(wizard.roster_yaml(answers)),
        },
    }
    write_record(paths, record)


def write_record(paths: Paths, record: Mapping[str, Any]) -> None:
    """Replace the record, whole or not at all."""
    draft = paths.state / f"{RECORD}.part"
    with contextlib.suppress(OSError):
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(record, file)
        os.replace(draft, paths.state / RECORD)


def shipped_roles() -> dict[str, str]:
    """Return the digests of the roles that this version ships, by the names of their files."""
    return {path.name: digest(path.read_text(encoding="utf-8")) for path in sorted(roles.SHIPPED.glob("*.md"))}


def changes(paths: Paths, roles_before: Mapping[str, str]) -> list[FileChange]:
    """Return what the step from an earlier version to this one changes in the operator's files.

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
    """Return the record as it is once the changes are made; None: there is none."""
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
    """Return what `remember` noted; empty where nothing is known."""
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
    names = {field.name for field in fields(wizard.WizardAnswers)}
    known: dict[str, Any] = {key: value for key, value in source.items() if key in names}
    known["operators"] = tuple(known.get("operators") or ())
    try:
        made = wizard.WizardAnswers(**known)
        wizard.roster_yaml(made)
    except (TypeError, OSError, ValueError):
        return None  # of another version, whose questions were others
    return made
