"""Which calls of the kernel a sandbox leaves open: the filter, read as the kernel reads it, for machines that this is
not. That it holds is tried in sandboxes (tests/system/test_escapes.py)."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys

import pytest

from fleet.sandbox import seccomp_filter

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CREATES, TEMPORARY, NEW_USER, NEW_CGROUP, TIOCSTI = 0o101, 0o20200001, 0x10000000, 0x02000000, 0x5412


def answer(machine: str, name: str, *arguments: int, root: bool = False) -> int:
    """What the kernel answers to a call: 0, it goes on; or an error's number."""
    number = seccomp_filter.CALL_NUMBERS[name][list(ARCH).index(machine)]
    assert number is not None
    return _decided(seccomp_filter.program(machine, root=root), ARCH[machine], number, *arguments)


def _decided(lines: list[tuple[int, int, int, int]], arch: int, number: int, *arguments: int) -> int:
    fields = {0: number, 4: arch, **{16 + 8 * at: value & 0xFFFFFFFF for at, value in enumerate((*arguments, 0, 0, 0))}}
    at = loaded = 0
    while True:
        code, when, otherwise, value = lines[at]
        if code == 0x06:
            return value & 0xFFFF
        if code == 0x20:
            loaded, at = fields[value], at + 1
            continue
        holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
        at += 1 + (when if holds else otherwise)


@pytest.mark.parametrize("machine", ARCH)
def test_closes_what_leads_around_a_sandbox_and_nothing_that_programs_do(machine: str) -> None:
    for name in ("keyctl", "syslog", "bpf"):
        assert answer(machine, name) == errno.EPERM
    for name in ("io_uring_setup", "clone3", "openat2"):
        assert answer(machine, name) == errno.ENOSYS
    for family in map(int, (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)):
        assert answer(machine, "socket", family, socket.SOCK_STREAM) == 0
    for family in map(int, (0, socket.AF_PACKET, socket.AF_ALG, socket.AF_VSOCK, 45)):
        assert answer(machine, "socket", family, socket.SOCK_STREAM) == errno.EAFNOSUPPORT
    for name in ("clone", "unshare"):
        assert answer(machine, name, NEW_USER) == 0
        assert answer(machine, name, NEW_USER | NEW_CGROUP) == errno.EPERM
    assert answer(machine, "ioctl", 0, TIOCSTI) == errno.EPERM
    # What is above the lower half is no part of it to the kernel either.
    assert answer(machine, "ioctl", 0, TIOCSTI | 1 << 32) == errno.EPERM
    assert answer(machine, "ioctl", 0, TIOCSTI + 1) == 0


@pytest.mark.parametrize("machine", ARCH)
def test_no_file_is_made_that_runs_as_its_owner(machine: str) -> None:
    for mode, expected in ((0o755, 0), (0o1777, 0), (0o4755, errno.EPERM), (0o2755, errno.EPERM)):
        assert answer(machine, "fchmod", 3, mode) == expected
        assert answer(machine, "fchmodat", 0, 0, mode) == expected
        assert answer(machine, "mknodat", 0, 0, 0o100000 | mode) == expected
        for flags in (CREATES, TEMPORARY):
            assert answer(machine, "openat", 0, 0, flags, mode) == expected
        # Who makes no file may say anything there.
        assert answer(machine, "openat", 0, 0, os.O_RDWR, mode) == 0


def test_root_gives_no_file_attributes_and_others_may() -> None:
    for machine in ARCH:
        assert answer(machine, "fsetxattr", 3, root=True) == errno.EOPNOTSUPP
        assert answer(machine, "fsetxattr", 3) == 0


def test_calls_by_other_numbers_are_none() -> None:
    lines = seccomp_filter.program("x86_64", root=False)
    assert _decided(lines, ARCH["x86_64"], 0) == 0
    assert _decided(lines, ARCH["x86_64"], 0x40000000) == errno.ENOSYS
    assert _decided(lines, ARCH["aarch64"], 0) == errno.ENOSYS
    assert seccomp_filter.program("riscv64", root=False) == []


@pytest.mark.parametrize("words", [[], ["--"], ["rot", "--", "true"], ["true"]])
def test_says_how_it_is_called(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", seccomp_filter.__file__, *words], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.startswith(b"usage: seccomp_filter.py")) == (2, True)
