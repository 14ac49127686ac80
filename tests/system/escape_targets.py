"""What there is on this machine, outside of every sandbox, for the attempts of `tests/system/escapes` to find."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fleet import program_lookup

ESCAPES = Path(__file__).with_name("escapes")
CREDENTIAL = "sk-test-not-a-real-key"
SECRET = "secret"
#: asm/unistd.h: what is tried inside, and what puts there outside what is not to be found.
CALLS = {
    "x86_64": {
        **{"add_key": 248, "keyctl": 250, "shmget": 29, "shmctl": 31, "ptrace": 101, "syslog": 103, "bpf": 321},
        **{"perf_event_open": 298, "userfaultfd": 323, "open_by_handle_at": 304, "io_uring_setup": 425},
    },
    "aarch64": {
        **{"add_key": 217, "keyctl": 219, "shmget": 194, "shmctl": 195, "ptrace": 117, "syslog": 116, "bpf": 280},
        **{"perf_event_open": 241, "userfaultfd": 282, "open_by_handle_at": 265, "io_uring_setup": 425},
    },
}


class Outside:
    """What there is on this machine that an agent would like to have."""

    def __init__(self) -> None:
        self.abstract = f"muster-{uuid.uuid4().hex}"
        self.shared_memory = Path(f"/dev/shm/{self.abstract}")
        self.segment = int(uuid.uuid4().hex[:7], 16)

    @contextlib.contextmanager
    def there(self) -> Iterator[None]:
        libc, calls = ctypes.CDLL(None, use_errno=True), CALLS[platform.machine()]
        session, size = ctypes.c_long(-3), ctypes.c_size_t(len(SECRET))
        key = libc.syscall(calls["add_key"], b"user", self.abstract.encode(), SECRET.encode(), size, session)
        assert key >= 0, os.strerror(ctypes.get_errno())
        segment = libc.syscall(calls["shmget"], self.segment, ctypes.c_size_t(4096), 0o1600)
        assert segment >= 0, os.strerror(ctypes.get_errno())
        self.shared_memory.write_text(SECRET)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.closing(listening):
            listening.bind(f"\0{self.abstract}")
            listening.listen()
            try:
                yield
            finally:
                self.shared_memory.unlink()
                assert libc.syscall(calls["shmctl"], segment, 0, None) == 0

    def desired_states(self) -> dict[str, Any]:
        return {
            "abstract": self.abstract,
            "calls": CALLS[platform.machine()],
            "credential": [CREDENTIAL[:9], CREDENTIAL[9:]],
            "programs": [str(path) for path in program_lookup.python_paths()],
            "pid": os.getpid(),
            "process": Path("/proc/self/cmdline").read_bytes().hex(),
            "shared": self.segment,
            "files": [str(self.shared_memory)],
        }
