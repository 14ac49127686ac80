"""The credential, wherever it could be."""

import contextlib
import glob
import os
from pathlib import Path

from .attempts import WISHES, found

#: In two parts, so that it does not find itself.
NEEDLE = "".join(WISHES["credential"]).encode()


def holds(path: str) -> bool:
    with contextlib.suppress(OSError):
        return NEEDLE in Path(path).read_bytes()
    return False


def run() -> None:
    """Everywhere that could hold it: variables, command lines, files that are not the system's, memory."""
    places = [*glob.glob("/proc/[0-9]*/environ"), *glob.glob("/proc/[0-9]*/cmdline")]
    system = ("/proc", "/sys", "/dev", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", *WISHES["programs"])
    for folder, folders, names in os.walk("/"):
        folders[:] = [each for each in folders if os.path.join(folder, each) not in system]
        places += [os.path.join(folder, name) for name in names if os.path.isfile(os.path.join(folder, name))]
    found["files looked through"] = str(len(places))
    hits = [place for place in places if holds(place)]
    looked = 0
    for process in glob.glob("/proc/[0-9]*"):
        if int(process.removeprefix("/proc/")) == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f"{process}/mem", "rb", 0) as memory:
            for line in Path(f"{process}/maps").read_text().splitlines():
                span, rights, *_ = line.split()
                start, end = (int(each, 16) for each in span.split("-"))
                if not rights.startswith("rw") or end - start > 2**28:
                    continue
                with contextlib.suppress(OSError, OverflowError):
                    memory.seek(start)
                    content = memory.read(end - start)
                    looked += 1
                    if NEEDLE in content:
                        hits.append(f"{process}/mem")
    found["memory looked through"] = str(looked)
    found["credential"] = f"OPEN {hits}" if hits else "nowhere"
