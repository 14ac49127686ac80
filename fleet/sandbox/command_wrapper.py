"""From a prepared runtime to its command line inside the sandbox, by the sandbox profile's kind."""

from __future__ import annotations

import functools
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fleet import program_lookup
from fleet.errors import FleetError, RuntimeMissing
from fleet.runtimes import Prepared
from fleet.sandbox import bubblewrap, container, process_limits, tmpfs_sizes
from fleet.sandbox.allowed_paths import check_mount, check_workspace
from fleet.sandbox.bubblewrap import Mount
from fleet.sandbox.container import ENGINES, Engine
from fleet.sandbox.egress_grant import PORT, EgressGrant
from fleet.sandbox.profiles import BUILT_IN, DEFAULT, SandboxProfile
from fleet.sandbox.system_mounts import kernel, system

_CLOSING: Final = Path(__file__).with_name("seccomp_filter.py")
RELAY: Final = Path(__file__).with_name("egress_relay.py")
_CGROUP: Final = Path(__file__).with_name("cgroup.py")
_ENGINE_CALL: Final = Path(__file__).with_name("container_launcher.py")
INIT: Final = Path(__file__).with_name("container_init.py")
#: Beside an agent's home: the root of its container where that has the host's programs. Empty but for places to mount.
ROOT: Final = "root"
_HELP_S: Final = 10.0


def wrap(
    prepared: Prepared,
    *,
    workspace: Path,
    home: Path,
    hidden: Sequence[Path],
    doors: Sequence[Path] = (),
    profile: SandboxProfile = BUILT_IN[DEFAULT],
    way: EgressGrant | None = None,
    terminal: bool = False,
) -> tuple[str, ...]:
    """Return the command line that runs a runtime in its sandbox. The workspace has the same path inside as outside.

    Args:
        prepared: the runtime.
        workspace: may be written in.
        home: the agent's own, likewise.
        hidden: Muster's own folders: whatever else is shown, they are not.
        doors: sockets of Muster's that are this agent's alone; of the folders that they lie in nothing else is shown.
        profile: what kind of sandbox, what is seen there besides, and how much it may use.
        way: the only way out; None: it has the host's network.
        terminal: it is for the runtime's terminal program, which gets a terminal that is made for it.

    Raises:
        FleetError: the sandbox is not there, or would show what an agent may not have.
    """
    check_workspace(workspace, hidden)
    if profile.kind == "container":
        return _container(prepared, workspace, home, hidden, doors, profile, way, terminal)
    return _bubblewrap(prepared, workspace, home, hidden, doors, profile, way, terminal)


def engine_of(profile: SandboxProfile) -> tuple[Engine, str]:
    """Return what makes the containers of a profile, and where its program is; podman where both are there.

    Raises:
        RuntimeMissing: it is not installed.
    """
    wanted = ENGINES if profile.engine is None else (profile.engine,)
    if profile.image == container.HOST_IMAGE:
        wanted = ("podman",)
    for engine in wanted:
        if (program := shutil.which(engine)) is not None:
            return engine, program
    raise RuntimeMissing(
        f"The sandbox profile {profile.name} is a container, and {' or '.join(wanted)} is not installed (Debian, "
        "Ubuntu, Fedora: the package podman)."
    )


def removal(profile: SandboxProfile, home: Path) -> tuple[str, ...]:
    """Return the command line that ends what a sandbox may leave running when its processes are killed; empty: nothing
    is.

    Args:
        profile: what kind of sandbox.
        home: the agent's.

    Raises:
        FleetError: the program for it is not there.
    """
    if profile.kind != "container":
        return ()
    engine, program = engine_of(profile)
    return container.removal(engine, program, container.name(home.parent), container.finding(os.environ))


