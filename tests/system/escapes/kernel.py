"""What the kernel keeps for all, or lets its user change, whatever the namespace (proc(5), cgroups(7), keyrings(7))."""

import ctypes
import fcntl
import os
import pty
import re
import socket
import stat
from pathlib import Path

from .attempts import (
    NEW_CGROUP,
    NEW_MOUNTS,
    NEW_PIDS,
    WISHES,
    attempt,
    below,
    call,
    found,
    libc,
    mount,
    refused,
)

#: By which the kernel is told what to do. Nothing is written to what can be opened.
SETTINGS = ("sys", "acpi", "bus", "driver", "dynamic_debug", "fs", "irq", "scsi", "sysrq-trigger")
#: Whoever opens the first one needs a capability to write; the others are the sandbox's own (namespaces(7)).
HARMLESS = re.compile(r"/proc/sys/(kernel/(ns_last_pid|pid_max|(auto_)?msg\w+|sem\w*|shm\w+)|fs/mqueue/\w+)")
READ_ALL, REMOUNT, BIND, DETACH, STI = 3, 32, 4096, 2, 0x5412
HIERARCHIES = ("memory", "devices", "pids", "cpu", "none,name=systemd")


def run() -> None:
    keyrings()
    numbers = WISHES["calls"]
    space = ctypes.create_string_buffer(4096)
    call("io_uring", numbers["io_uring_setup"], 8, space)
    call("kernel's log", numbers["syslog"], READ_ALL, space, 4096)
    # An array of one number; and the machine's clock, counted in all processes.
    call("program in the kernel", numbers["bpf"], 0, (ctypes.c_uint32 * 12)(2, 4, 4, 1), 48)
    call("events of the machine", numbers["perf_event_open"], (ctypes.c_uint32 * 32)(1, 128), -1, 0, -1, 0)
    call("faults of memory", numbers["userfaultfd"], 0)
    call("memory that others share", numbers["shmget"], WISHES["shared"], 0, 0)
    call("host's process", numbers["ptrace"], 0x4206, WISHES["pid"], 0, 0)
    handle = (ctypes.c_uint32 * 34)(8, 1, 2)
    with attempt("host's root by its number"):
        here = os.open(".", os.O_RDONLY)
        call("host's root by its number", numbers["open_by_handle_at"], here, handle, os.O_RDONLY)
        os.close(here)
    settings()
    devices()
    namespaces()
    with attempt("host's name"):
        socket.sethostname(socket.gethostname())
        found["host's name"] = "OPEN"
    with attempt("typing into a terminal"):
        _, terminal = pty.openpty()
        fcntl.ioctl(terminal, STI, b"x")
        found["typing into a terminal"] = "OPEN"
    with attempt("operator's terminal"):
        os.close(os.open("/dev/tty", os.O_RDWR))
        found["operator's terminal"] = "OPEN"


def keyrings() -> None:
    """Secrets that the kernel keeps for whoever started the sandbox."""
    number, search, session, read = WISHES["calls"]["keyctl"], 10, ctypes.c_long(-3), 11
    key = libc.syscall(number, search, session, b"user", WISHES["abstract"].encode(), 0)
    found["keyring"] = refused()
    if key >= 0:
        content = ctypes.create_string_buffer(100)
        libc.syscall(number, read, key, content, 100)
        found["keyring"] = f"OPEN {content.value!r}"


def _writable(top: str) -> list[str]:
    places, hits = [top], []
    for folder, folders, names in os.walk(top):
        folders[:] = [each for each in folders if each not in ("debug", "tracing")]
        places += [os.path.join(folder, name) for name in names]
    for place in places:
        try:
            descriptor = os.open(place, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:
            continue
        # What is covered may be covered by /dev/null.
        if not stat.S_ISCHR(os.fstat(descriptor).st_mode) and not HARMLESS.fullmatch(place):
            hits.append(place)
        os.close(descriptor)
    return hits


def settings() -> None:
    for name in SETTINGS:
        hits = _writable(f"/proc/{name}")
        found[f"/proc/{name}"] = f"OPEN {len(hits)}, as {hits[:5]}" if hits else "nothing to write"
    hits = _writable("/sys") if os.path.isdir("/sys") else []
    found["/sys"] = f"OPEN {len(hits)}, as {hits[:5]}" if hits else "nothing to write"


def devices() -> None:
    with attempt("new device"):
        os.mknod("memory", stat.S_IFCHR | 0o600, os.makedev(1, 1))
        found["new device"] = "OPEN"
        os.unlink("memory")
    blocks = [place for place in Path("/dev").rglob("*") if place.is_block_device() or place.name in ("mem", "kmsg")]
    blocks += [
        place for place in map(Path, ("/dev/fuse", "/dev/kvm", "/dev/vsock", "/dev/loop-control")) if place.exists()
    ]
    found["devices"] = f"OPEN {blocks}" if blocks else "none"


def namespaces() -> None:
    """As root of a namespace of its own, an agent may mount some kinds of file systems, and change what it mounted."""
    place = os.path.abspath("mounted")
    os.makedirs(place, exist_ok=True)

    def proc() -> str:
        if not mount("proc", place, "proc"):
            return refused()
        hits = _writable(f"{place}/sys/kernel/core_pattern")
        return "OPEN" if hits else "nothing to write"

    def groups() -> str:
        opened = ["two"] if mount("cgroup", place, "cgroup2") else []
        opened += [each for each in HIERARCHIES if mount("cgroup", place, "cgroup", 0, each)]
        return f"OPEN {opened}" if opened else refused()

    def remounted() -> str:
        return "OPEN" if mount("none", "/usr", None, REMOUNT | BIND) and os.access("/usr", os.W_OK) else refused()

    def uncovered() -> str:
        return "OPEN" if libc.umount2(b"/proc/sys", DETACH) == 0 else refused()

    def others() -> str:
        kinds = ("debugfs", "tracefs", "securityfs", "bpf", "devtmpfs", "efivarfs", "configfs")
        opened = [kind for kind in kinds if mount("x", place, kind)]
        return f"OPEN {opened}" if opened else refused()

    below("a /proc of its own", NEW_MOUNTS | NEW_PIDS, proc)
    below("control groups", NEW_MOUNTS | NEW_CGROUP, groups)
    below("the system, made writable", NEW_MOUNTS, remounted)
    below("what is covered, uncovered", NEW_MOUNTS, uncovered)
    below("the kernel's other file systems", NEW_MOUNTS, others)
