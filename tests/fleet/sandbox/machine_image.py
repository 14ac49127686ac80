"""An image made of this machine's own Python, for engines that take images alone; no registry is asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

#: Of the standard library, what nothing needs that runs in a container.
_LEFT_OUT: Final = frozenset(
    {"__pycache__", "ensurepip", "idlelib", "lib2to3", "site-packages", "dist-packages", "test", "tests", "tkinter"}
)
_CALLED: Final = "usr/bin/python3"


def make(archive: Path) -> None:
    """Write the image's root as an archive (podman-import(1))."""
    python, library = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib")).resolve()
    programs = [python, Path("/bin/grep").resolve()]
    with tarfile.open(archive, "w") as tar:
        for file in sorted({*programs, *_linked([*programs, *library.glob("lib-dynload/*.so")])}):
            tar.add(os.path.realpath(file), arcname=str(file).lstrip("/"))
        tar.add(library, arcname=str(library).lstrip("/"), filter=_wanted)
        for name, target in ((_CALLED, python), ("bin/grep", programs[1])):
            if str(target) != f"/{name}":
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, str(target)
                tar.addfile(link)


def _linked(files: Iterable[Path]) -> set[Path]:
    """The libraries that these are linked with (ldd(1))."""
    said = subprocess.run(["ldd", *files], capture_output=True, text=True, check=True).stdout
    return {Path(place) for place in re.findall(r"(/\S+) \(0x", said)}


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = Path(member.name).parts
    unwanted = any(part in _LEFT_OUT or part.startswith("config-") for part in parts)
    return None if unwanted else member