def _container(
    prepared: Prepared,
    workspace: Path,
    home: Path,
    hidden: Sequence[Path],
    doors: Sequence[Path],
    profile: SandboxProfile,
    way: EgressGrant | None,
    terminal: bool,
) -> tuple[str, ...]:
    socket = "-" if way is None or way.socket is None else str(way.socket)
    # Not how many processes: those of a user may be counted across the whole host. The engine bounds them.
    bounds = () if profile.memory is None else (f"data={profile.memory}",)
    relayed = socket != "-" or bounds
    python = interpreter(profile)
    relay = (python, "-I", "-S", str(RELAY), socket, str(PORT), *bounds, "--") if relayed else ()
    readonly = (*prepared.readonly, INIT, _CLOSING, RELAY)
    mounts = (
        *(Mount("readonly", path) for path in readonly),
        *(Mount("empty", folder) for folder in hidden if any(folder.is_relative_to(path) for path in readonly)),
        *(
            Mount("writable" if shown.writable else "readonly", shown.place, check_mount(shown, hidden))
            for shown in profile.mounts
        ),
        Mount("writable", workspace, workspace.resolve()),
        Mount("writable", home, home.resolve()),
        *_locked(prepared.locked, home),
        *(Mount("readonly", path) for path in (*doors, *_of_way(way))),
    )
    return contained(
        profile,
        ("-I", "-S", str(INIT), *closing(python), *relay, *prepared.command),
        called=container.name(home.parent),
        root=home.parent / ROOT,
        mounts=mounts,
        workspace=workspace,
        terminal=terminal,
    )


def interpreter(profile: SandboxProfile) -> str:
    """Return the Python interpreter in a sandbox."""
    return str(_interpreter()) if profile.programs_of_host else container.INTERPRETER


def contained(
    profile: SandboxProfile,
    arguments: Sequence[str],
    *,
    called: str,
    root: Path,
    mounts: Sequence[Mount],
    workspace: Path,
    terminal: bool = False,
) -> tuple[str, ...]:
    """Return the command line that runs Python with these arguments in a container; where the host's programs are seen
    in it, the folder that is its root is made ready.

    Args:
        profile: a container's.
        arguments: the interpreter's.
        called: the container's name.
        root: that folder.
        mounts: what is seen besides those programs.
        workspace: where it is run.
        terminal: whether it has a terminal.

    Raises:
        FleetError: it cannot be made.
    """
    engine, program = engine_of(profile)
    of_host = profile.programs_of_host
    if of_host:
        mounts = (*system(), *(Mount("readonly", path) for path in program_lookup.python_paths()), *mounts)
        _make_root(root, mounts)
    line = container.command_line(
        engine,
        program,
        arguments,
        called=called,
        image=None if of_host else profile.image,
        root=root if of_host else None,
        interpreter=interpreter(profile),
        # A later one goes before an earlier one of the same place; two are refused.
        mounts=tuple({mount.place: mount for mount in mounts}.values()),
        workspace=workspace,
        user=(os.geteuid(), os.getegid()),
        memory=profile.memory,
        pids=profile.pids,
        scratch_bytes=tmpfs_sizes.total(profile.memory, _machine_bytes()),
        flags=profile.flags,
        terminal=terminal,
    )
    variables = (f"{name}={value}" for name, value in container.finding(os.environ).items())
    return (str(_interpreter()), "-I", "-S", str(_ENGINE_CALL), *variables, "--", *line)


def _make_root(root: Path, mounts: Sequence[Mount]) -> None:
    """The folder with the links that are wanted in it. It is laid under what the container makes for itself, which goes
    with it; its rights hold inside, where it may be another user's."""
    root.mkdir(exist_ok=True)
    root.chmod(0o755)
    for mount in mounts:
        if mount.kind != "link":
            continue
        link = root / mount.place.relative_to("/")
        for folder in reversed(link.relative_to(root).parents[:-1]):
            (root / folder).mkdir(exist_ok=True)
            (root / folder).chmod(0o755)
        if not link.is_symlink() and not link.exists():
            link.symlink_to(mount.source or "/")


def _bubblewrap(
    prepared: Prepared,
    workspace: Path,
    home: Path,
    hidden: Sequence[Path],
    doors: Sequence[Path],
    profile: SandboxProfile,
    way: EgressGrant | None,
    terminal: bool,
) -> tuple[str, ...]:
    program = shutil.which("bwrap")
    if program is None:
        raise RuntimeMissing("bubblewrap is not installed: there is no program bwrap on the PATH.")
    further = [
        Mount("writable" if shown.writable else "readonly", shown.place, check_mount(shown, hidden))
        for shown in profile.mounts
    ]
    first = (*closing(), *_relay(profile, way))
    shown_of_way = _of_way(way)
    outer = bubblewrap.command_line(
        program,
        (*first, *prepared.command),
        system=(*system(), *kernel()),
        readonly=(*prepared.readonly, *first_programs()),
        hidden=hidden,
        workspace=Mount("writable", workspace, workspace.resolve()),
        home=Mount("writable", home, home.resolve()),
        locked=[*_locked(prepared.locked, home), *(Mount("readonly", door) for door in (*doors, *shown_of_way))],
        further=further,
        root=os.geteuid() == 0,
        scratch_bytes=scratch_bytes(program, profile.memory),
        network=way is None,
        terminal=terminal,
    )
    return (*_bounded(profile), *outer)


