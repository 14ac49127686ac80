"""The entry point of ``muster``: hands over to the current version; answers ``--version`` and ``--help`` at once."""

from __future__ import annotations

import os
import sys

from bot.interfaces.cli import shipped_help
from bot.interfaces.cli.version_launcher import handed_over


def main() -> None:
    """Run ``muster`` in the current version."""
    words = sys.argv[1:]
    if (other := handed_over(words, os.environ)) is not None:
        os.execv(other[0], other)  # noqa: S606 (no shell is what is wanted)
    if words == ["--version"] and (found := installed_version()) is not None:
        print(f"muster {found}")
        return
    if (page := shipped_help.page(words, os.environ)) is not None:
        _print(page)
        return
    from bot.interfaces.cli.main import main as run

    run(words)


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has ended (`muster --help | head`). Python flushes once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def installed_version() -> str | None:
    """Return the version by the name of the package's metadata folder, or None if only the metadata can tell.

    `importlib.metadata` reads the same name, and loads the standard library's e-mail parser for it.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        found = [name for name in names if name.startswith("muster_fleet-") and name.endswith(".dist-info")]
        if found:
            version = found[0].removeprefix("muster_fleet-").removesuffix(".dist-info")
            return version if len(found) == 1 and version.replace(".", "").isdecimal() else None
    return None
