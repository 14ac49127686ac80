"""Files, sockets and processes that are not the sandbox's."""

import contextlib
import glob
import os
import socket
from pathlib import Path

from .attempts import WISHES, attempt, found, libc, plug

IN_MODIFY = 2


def run() -> None:
    for place in WISHES["sockets"]:
        plug(f"socket {place}", socket.AF_UNIX, socket.SOCK_STREAM, place)
    watch = libc.inotify_init1(0)
    for place in WISHES["files"]:
        ways = [place, f"/proc/1/root{place}", f"/proc/self/root{place}", *glob.glob(f"/proc/[0-9]*/root{place}")]
        link = Path(f"link{len(found)}")
        link.symlink_to(place)
        ways += [str(link), os.path.relpath(place)]
        readable = [way for way in ways if os.path.exists(way)]
        with contextlib.suppress(OSError):
            os.link(place, f"hard{len(found)}")
            readable.append("by another name")
        if libc.inotify_add_watch(watch, place.encode(), IN_MODIFY) >= 0:
            readable.append("told of its changes")
        found[f"file {place}"] = f"OPEN {readable}" if readable else "nothing there"
        with attempt(f"writing {place}"):
            Path(place).write_text("mine")
            found[f"writing {place}"] = "in what is the sandbox's own, if it was not changed outside"
    lines = []
    for each in glob.glob("/proc/[0-9]*/cmdline"):
        # Some of them end meanwhile.
        with contextlib.suppress(OSError):
            lines.append(Path(each).read_bytes().hex())
    found["processes of the host"] = "OPEN" if WISHES["process"] in lines else f"sees {len(lines)}"
    with attempt("signal to the host"):
        os.kill(WISHES["pid"], 0)
        line = Path(f"/proc/{WISHES['pid']}/cmdline").read_bytes().hex()
        found["signal to the host"] = "OPEN" if line == WISHES["process"] else "another process"
    descriptors()


def descriptors() -> None:
    """What processes in here hold open that leads out of here: a file or folder that its own name does not find."""
    hits, looked = [], 0
    for place in glob.glob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            held, target = os.stat(place), os.readlink(place)
            looked += 1
            if not target.startswith("/") or place.startswith(f"/proc/{os.getpid()}/"):
                continue
            there = os.stat(target) if os.path.exists(target) else None
            if there is None or (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
                hits.append(target)
    found["descriptors looked at"] = str(looked)
    found["descriptors"] = f"OPEN {hits}" if hits else "of what is in here"
