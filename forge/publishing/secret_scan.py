"""The search for secrets in every commit of a branch: what is read, and what is told of it.

Only added lines count: those that the file did not have before the commit. The search itself runs in a process of its
own (`forge.publishing.secret_scanner`), in a sandbox without network, with bounded time and memory. If it does not come
to an end, the branch is not pushed.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core import redaction
from core.secret_values import SecretValues
from fleet.workspace import sandboxed_git
from forge.publishing import secret_scanner
from forge.publishing.checks import shown
from forge.publishing.errors import ScannerMissing
from forge.publishing.findings import FindingKind, PublishingFinding
from forge.publishing.listing_reader import ChangedContent

_LIBRARIES: Final = ("detect_secrets", "requests", "yaml", "urllib3", "certifi", "charset_normalizer", "idna")
_SCANNER: Final = Path(secret_scanner.__file__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanSettings:
    """How a branch is searched for secrets."""

    key: bytes
    """The installation's own, 16 to 64 bytes. Marks are made with it, so that nobody can guess a secret by its mark."""
    baseline: bytes | None = None
    """``.secrets.baseline`` of the base. One that the agent changed is never read."""
    allowed_marks: frozenset[str] = frozenset()
    """Marks of what an operator declared to be no secrets."""
    known: SecretValues | None = None
    """Secrets that Muster itself holds. They must never be pushed."""
    seconds: int = 120
    memory_bytes: int = 1024**3
    most_characters: int = 64 * 1000**2
    """Added text of a branch that is searched."""


def scan(
    contents: Iterable[ChangedContent], settings: ScanSettings, *, given_up: Callable[[], bool] = lambda: False
) -> tuple[PublishingFinding, ...]:
    """Search the added lines of files for secrets.

    Raises:
        ScannerMissing: detect-secrets is not installed.
        RuntimeMissing: bubblewrap is not installed.
        GivenUp: nobody waits for it any more.
    """
    folders = _folders()
    found: list[PublishingFinding] = []
    files: list[ChangedContent] = []
    lines = [json.dumps({"key": settings.key.hex(), "forms": redaction.known_formats()})]
    held = 0
    for content in contents:
        found += _known(content, settings.known)
        added = added_lines(content.old, content.new)
        if not added:
            continue
        held += sum(len(text) for _, text in added)
        if held > settings.most_characters:
            found.append(_unscanned("The commits have too much text"))
            break
        files.append(ChangedContent(commit=content.commit, path=content.path, old=b"", new=b""))
        path = content.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        lines.append(json.dumps({"path": path, "lines": added}))
    if files:
        found += _searched(files, lines, settings, folders, given_up)
    return tuple(found)


def added_lines(old: bytes, new: bytes) -> list[tuple[int, str]]:
    """Return the lines, with their numbers from 1, that a file has and that it did not have before. Pure.

    Text in UTF-16 is read like any other, because the zeros in it are left out.
    """
    before = set(_lines(old))
    return [(number, text) for number, text in enumerate(_lines(new), start=1) if text.strip() and text not in before]


def _lines(content: bytes) -> list[str]:
    return content.replace(b"\0", b"").decode("utf-8", "replace").replace("\r", "\n").split("\n")


def _known(content: ChangedContent, known: SecretValues | None) -> Iterator[PublishingFinding]:
    if known is None:
        return
    for begin, _ in known.spans(content.new)[:1]:
        line = content.new.count(b"\n", 0, begin) + 1
        yield PublishingFinding(
            kind=FindingKind.SECRET,
            sentence=f"{shown(content.path)} has a secret of Muster's on line {line}. Remove it from every commit, and "
            "tell an operator, who has to replace it.",
            commit=content.commit,
            path=content.path,
            line=line,
        )


def _searched(
    files: list[ChangedContent],
    lines: list[str],
    settings: ScanSettings,
    folders: tuple[Path, ...],
    given_up: Callable[[], bool],
) -> Iterator[PublishingFinding]:
    program = (
        *(str(Path(sys.executable).resolve()), "-I", "-S", "-B", str(_SCANNER)),
        *(str(settings.memory_bytes), str(settings.seconds), *map(str, folders)),
    )
    command = sandboxed_git.inside(program, readonly=(_SCANNER, *folders), cwd=Path("/"))
    try:
        done = sandboxed_git.run(
            command, timeout_s=settings.seconds, told=("\n".join(lines) + "\n").encode(), given_up=given_up
        )
    except sandboxed_git.GivenUp:
        raise
    except sandboxed_git.GitFailed as error:
        yield _unscanned("It took too long" if error.late else "It said too much")
        return
    output = done.said.splitlines()
    if done.status != 0 or not output or output[-1] != "done":
        yield _unscanned("It ended early, perhaps because a file needs too much time or memory")
    accepted = _accepted(settings.baseline)
    for line in output:
        try:
            secret = json.loads(line)
            file, number, kind, mark = files[secret["file"]], int(secret["line"]), str(secret["kind"]), secret["mark"]
        except (ValueError, TypeError):
            # The last word, or one that was cut off.
            continue
        if mark in settings.allowed_marks or any((file.path, each) in accepted for each in secret["sha1"]):
            continue
        yield PublishingFinding(
            kind=FindingKind.SECRET,
            sentence=f"{shown(file.path)} has what looks like a secret on line {number} ({kind}). Remove it from every "
            f"commit, also where a later one removes it. If it is none, an operator can allow {mark}.",
            commit=file.commit,
            path=file.path,
            line=number,
            mark=mark,
        )


def _unscanned(why: str) -> PublishingFinding:
    return PublishingFinding(
        kind=FindingKind.UNSCANNED,
        sentence=f"The search for secrets did not come to an end. {why}. Nothing is pushed without it: leave out files "
        "that are large or have very long lines.",
    )


def _accepted(baseline: bytes | None) -> frozenset[tuple[str, str]]:
    """Return path and SHA-1 of what a baseline lists; nothing if it is not valid."""
    try:
        results = json.loads(baseline or b"{}").get("results", {})
        return frozenset((path, str(entry["hashed_secret"])) for path, entries in results.items() for entry in entries)
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return frozenset()


def _folders() -> tuple[Path, ...]:
    """Return where detect-secrets and what it needs are installed."""
    folders: dict[Path, None] = {}
    for name in _LIBRARIES:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise ScannerMissing
        folders[Path(found.origin).parent.parent.resolve()] = None
    return tuple(folders)