def scratch_bytes(program: str, memory: int | None = None) -> int | None:
    """Return how many bytes a sandbox may keep in memory as files, or None if this bubblewrap cannot bound them.

    Args:
        program: bubblewrap.
        memory: the profile's bound, in bytes.
    """
    return tmpfs_sizes.total(memory, _machine_bytes()) if sizes_tmpfs(program) else None


@functools.cache
def sizes_tmpfs(program: str) -> bool:
    """Return whether this bubblewrap knows ``--size`` and may use it: version 0.8 on, where it is not set-user-ID."""
    try:
        if os.stat(program).st_mode & stat.S_ISUID:
            return False
        said = subprocess.run(
            [program, "--help"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_HELP_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"--size" in said.stdout + said.stderr


def _machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def closing(python: str | None = None) -> tuple[str, ...]:
    """Return what closes calls of the kernel, and becomes the rest of the command line.

    Args:
        python: the interpreter in a container, whose first process is safe by itself; None: this one, in bubblewrap.
    """
    words = [*(("root",) if os.geteuid() == 0 else ()), *(("apart",) if python is None else ())]
    # The interpreter alone: nothing of Muster's, and nothing of a workspace's, is imported.
    return (python or str(_interpreter()), "-I", "-S", str(_CLOSING), *words, "--")


def _relay(profile: SandboxProfile, way: EgressGrant | None) -> tuple[str, ...]:
    """Return what becomes the runtime, and leaves its way out behind; empty where there is none, and no limits
    either."""
    bounds = process_limits.words(profile.memory, profile.pids, release=os.uname().release)
    if way is None and not bounds:
        return ()
    socket = "-" if way is None or way.socket is None else str(way.socket)
    return (str(_interpreter()), "-I", "-S", str(RELAY), socket, str(PORT), *bounds, "--")


def _bounded(profile: SandboxProfile) -> tuple[str, ...]:
    """Return what runs a sandbox within bounds for all of it; empty where it has none."""
    named = (("memory", profile.memory), ("pids", profile.pids))
    words = [f"{name}={value}" for name, value in named if value is not None]
    return (str(_interpreter()), "-I", "-S", str(_CGROUP), *words, "--") if words else ()


def _of_way(way: EgressGrant | None) -> tuple[Path, ...]:
    """Return what of the way is seen inside: the socket's folder, since the socket may be made again, and certificates.

    Raises:
        FleetError: the folder is not there.
    """
    if way is None:
        return ()
    if way.socket is None:
        raise FleetError(
            "The agent's way out has no socket, and nothing else leads out of a sandbox. Try again.",
            code="egress.unreachable",
        )
    folder = way.socket.parent
    if folder.is_symlink() or not folder.is_dir():
        raise FleetError(
            f"The agent's way out of its sandbox is not there: {folder} is no folder. Try again.",
            code="egress.unreachable",
        )
    return (folder, *(file for file in (way.ca_file, way.bundle_file) if file is not None and file.parent != folder))


def first_programs() -> tuple[Path, ...]:
    """Return what a sandbox must show for the first process to run."""
    of_the_system = any(_interpreter().is_relative_to(folder) for folder in program_lookup.SYSTEM)
    return (*(() if of_the_system else program_lookup.python_paths()), _CLOSING, RELAY)


def _interpreter() -> Path:
    return Path(sys.executable).resolve()


def _locked(paths: Sequence[Path], home: Path) -> list[Mount]:
    """Return each part unchangeable, and its folders mounted on themselves: what is mounted cannot be moved out of the
    way."""
    folders = dict.fromkeys(
        folder for path in paths for folder in reversed(path.parents) if folder != home and folder.is_relative_to(home)
    )
    return [
        *(Mount("writable", folder, folder.resolve()) for folder in folders),
        *(Mount("readonly", path, path.resolve()) for path in paths),
    ]
