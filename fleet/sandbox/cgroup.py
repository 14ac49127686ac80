"""Bounds for all of a sandbox together: ``python -I -S cgroup.py [memory=BYTES] [pids=N] -- COMMAND...``.

It becomes COMMAND, in a control group with these limits (Linux, "Control Group v2"). Only within the group of an
agent's own systemd unit, which systemd has delegated to it and marks so by an extended attribute (systemd, "Control
Group APIs and Delegation"): every other group has a manager that must not be interfered with. Where there is none, or
the kernel refuses, COMMAND runs without; limits of single processes hold all the same (`fleet.sandbox.process_limits`).

Nothing of Muster is imported.
"""

import os
import sys
from collections.abc import Callable

TYPE_CHECKING = False

#: Where those go that were in the delegated group itself: it may hold no processes once it shares out its resources.
_REST = "muster-rest"
_AGENT = "sandbox-"
_MARKS = ("user.delegate", "trusted.delegate")


def delegated(root: str, membership: str, mark: "Callable[[str, str], bytes]" = os.getxattr) -> str | None:
    """Return the delegated group that a process is in, or None.

    Args:
        root: where control groups are mounted.
        membership: the process's /proc/PID/cgroup.
        mark: reads an extended attribute of a folder.
    """
    lines = [line for line in membership.splitlines() if line.startswith("0::/")]
    if len(lines) != 1 or ".." in lines[0].split("/"):
        return None
    folder = root + lines[0][3:].rstrip("/")
    if os.path.basename(folder) == _REST:
        folder = os.path.dirname(folder)
    # As fleet.hosting.systemd_unit_text calls them.
    unit = os.path.basename(folder)
    if not (unit.startswith("muster-") and "-agent-" in unit and unit.endswith(".service")):
        return None
    for name in _MARKS:
        try:
            if mark(folder, name) == b"1":
                return folder
        except OSError:
            continue
    return None


def enter(group: str, pid: int, memory: int | None, pids: int | None) -> None:
    """Put a process into a new group below a delegated one, with these limits.

    Raises:
        OSError: the kernel does not let that be.
    """
    rest = f"{group}/{_REST}"
    os.makedirs(rest, exist_ok=True)
    for each in _read(f"{group}/cgroup.procs").split():
        _write(f"{rest}/cgroup.procs", each)
    for name in os.listdir(group):
        # Of agents that ended; one that has processes stays.
        if name.startswith(_AGENT):
            try:
                os.rmdir(f"{group}/{name}")
            except OSError:
                continue
    wanted = [("memory", "memory.max", memory), ("pids", "pids.max", pids)]
    _write(f"{group}/cgroup.subtree_control", " ".join(f"+{name}" for name, _, value in wanted if value is not None))
    agent = f"{group}/{_AGENT}{pid}"
    os.makedirs(agent, exist_ok=True)
    for _, file, value in wanted:
        if value is not None:
            _write(f"{agent}/{file}", str(value))
    _write(f"{agent}/cgroup.procs", str(pid))


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def main(arguments: list[str]) -> int:
    try:
        border = arguments.index("--")
        command = arguments[border + 1 :]
        limits = {name: int(value) for name, _, value in (word.partition("=") for word in arguments[:border])}
        if not command:
            raise ValueError
    except ValueError:
        print("usage: cgroup.py [memory=BYTES] [pids=N] -- COMMAND...", file=sys.stderr)
        return 2
    try:
        group = delegated("/sys/fs/cgroup", _read("/proc/self/cgroup"))
        if group is not None:
            enter(group, os.getpid(), limits.get("memory"), limits.get("pids"))
    except OSError as error:
        print(f"No control group bounds this agent's sandbox: {error}", file=sys.stderr)
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
