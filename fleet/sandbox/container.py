"""The command lines of podman(1) and docker(1): which of the host an agent in a container sees, decided without
touching anything.

The image's own programs are used: the runtime's, and `python3`, which the first processes need. With the image `host`
(podman alone) the root is an empty folder, and the host's programs are seen in it as in bubblewrap.

The environment is not on the command line, which every user of the host can read: it goes in one variable of the
client's own environment, which `fleet.sandbox.container_init` unpacks inside. A container has the same name at each
start of its agent, so that there is never a second one, and what is left of an earlier one is found.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from fleet.errors import FleetError
from fleet.sandbox import tmpfs_sizes
from fleet.sandbox.bubblewrap import Mount

#: What makes containers.
Engine: TypeAlias = Literal["podman", "docker"]
ENGINES: Final[tuple[Engine, ...]] = get_args(Engine)

#: In place of an image's name: the host's programs in an otherwise empty root.
HOST_IMAGE: Final = "host"
#: Of an image; the host's programs have the interpreter that Muster itself runs on.
INTERPRETER: Final = "python3"
#: The agent's environment as JSON, and the word by which its processes are found (fleet.supervision.process_sweep).
ENVIRONMENT: Final = "MUSTER_ENVIRONMENT"
MARKER: Final = "MUSTER_AGENT"
#: What an agent may write in besides its workspace and its home, and what is gone with the container.
_EMPTY: Final = {
    "/tmp": "rw,exec,nosuid,nodev,mode=1777",  # noqa: S108
    "/var/tmp": "rw,exec,nosuid,nodev,mode=1777",  # noqa: S108
    "/run": "rw,nosuid,nodev,mode=755",
}
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108
#: Of the environment of whoever runs Muster, what leads the engine's client to its images and to its service.
_FINDING: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
    *("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"),
    *("STORAGE_DRIVER", "STORAGE_OPTS", "CONTAINER_HOST", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT"),
)
_IMAGE: Final = re.compile(r"[a-z0-9]([\w./:@-]{0,498}\w)?")


def check_image(name: str) -> None:
    """Refuse what is no image's name.

    Raises:
        ValueError: what is wanted.
    """
    if not _IMAGE.fullmatch(name):
        raise ValueError(
            f"found {name[:80]!r}; expected the name of an image, like docker.io/library/debian:12 or "
            f"localhost/agents, or {HOST_IMAGE}."
        )


def name(folder: Path) -> str:
    """Return how an agent's container is called.

    Args:
        folder: its private folder, which bears its name, and by which those of several installations are told apart.
    """
    agent = re.sub(r"[^a-z0-9-]", "", folder.name)[:40]
    return f"muster-{agent}-{hashlib.sha256(bytes(folder)).hexdigest()[:12]}"


def finding(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the engine's client.

    Raises:
        FleetError: it leads to another machine, on which the workspace is not.
    """
    found = {key: environ[key] for key in _FINDING if environ.get(key) and environ[key].isprintable()}
    for key in ("DOCKER_HOST", "CONTAINER_HOST"):
        if not found.get(key, "unix:").startswith("unix:"):
            raise FleetError(
                f"{key} leads containers to another machine ({found[key][:80]}), where the agent's workspace is not. "
                "Start Muster without it.",
                code="sandbox.unavailable",
            )
    return found


