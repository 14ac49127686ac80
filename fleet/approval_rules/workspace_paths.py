"""Which files a rule covers: globs, the workspace's border, and files that no rule opens for edits.

Paths are resolved before they are compared: each symbolic link is followed, as far as the path exists. That is true at
the moment of the question. A program that runs meanwhile can put a link in the place of a folder before the runtime
opens the path, and a hard link has no other name to compare, so a file with several names is never edited by a rule.
Neither link can be made without a command that somebody allowed. What must hold even so needs a sandbox.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

#: Files and folders, at any depth, from which programs are started without a further question, or which say what an
#: agent may do: git's own folder, folders of hooks, settings of runtimes. `AGENTS.md` and `CLAUDE.md` are not among
#: them: they are texts, which grant nothing.
PROTECTED: Final = frozenset(
    str.split(
        ".git git~1 .gitconfig .gitmodules .husky .githooks .hooks .lefthook lefthook.yml lefthook.yaml "
        ".pre-commit-config.yaml .envrc .claude .claude.json .mcp.json .codex opencode.json opencode.jsonc .opencode "
        ".pi .agents .gemini .cursor .vscode .muster"
    )
)
_HOOKS_PATH: Final = re.compile(r"^\s*hookspath\s*=\s*\"?([^\"\n]+?)\"?\s*$", re.IGNORECASE | re.MULTILINE)
_SETTING: Final = re.compile(r"^\s*[\w-]+\s*=\s*(.+)$", re.MULTILINE)
_GIT_FILE_BYTES: Final = 2**16


@dataclass(frozen=True, slots=True)
class PathForms:
    """One path in the forms in which globs may name it."""

    relative: str | None
    """Below the workspace, links followed; None: it is outside."""
    absolute: str
    """Links followed."""
    written: str
    """Absolute, links not followed."""
    written_relative: str | None
    """Below the workspace, links not followed; None: it is outside."""


def forms_of(path: str, workspace: Path) -> PathForms | None:
    """Return the forms of a path as a runtime or a command names it; None: it cannot be known."""
    if not path or len(path) > 4096 or path.startswith("~") or path.startswith("file:"):
        return None
    if any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for char in path):
        return None
    root = os.path.realpath(workspace)
    given = os.path.join(workspace, path)
    # `a/../b` is `b` only if `a` is no link; `realpath` goes step by step.
    resolved = os.path.realpath(given)
    written = os.path.normpath(given)
    return PathForms(
        relative=_below(resolved, root),
        absolute=resolved,
        written=written,
        written_relative=_below(written, os.path.normpath(workspace)) or _below(written, root),
    )


def _below(path: str, root: str) -> str | None:
    if path == root:
        return "."
    return path[len(root) + 1 :] if path.startswith(root.rstrip("/") + "/") else None


def glob_allows(glob: str, forms: PathForms) -> bool:
    """Return whether a glob of a rule that allows covers the file itself, wherever links lead."""
    if glob.startswith("/"):
        return glob_matches(glob, forms.absolute)
    return forms.relative is not None and glob_matches(glob, forms.relative)


def glob_restricts(glob: str, forms: PathForms) -> bool:
    """Return whether a glob of a rule that denies or asks covers the path in any of its forms, in any case of letters.

    A glob without a slash holds at any depth.
    """
    spread = f"**/{glob}" if "/" not in glob.rstrip("/") else glob
    names = (forms.absolute, forms.written) if glob.startswith("/") else (forms.relative, forms.written_relative)
    return any(name is not None and glob_matches(spread.casefold(), name.casefold()) for name in names)


def glob_matches(glob: str, path: str) -> bool:
    """Return whether a path matches a glob. ``*`` stays within a folder, ``**`` is any number of them.

    A glob that ends with a slash, or with ``/**``, matches the folder and everything below it.
    """
    wanted = [part for part in glob.split("/") if part not in ("", ".")]
    if glob.endswith("/"):
        wanted.append("**")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    # The places in `wanted` at which the parts so far can end.
    reached = _closure({0}, wanted)
    for part in parts:
        following = set()
        for at in reached:
            if at < len(wanted):
                if wanted[at] == "**":
                    following.add(at)
                elif fnmatchcase(part, wanted[at]):
                    following.add(at + 1)
        reached = _closure(following, wanted)
    return len(wanted) in reached


def _closure(places: Iterable[int], wanted: list[str]) -> set[int]:
    found = set()
    waiting = list(places)
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            if at < len(wanted) and wanted[at] == "**":
                waiting.append(at + 1)
    return found


def protected(forms: PathForms, workspace: Path) -> str | None:
    """Return why no rule allows edits of the path; None: a rule may."""
    for name in (forms.relative, forms.written_relative, forms.absolute if forms.relative is None else None):
        for part in (name or "").split("/"):
            if _folded(part) in PROTECTED:
                return f"{part} starts programs or holds settings of an agent"
    if os.path.basename(forms.absolute) == "HEAD":
        return "a folder with such a file can be a repository, with settings that start programs"
    folders = _git_folders(workspace)
    if forms.absolute in _named_in_settings(folders, workspace):
        return "settings of git name it"
    for folder in folders:
        if forms.absolute == folder or forms.absolute.startswith(folder + "/"):
            return "it belongs to git"
    try:
        found = os.lstat(forms.absolute)
    except (OSError, ValueError):
        return None
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        return "the file has several names"
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        return "it is no ordinary file"
    return None


def _folded(part: str) -> str:
    """Return a name as a file system that ignores case, compatible letters and trailing dots reads it."""
    return unicodedata.normalize("NFKC", part).casefold().partition(":")[0].rstrip(". ")


def _git_folders(workspace: Path) -> list[str]:
    """Return git's folder where it is elsewhere than in `.git`, and the folder of hooks that its settings name."""
    git = workspace / ".git"
    found = [os.path.realpath(git)]
    try:
        if git.is_file():
            text = _start_of(git)
            if text.startswith("gitdir:"):
                found.append(os.path.realpath(workspace / text.removeprefix("gitdir:").strip()))
    except (OSError, ValueError):
        pass
    with contextlib.suppress(OSError, ValueError):
        # A linked worktree has its settings where the repository has its own.
        found.append(os.path.realpath(os.path.join(found[-1], _start_of(Path(found[-1]) / "commondir").strip())))
    for settings in _settings(found):
        found += [os.path.realpath(workspace / path.strip()) for path in _HOOKS_PATH.findall(settings)]
    return found


def _named_in_settings(folders: list[str], workspace: Path) -> set[str]:
    """Return files of the workspace that git's settings name: filters, drivers, further settings."""
    found = set()
    for settings in _settings(folders):
        for value in _SETTING.findall(settings):
            for word in value.replace('"', " ").replace("'", " ").replace(";", " ").split():
                # What is run starts at the workspace; further settings are named from git's folder.
                for start in (str(workspace), *folders):
                    path = os.path.realpath(os.path.join(start, word))
                    if os.path.isfile(path) or (("/" in word or "." in word) and not os.path.isdir(path)):
                        found.add(path)
    return found


def _settings(folders: list[str]) -> list[str]:
    found = []
    for folder in folders:
        for name in ("config", "config.worktree"):
            with contextlib.suppress(OSError, ValueError):
                found.append(_start_of(Path(folder) / name))
    return found


def _start_of(path: Path) -> str:
    # It may be a pipe that an agent put there.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _GIT_FILE_BYTES).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
