"""Conversations that runtimes keep in a person's home, as they are begun in a terminal.

Claude Code keeps them in ``projects/FOLDER/ID.jsonl`` of its folder, Codex in ``sessions/YYYY/MM/DD/rollout-TIME-ID
.jsonl`` of its own, and pi in ``sessions/FOLDER/TIME_ID.jsonl``: one JSON object in a line. opencode has a database,
which is not read. Programs that a person ran may have written there, so everything is bounded, no link is followed, and
what cannot be read is left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from fleet.errors import FleetError
from fleet.runtimes import agent_home

#: The runtimes whose conversations are known: where they are below the person's home, the variable that names another
#: place, and how many folders deep they are.
_PLACES: Final[Mapping[str, tuple[str, str, str, int]]] = {
    "claude": (".claude", "CLAUDE_CONFIG_DIR", "projects", 1),
    "codex": (".codex", "CODEX_HOME", "sessions", 3),
    "pi": (".pi/agent", "PI_CODING_AGENT_DIR", "sessions", 1),
}
KNOWN: Final = tuple(_PLACES)
ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FILE: Final = re.compile(rf"(?:rollout-[0-9T:-]{{10,40}}-|[0-9TZ-]{{10,40}}_)?({ID.pattern})\.jsonl")
#: How many entries of folders, and how many conversations, are looked at.
_MOST_ENTRIES: Final = 20_000
MOST: Final = 200
#: Bytes of the beginning of a conversation that are read, and of one that is taken over.
_BEGINNING: Final = 256 * 1024
LARGEST: Final = 256 * 2**20
_FOLDER_CHARACTERS: Final = 4096
_WORDS_CHARACTERS: Final = 2000
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class UnknownSession(FleetError):
    """A runtime keeps no such conversation here."""

    code = "session.unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptSession:
    """One conversation. Its texts are whatever was written there."""

    id: str
    file: Path
    at: float
    """When it was written last, in seconds since the epoch."""
    size: int
    """Bytes."""
    folder: str | None = None
    """Where it was held; None: it does not say."""
    words: str = ""
    """The first that the person wrote; empty: not found at its beginning."""


def listed(runtime: str, home: Path, environ: Mapping[str, str]) -> tuple[list[KeptSession], bool]:
    """Return the conversations of a runtime that were written last, the newest first, and whether these are all.

    Args:
        runtime: its name.
        home: the person's.
        environ: may name another place.

    Raises:
        UnknownSession: Muster does not know where this runtime keeps any.
    """
    found, whole = _files(runtime, home, environ)
    found.sort(key=lambda each: (-each.at, each.id))
    return [_read(runtime, each) for each in found[:MOST]], whole and len(found) <= MOST


def find(runtime: str, id_: str, home: Path, environ: Mapping[str, str]) -> KeptSession:
    """Return the conversation with this id.

    Raises:
        UnknownSession: there is none, or it is too long to be taken over.
    """
    found, _ = _files(runtime, home, environ)
    newest = max((each for each in found if each.id == id_), key=lambda each: each.at, default=None)
    if newest is None:
        raise UnknownSession(
            f"{runtime} keeps no conversation {id_[:40]!r} here. `muster sessions {runtime}` lists those that it keeps."
        )
    if newest.size > LARGEST:
        raise UnknownSession(
            f"The conversation {id_} has {newest.size:,} bytes, and Muster takes over at most {LARGEST:,}. Begin "
            "another one."
        )
    return newest


def take_over(runtime: str, session: KeptSession, *, home: Path, cwd: Path) -> None:
    """Copy a conversation into an agent's home, where its runtime looks for it, unless it has it already.

    Args:
        runtime: its name.
        session: as `find` gave it.
        home: the agent's, in which it writes as it likes.
        cwd: where the agent works.

    Raises:
        FleetError: it cannot be copied.
    """
    folder, _, kept_in, deep = _PLACES[runtime]
    parts = session.file.parent.parts[-deep:]
    if runtime == "claude":
        # It finds a conversation by where it was held (Claude Code 2.1: every other character is a dash).
        parts = (re.sub(r"[^A-Za-z0-9]", "-", str(cwd.resolve())),)
    elif runtime == "pi":
        # Muster has it keep all conversations in one folder (`fleet/preload/pi.sh`).
        parts = ()
    name = PurePosixPath(folder, kept_in, *parts, session.file.name)
    if agent_home.modified(home, name) is not None:
        return
    content = _content(session.file, LARGEST)
    if content is None:
        raise UnknownSession(f"The conversation {session.id} cannot be read: {session.file}. Look at the file.")
    agent_home.place(home, name, _moved(content, cwd) if runtime == "pi" else content)


def _moved(content: bytes, cwd: Path) -> bytes:
    """Return a conversation of pi's as one that is held in another folder.

    It goes on in the folder that the first line names, and not where it is started (pi 0.87).
    """
    first, end, rest = content.partition(b"\n")
    try:
        header = json.loads(first)
    except (ValueError, RecursionError):
        return content
    if not isinstance(header, dict):
        return content
    return json.dumps({**header, "cwd": str(cwd)}).encode() + end + rest


def _files(runtime: str, home: Path, environ: Mapping[str, str]) -> tuple[list[KeptSession], bool]:
    """Return the files of conversations, and whether all folders were looked through."""
    if runtime not in _PLACES:
        raise UnknownSession(
            f"Muster does not know where {runtime} keeps conversations; it does of {', '.join(KNOWN[:-1])} and "
            f"{KNOWN[-1]}."
        )
    folder, variable, kept_in, deep = _PLACES[runtime]
    named = environ.get(variable)
    base = (Path(named) if named else home / folder) / kept_in
    left = [_MOST_ENTRIES]
    found = []
    for path, status in _walk(base, deep, left):
        match = _FILE.fullmatch(path.name)
        if match is not None and status.st_size > 0:
            found.append(KeptSession(id=match[1], file=path, at=status.st_mtime, size=status.st_size))
    return found, left[0] > 0


def _walk(folder: Path, deep: int, left: list[int]) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the plain files that are so deep below a folder; `left` counts the entries that may still be looked at."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            left[0] -= 1
            if left[0] <= 0:
                return
            with contextlib.suppress(OSError):
                if deep and entry.is_dir(follow_symlinks=False):
                    yield from _walk(Path(entry.path), deep - 1, left)
                elif not deep and entry.is_file(follow_symlinks=False):
                    yield Path(entry.path), entry.stat(follow_symlinks=False)


def _read(runtime: str, session: KeptSession) -> KeptSession:
    """Return a conversation with what its beginning says."""
    folder, words = None, ""
    for line in (_content(session.file, _BEGINNING) or b"").split(b"\n"):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(entry, dict):
            continue
        folder = folder or _text(_cwd(runtime, entry))[:_FOLDER_CHARACTERS] or None
        words = words or _words(runtime, entry)[:_WORDS_CHARACTERS].strip()
        if folder is not None and words:
            break
    return KeptSession(id=session.id, file=session.file, at=session.at, size=session.size, folder=folder, words=words)


def _cwd(runtime: str, entry: Mapping[str, Any]) -> object:
    return _mapping(entry.get("payload")).get("cwd") if runtime == "codex" else entry.get("cwd")


def _words(runtime: str, entry: Mapping[str, Any]) -> str:
    """Return what a person wrote, if this entry says that."""
    if runtime == "codex":
        payload = _mapping(entry.get("payload"))
        is_message = payload.get("type") == "message" and payload.get("role") == "user"
        return _plain(payload.get("content"), "input_text") if is_message else ""
    if runtime == "pi":
        message = _mapping(entry.get("message"))
        is_message = entry.get("type") == "message" and message.get("role") == "user"
        return _plain(message.get("content"), "text") if is_message else ""
    if entry.get("type") != "user" or entry.get("isMeta") is True or entry.get("isSidechain") is True:
        return ""
    return _plain(_mapping(entry.get("message")).get("content"), "text")


def _plain(content: object, kind: str) -> str:
    """Return the first text of a message's content. What the programs add themselves is between tags."""
    if isinstance(content, list):
        parts = [_mapping(part) for part in content]
        content = next((part.get("text") for part in parts if part.get("type") == kind), "")
    text = _text(content)
    return "" if text.lstrip().startswith("<") else text


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _content(path: Path, limit: int) -> bytes | None:
    """Return the beginning of a plain file; None if it cannot be read."""
    try:
        handle = os.open(path, _OPEN)
    except OSError:
        return None
    with open(handle, "rb") as file:
        try:
            return file.read(limit) if stat.S_ISREG(os.fstat(handle).st_mode) else None
        except OSError:
            return None
