"""The command line of bubblewrap (bwrap(1)): which of the host an agent sees, decided without touching anything.

The environment is not on it: bubblewrap passes its own on, which is built from an allow-list, and a command line can be
read by every user of the host. So every process inside carries the agent's marker as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fleet.sandbox import tmpfs_sizes

#: Namespaces and manners. A new session keeps the agent from typing into the operator's terminal; dying with the parent
#: takes along what was started in sessions of its own, since it is all in one pid namespace.
ISOLATION = (
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--new-session",
    # Root would keep them, and could make what is shown read-only writable again.
    "--cap-drop",
    "ALL",
)


@dataclass(frozen=True, slots=True)
class Mount:
    """Something that is seen inside. For a link, `source` is where it points; `size` is an empty one's, in bytes."""

    kind: Literal["readonly", "writable", "link", "empty"]
    place: Path
    source: Path | None = None
    size: int = tmpfs_sizes.LITTLE

    def arguments(self, *, sized: bool) -> tuple[str, ...]:
        source = str(self.source if self.source is not None else self.place)
        match self.kind:
            case "readonly":
                return ("--ro-bind", source, str(self.place))
            case "writable":
                return ("--bind", source, str(self.place))
            case "link":
                return ("--symlink", source, str(self.place))
        return (*(("--size", str(self.size)) if sized else ()), "--tmpfs", str(self.place))


#: In a terminal that was made for the agent there is none of an operator's to type into, and its program wants to hear
#: of its size and of keys such as Ctrl-C.
_IN_TERMINAL = tuple(word for word in ISOLATION if word != "--new-session")

#: Inside, root is an ordinary user (with the files that are root's): some runtimes refuse to work as root, and those
#: that isolate their commands once more, as Codex does, could not.
_NOT_ROOT = ("--unshare-user", "--uid", "1000", "--gid", "1000")


#: A network of its own, of which bubblewrap brings up the loopback interface. The host's is not there, nor are the
#: sockets of its network that have no place in the file system (unix(7), abstract).
_ALONE = ("--unshare-net",)


def isolated(
    program: str,
    mounts: Sequence[Mount],
    *,
    root: bool,
    scratch_bytes: int | None,
    network: bool = True,
    terminal: bool = False,
) -> tuple[str, ...]:
    """Return the command line up to what is to be run inside.

    Whatever is in memory and not bounded (the root itself, /dev) cannot be written in.

    Args:
        program: bubblewrap.
        mounts: what is seen.
        root: whether it is root who runs it.
        scratch_bytes: what may be kept in memory as files; None: this bubblewrap cannot bound it.
        network: whether it has the host's.
        terminal: whether it runs in a terminal that was made for it.
    """
    sized = scratch_bytes is not None
    first = [Mount("empty", Path(place), size=size) for place, size in tmpfs_sizes.sizes(scratch_bytes or 0).items()]
    return (
        program,
        *(_NOT_ROOT if root else ("--unshare-user-try",)),
        *(_IN_TERMINAL if terminal else ISOLATION),
        *(() if network else _ALONE),
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        *(word for mount in (*first, *mounts) for word in mount.arguments(sized=sized)),
        "--remount-ro",
        "/dev",
        "--remount-ro",
        "/",
    )


def command_line(
    program: str,
    command: Sequence[str],
    *,
    system: Sequence[Mount],
    readonly: Sequence[Path],
    hidden: Sequence[Path],
    workspace: Mount,
    home: Mount,
    locked: Sequence[Mount] = (),
    further: Sequence[Mount] = (),
    root: bool,
    scratch_bytes: int | None,
    network: bool = True,
    terminal: bool = False,
) -> tuple[str, ...]:
    """Return the whole command line. Later mounts lie over earlier ones: what is hidden over what is shown, and over it
    what the agent may write in; and over its home the parts of it that it may not."""
    shown = [Mount("readonly", path) for path in readonly]
    covered = [Mount("empty", folder) for folder in hidden if any(folder.is_relative_to(path) for path in readonly)]
    mounts = (*system, *shown, *covered, *further, workspace, home, *locked)
    return (
        *isolated(program, mounts, root=root, scratch_bytes=scratch_bytes, network=network, terminal=terminal),
        "--chdir",
        str(workspace.place),
        "--",
        *command,
    )
