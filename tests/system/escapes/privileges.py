"""To become somebody else, or to leave behind what makes somebody else of whoever runs it (credentials(7))."""

import contextlib
import os
import resource
import struct
import subprocess
from pathlib import Path

from .attempts import attempt, below, found

SET_ID = 0o6000
#: CAP_SYS_ADMIN, in effect, as a file has it (capabilities(7), linux/capability.h).
CAPABLE = struct.pack("<IIIII", 0x02000001, 1 << 21, 0, 0, 0)


def run() -> None:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    names = ("CapInh", "CapPrm", "CapEff", "CapAmb")
    held = {name: status[name] for name in names if int(status[name], 16)}
    found["capabilities"] = f"OPEN {held}" if held else "none"
    found["set-user-ID programs"] = "held back" if status["NoNewPrivs"] == "1" else "OPEN"
    with attempt("memory of the first process"), open("/proc/1/mem", "r+b", 0):
        found["memory of the first process"] = "OPEN"
    with attempt("program out of memory"):
        found["program out of memory"] = _in_memory()
    for name, make in (("by chmod", _chmod), ("by open", _open), ("by mknod", _mknod)):
        with attempt(f"set-user-ID file {name}"):
            make(name)
            mode = os.stat(name).st_mode
            found[f"set-user-ID file {name}"] = f"OPEN {mode:o}" if mode & SET_ID else "without"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    Path("capable").touch()
    with attempt("capabilities of a file"):
        found["capabilities of a file"] = _capable()
    # An ordinary user's count for that user's own namespaces alone.
    if resource.getrlimit(resource.RLIMIT_NPROC) and _is_root_outside():
        below("capabilities of a file, as root of a namespace", 0, _capable)
    for name, kind in (("open files", resource.RLIMIT_NOFILE), ("core", resource.RLIMIT_CORE)):
        _, most = resource.getrlimit(kind)
        if most == resource.RLIM_INFINITY:
            continue
        with attempt(f"limit of {name}"):
            resource.setrlimit(kind, (most + 1, most + 1))
            found[f"limit of {name}"] = "OPEN"


def _in_memory() -> str:
    memory = os.memfd_create("program", 0)
    os.write(memory, Path("/bin/grep").read_bytes())
    words = ["grep", "-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status"]
    said = subprocess.run(
        words, executable=f"/proc/self/fd/{memory}", pass_fds=[memory], capture_output=True, check=True
    )
    return "bound as well" if b"NoNewPrivs:\t1" in said.stdout and b"Seccomp:\t2" in said.stdout else "OPEN"


def _chmod(name: str) -> None:
    Path(name).touch()
    os.chmod(name, 0o4755)


def _open(name: str) -> None:
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o4755))


def _mknod(name: str) -> None:
    os.mknod(name, 0o104755)


def _capable() -> str:
    os.setxattr("capable", "security.capability", CAPABLE)
    return "OPEN"


def _is_root_outside() -> bool:
    """Whether one is root to the kernel: to nobody else does the first process's memory map of the system belong."""
    return os.stat("/proc/sys").st_uid == os.getuid() or os.getuid() == 0
