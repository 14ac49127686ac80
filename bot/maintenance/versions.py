"""The versions of Muster in an installation, side by side, and the one that runs.

    STATE/versions/0.2.0/           a virtual environment with that version
    STATE/versions/0.2.0/complete   written last: without it, the folder is the leftover of a crash
    STATE/current                   a link to the version to run; absent: the program installed outside

The installed `muster` looks here first (`bot.interfaces.cli.version_launcher`), so this module imports nothing heavy.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

from bot.config.paths import Paths

COMPLETE: Final = "complete"

#: The part of PEP 440 that is needed to compare two versions.
_VERSION: Final = re.compile(
    r"v?(?:(\d+)!)?(\d+(?:\.\d+)*)(?:[-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?(\d*))?"
    r"(?:[-_.]?(?:post|rev|r)[-_.]?(\d*)|-(\d+))?(?:[-_.]?(dev)[-_.]?(\d*))?(?:\+[a-z0-9.]+)?",
    re.IGNORECASE,
)
_PHASES: Final = {"a": -3, "alpha": -3, "b": -2, "beta": -2, "c": -1, "rc": -1, "pre": -1, "preview": -1}


def of_this(otherwise: str = "0") -> str:
    """Return the version of this process, or `otherwise` if it is not installed as a package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("muster-fleet")
    except PackageNotFoundError:
        return otherwise


def order(version: str) -> tuple[object, ...]:
    """Return the sort key of a version: PEP 440 without local versions. Invalid versions sort first."""
    match = _VERSION.fullmatch(version.strip())
    if match is None:
        return (-1,)
    epoch, release, phase, number, post, bare_post, dev, dev_number = match.groups()
    parts = [int(part) for part in release.split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    is_post = "post" in version.lower() or post is not None or bare_post is not None
    if phase is None and dev is not None and not is_post:
        rank = (-4, 0)  # a development version without a phase is before the first of them
    else:
        rank = (_PHASES[phase.lower()], int(number or 0)) if phase is not None else (0, 0)
    posts = int(post or bare_post or 0) + 1 if is_post else 0
    devs = (0, int(dev_number or 0)) if dev is not None else (1, 0)
    return (int(epoch or 0), tuple(parts), rank, posts, devs)


def is_newer(version: str, than: str) -> bool:
    """Return whether `version` is newer than `than`."""
    return order(version) > order(than)


def is_name(version: str) -> bool:
    """Return whether a version is a valid folder name."""
    return _VERSION.fullmatch(version) is not None and len(version) < 80


def folder(paths: Paths, version: str) -> Path:
    """Return the folder of a version, whether or not it exists."""
    return paths.state / "versions" / version


def python_of(prefix: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return prefix / "bin" / "python"


def current(paths: Paths) -> Path | None:
    """Return the environment to run if it is complete, or None for the one installed outside."""
    try:
        leads_to = os.readlink(paths.state / "current")
    except OSError:
        return None
    prefix = paths.state / leads_to
    whole = prefix.parent == paths.state / "versions" and (prefix / COMPLETE).is_file()
    return prefix if whole and os.access(python_of(prefix), os.X_OK) else None


def chosen(paths: Paths, ours: str) -> Path:
    """Return the environment to run: the one of the last update, or this process's own if that is newer.

    Args:
        paths: the installation.
        ours: the version of this process.
    """
    found = current(paths)
    return Path(sys.prefix) if found is None or is_newer(ours, found.name) else found


def standing(paths: Paths) -> list[Path]:
    """Return the complete environments, oldest version first."""
    found = [mark.parent for mark in (paths.state / "versions").glob(f"*/{COMPLETE}")]
    return sorted(found, key=lambda prefix: order(prefix.name))


def runs_here(prefix: Path) -> bool:
    """Return whether this process runs from that environment."""
    return Path(sys.prefix).resolve() == prefix.resolve()
