"""Closes what of the kernel leads around a sandbox: ``python -I -S seccomp_filter.py [root] [apart] -- COMMAND...``.

It becomes COMMAND, to which, and to all that it starts, these calls are closed for ever (seccomp(2)):

- what namespaces do not part: keyrings, which hold secrets of whoever started this (keyrings(7)); sockets of other
  families than unix, internet and netlink, such as to the host of a virtual machine (vsock(7)); the kernel's log;
- what makes sockets or files by itself, and would go around this filter: io_uring(7), openat2(2), clone3(2), whose
  arguments a filter cannot see. Programs know kernels without them, and do it the older way;
- what reaches the host through a user namespace of the agent's own: namespaces of control groups, with which it could
  mount them and lift its limits, or end its neighbours;
- what would outlast it: files in its workspace that run as their owner, who is whoever runs Muster (chmod(2):
  set-user-ID, set-group-ID). For root, whose user namespaces are root's to the kernel, extended attributes as well,
  which give files capabilities (capabilities(7));
- what looks into the kernel, or types into a terminal: bpf(2), perf_event_open(2), userfaultfd(2), TIOCSTI.

`apart` puts COMMAND into a user namespace of its own first, where such may be made: so it cannot change the memory of
the sandbox's first process, which ends all others when the agent host ends (ptrace(2), "access mode checking").

Nothing of Muster is imported.
"""

import errno
import os
import signal
import struct
import sys
from collections.abc import Sequence

TYPE_CHECKING = False

#: By machine: its AUDIT_ARCH (linux/audit.h), and its place in the rows of `CALL_NUMBERS`.
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
#: asm/unistd.h; None: that machine has no such call.
CALL_NUMBERS: "dict[str, tuple[int | None, int | None]]" = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chmod": (90, None),
    "clone": (56, 220),
    "clone3": (435, 435),
    "creat": (85, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fsetxattr": (190, 7),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "keyctl": (250, 219),
    "lsetxattr": (189, 6),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "open": (2, None),
    "open_by_handle_at": (304, 265),
    "openat": (257, 56),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "request_key": (249, 218),
    "setxattr": (188, 5),
    "setxattrat": (463, 463),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "syslog": (103, 116),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
#: As if the kernel were too old for them.
_MISSING = ("io_uring_setup", "clone3", "openat2")
_DENIED = (
    *("add_key", "request_key", "keyctl", "syslog"),
    *("bpf", "perf_event_open", "userfaultfd", "open_by_handle_at"),
)
_ATTRIBUTES = ("setxattr", "lsetxattr", "fsetxattr", "setxattrat")
#: Which argument is the mode of a file; of those that may make one, which are the flags.
_MODES = {
    "chmod": (1, None),
    "fchmod": (1, None),
    "fchmodat": (2, None),
    "fchmodat2": (2, None),
    "creat": (1, None),
    "mknod": (1, None),
    "mknodat": (2, None),
    "open": (2, 1),
    "openat": (3, 2),
}
_SET_ID = 0o6000
#: O_CREAT and the bit of its own of O_TMPFILE: without one of them there need not be a mode.
_MAKES = 0o100 | 0o20000000
_NEW_CGROUP, _NEW_USER = 0x02000000, 0x10000000
_FAMILIES = (1, 2, 10, 16)  # unix, internet of both versions, netlink
_INJECTIONS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
#: From here on, x86-64 has the same calls once more, with other numbers.
_X32 = 0x40000000

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2
#: linux/bpf_common.h: load a word; go on if it is equal, at least, has one of the bits; answer.
_LOAD, _EQUAL, _LEAST, _BITS, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06


def program(machine: str, *, root: bool) -> "list[tuple[int, int, int, int]]":
    """The filter, each line its code, how many lines to skip when true and when false, and its value (linux/filter.h);
    empty: this machine's calls are not known here."""
    if machine not in _MACHINES:
        return []
    arch, column = _MACHINES[machine]
    missing = (_ANSWER, 0, 0, _ERRNO | errno.ENOSYS)
    # Fields of struct seccomp_data: the number of the call at 0, the machine at 4, the arguments from 16 on.
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, arch), missing, (_LOAD, 0, 0, 0), (_LEAST, 0, 1, _X32), missing]

    def rule(name: str, *body: "tuple[int, int, int, int]") -> None:
        number = CALL_NUMBERS[name][column]
        if number is not None:
            lines.extend([(_LOAD, 0, 0, 0), (_EQUAL, 0, len(body), number), *body])

    denied = (_ANSWER, 0, 0, _ERRNO | errno.EPERM)
    for name in _MISSING:
        rule(name, missing)
    for name in _DENIED:
        rule(name, denied)
    for name in _ATTRIBUTES if root else ():
        rule(name, (_ANSWER, 0, 0, _ERRNO | errno.EOPNOTSUPP))
    for name in ("clone", "unshare"):
        rule(name, _argument(0), (_BITS, 0, 1, _NEW_CGROUP), denied)
    for name, (mode, flags) in _MODES.items():
        makes = () if flags is None else (_argument(flags), (_BITS, 0, 3, _MAKES))
        rule(name, *makes, _argument(mode), (_BITS, 0, 1, _SET_ID), denied)
    for name in ("socket", "socketpair"):
        known = [(_EQUAL, len(_FAMILIES) - at, 0, family) for at, family in enumerate(_FAMILIES)]
        rule(name, _argument(0), *known, (_ANSWER, 0, 0, _ERRNO | errno.EAFNOSUPPORT))
    rule("ioctl", _argument(1), (_EQUAL, 1, 0, _INJECTIONS[0]), (_EQUAL, 0, 1, _INJECTIONS[1]), denied)
    return [*lines, (_ANSWER, 0, 0, _ALLOW)]


def _argument(number: int) -> "tuple[int, int, int, int]":
    """Load the lower half of an argument; both machines have it first."""
    return (_LOAD, 0, 0, 16 + 8 * number)


def close(lines: "Sequence[tuple[int, int, int, int]]") -> None:
    """Put the filter on this process.

    Nothing is done by an interpreter without ctypes, as images may have: engines of containers close most of this by
    themselves.

    Raises:
        OSError: the kernel cannot.
    """
    try:
        import ctypes
    except ImportError:
        return
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    whole = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(_PR_SET_SECCOMP, _FILTER, ctypes.addressof(whole), 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def part() -> None:
    """Go into a user namespace, as the same user.

    Raises:
        OSError: the kernel does not let that be.
    """
    import ctypes

    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(line)


def may_part() -> bool:
    """Return whether that can be. It is tried by another: who is in such a namespace cannot come back, nor go on as no
    one."""
    child = os.fork()
    if child == 0:
        try:
            part()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def main(arguments: "list[str]") -> int:
    border = arguments.index("--") if "--" in arguments else len(arguments)
    words, command = arguments[:border], arguments[border + 1 :]
    if not command or not {"root", "apart"}.issuperset(words):
        print("usage: seccomp_filter.py [root] [apart] -- COMMAND...", file=sys.stderr)
        return 2
    try:
        if "apart" in words and may_part():
            part()
        if lines := program(os.uname().machine, root="root" in words):
            close(lines)
    except OSError as error:
        print(f"The sandbox cannot be closed: {error.strerror}", file=sys.stderr)
        return 1
    # The interpreter ignores them, and what is ignored would stay so in everything that is started.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
