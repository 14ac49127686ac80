"""Where a program really is, and what has to be seen of the file system for it to run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Which: TypeAlias = "Callable[[str], str | None]"

#: Of the system, so to be seen in any case.
SYSTEM = tuple(map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")))


class ProgramNotFound(Exception):
    """A program is not on the PATH."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True, slots=True)
class Program:
    command: tuple[str, ...]
    """What to run: absolute paths, an interpreter first where it takes one."""
    readonly: tuple[Path, ...]
    """Files and folders outside of the system's own that it needs."""
    folder: Path | None
    """A folder for the PATH, with the program's interpreter or the program itself; None: the system's will do."""


def find(name: str, which: Which) -> Program:
    """Look a program up.

    Raises:
        ProgramNotFound: it, or the interpreter that it names, is not there.
    """
    place = which(name)
    if place is None:
        raise ProgramNotFound(name)
    called = Path(place).absolute()
    if called == Path(sys.executable):
        # A virtual environment's interpreter must be called by its link, or it loses the environment.
        return Program((str(called),), python_paths(), called.parent)
    real = called.resolve()
    readonly = list(_installation(real))
    interpreter = _interpreter(real)
    if interpreter is None:
        folder = None if _of_the_system(called) else called.parent
        if folder is not None:
            readonly.append(called)
        return Program((str(called if folder is None else real),), tuple(readonly), folder)
    runner = which(interpreter)
    if runner is None:
        raise ProgramNotFound(interpreter)
    really = Path(runner).resolve()
    folder = None
    if not _of_the_system(really):
        # Node.js from a version manager: its whole prefix, with npm and the headers, is one folder.
        readonly.append(
            really if really.parent.name != "bin" or _shared(really.parent.parent) else really.parent.parent
        )
        folder = really.parent
    return Program((str(really), str(real)), tuple(readonly), folder)


def python_paths() -> tuple[Path, ...]:
    """Return what this interpreter and Muster's own packages need."""
    here = Path(__file__).resolve().parent.parent
    library = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
    paths: list[Path] = []
    for named in {Path(sys.prefix), Path(sys.base_prefix)}:
        for prefix in {named, named.resolve()}:
            if _shared(prefix):
                paths += [prefix / library, Path(sys.executable).resolve()]
            elif not _of_the_system(prefix):
                paths.append(prefix)
    if not any(here.is_relative_to(path) for path in (*paths, *SYSTEM)):
        # Installed as a link to the sources: the packages that the built-in agent imports, not the whole of them.
        paths += [here / name for name in ("fleet", "core")]
    return tuple(sorted(set(paths)))


def _of_the_system(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in SYSTEM)


def _shared(prefix: Path) -> bool:
    """Return whether a person's own files lie below this folder too."""
    return prefix.name == ".local" or Path.home().is_relative_to(prefix)


def _installation(real: Path) -> tuple[Path, ...]:
    """Return the folder that was installed: for a package of npm everything beside it, since that is what it may
    import."""
    for parent in reversed(real.parents):
        if parent.name == "node_modules":
            return () if _of_the_system(parent) else (parent,)
    return () if _of_the_system(real) else (real,)


def _interpreter(real: Path) -> str | None:
    """Return the name of the interpreter that a script asks `env` for."""
    with real.open("rb") as file:
        line = file.readline(256)
    if not line.startswith(b"#!"):
        return None
    words = line[2:].decode("utf-8", "replace").split()
    if words and Path(words[0]).name == "env":
        rest = [word for word in words[1:] if not word.startswith("-")]
        return rest[0] if rest else None
    return None