def command_line(
    engine: Engine,
    program: str,
    command: Sequence[str],
    *,
    called: str,
    image: str | None,
    root: Path | None,
    interpreter: str,
    mounts: Sequence[Mount],
    workspace: Path,
    user: tuple[int, int],
    memory: int | None = None,
    pids: int | None = None,
    scratch_bytes: int,
    flags: Sequence[str] = (),
    terminal: bool = False,
) -> tuple[str, ...]:
    """Return the whole command line. Later mounts lie over earlier ones.

    Args:
        engine: which of the two.
        program: where it is.
        command: arguments of the interpreter.
        called: the container's name.
        image: the image's name; None: `root` is the folder that is its root.
        root: that folder.
        interpreter: the first program inside.
        mounts: what is seen.
        workspace: where the command is run; among the mounts.
        user: user and group of whoever runs Muster: to them belongs what is written inside.
        memory: bytes, of all its processes together.
        pids: processes and threads.
        scratch_bytes: what may be kept in memory as files.
        flags: as `flags` gave them.
        terminal: whether it has a terminal.

    Raises:
        FleetError: a path cannot be said on such a command line.
    """
    podman = engine == "podman"
    sizes = tmpfs_sizes.sizes(scratch_bytes)
    # Where everything is the person's own, they are the same one inside; else a user by number is all that there is.
    rootless = podman and user[0] != 0
    return (
        program,
        "run",
        "--rm",
        "--interactive",
        *(("--tty",) if terminal else ()),
        f"--name={called}",
        "--pull=never",
        *isolation(engine),
        *(("--userns=keep-id",) if rootless else ()),
        f"--user={user[0]}:{user[1]}",
        *(f"--tmpfs={place}:{options},size={sizes[place]}" for place, options in _EMPTY.items()),
        f"--shm-size={sizes[_SHARED_MEMORY]}",
        *(f"--mount={_mount(mount)}" for mount in mounts if mount.kind != "link"),
        *((f"--memory={memory}",) if memory is not None else ()),
        *((f"--pids-limit={pids}",) if pids is not None else ()),
        *flags,
        f"--workdir={workspace}",
        f"--env={MARKER}",
        f"--env={ENVIRONMENT}",
        f"--entrypoint={interpreter}",
        *(("--rootfs", f"{root}:O") if image is None else (image,)),
        *command,
    )


def isolation(engine: Engine) -> tuple[str, ...]:
    """Return what holds for every container."""
    both = (
        "--network=none",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--read-only",
        "--ipc=private",
        "--cgroupns=private",
        "--no-healthcheck",
        # What an agent says is in its journal, and nowhere else.
        "--log-driver=none",
        # It is ended by force, when the agent host has waited already.
        "--stop-signal=KILL",
        "--stop-timeout=0",
    )
    if engine == "docker":
        return both
    # Docker has no others; podman's configuration may say otherwise.
    return (
        *both,
        "--pid=private",
        "--uts=private",
        "--read-only-tmpfs=false",
        "--http-proxy=false",
        "--image-volume=ignore",
        "--detach-keys=",
    )


def removal(engine: Engine, program: str, called: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the command line that ends a container with all that runs in it, and removes it; whether or not there is
    one."""
    ignoring = ("--ignore",) if engine == "podman" else ()
    variables = (f"{key}={value}" for key, value in environment.items())
    return ("/usr/bin/env", "-i", *variables, program, "rm", "--force", "--volumes", *ignoring, called)


def explain(complaint: str, engine: Engine, image: str) -> str:
    """Return why a container could not be made, from what the engine said of it."""
    lines = [line for line in complaint.strip().splitlines() if line.strip()]
    said = "".join(sign for sign in lines[-1] if sign.isprintable())[:300] if lines else "it gave no reason"
    low = complaint.lower()
    if any(words in low for words in ("image not known", "no such image", "unable to find image", "did not resolve")):
        return (
            f"The image {image} is not on this machine, and Muster fetches none by itself: run `{engine} pull {image}` "
            f"as the user who runs Muster, or build it. {engine} said: {said}."
        )
    if INTERPRETER in low and any(words in low for words in ("not found", "no such file")):
        return (
            f"The image {image} has no program {INTERPRETER}, which the first process of an agent's container needs: "
            f"build one that has it (Debian, Ubuntu, Fedora: the package {INTERPRETER}). {engine} said: {said}."
        )
    if "no module named" in low:
        return f"The Python of the image {image} is not whole ({said}): install its standard library with it."
    if "docker daemon" in low or "docker.sock" in low:
        return f"docker does not reach its service ({said}): start it, and let the user who runs Muster use it."
    return f"{engine} is installed but could not make a container here: {said}."


def _mount(mount: Mount) -> str:
    if mount.kind == "empty":
        return f"type=tmpfs,tmpfs-size={mount.size},destination={_said(mount.place)}"
    source = mount.source if mount.source is not None else mount.place
    words = ["type=bind", f"source={_said(source)}", f"destination={_said(mount.place)}"]
    if mount.kind == "readonly":
        # What is mounted below would be writable: both engines bind it along, and podman, and docker before version 25,
        # make the uppermost one read-only alone.
        words += ["readonly", "bind-nonrecursive=true"]
    return ",".join(words)


def _said(path: Path) -> str:
    text = str(path)
    if any(sign in text for sign in ',"') or not text.isprintable():
        raise FleetError(
            f"The path {text[:200]!r} cannot be shown in a container: it holds a comma, a quotation mark or a line "
            "break. Rename it.",
            code="sandbox.mount_forbidden",
        )
    return text
