"""Running git where a repository may be hostile.

A repository names programs that git runs (hooks, ``core.fsmonitor``, filters, ``remote.*.uploadpack`` and more), points
at objects elsewhere (``objects/info/alternates``), and answers with as much as it likes. So a command that opens an
agent's clone runs in a sandbox that shows the clone and the objects it borrows, read-only, without network (`inside`);
and a command that opens the person's repository runs with git's configuration pinned (`pinned`), for an agent may have
worked in there once. Both are bounded in time, in what they write, and in what they say.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from fleet import program_lookup
from fleet.errors import FleetError, RuntimeMissing
from fleet.sandbox import bubblewrap, command_wrapper
from fleet.sandbox.bubblewrap import Mount
from fleet.sandbox.system_mounts import kernel, system

#: The whole environment of git: nothing of the person's settings, no questions, no programs but git's own, no fetching
#: of what is missing from wherever a repository says (git(1), environment variables).
ENVIRONMENT: Final = {
    "PATH": os.pathsep.join(("/usr/local/bin", "/usr/bin", "/bin")),
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "GIT_ALLOW_PROTOCOL": "file",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}
#: What a repository's own configuration may not say. What is given here goes before it (git-config(1)).
_PINNED: Final = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.alternateRefsCommand": "true",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "credential.helper": "",
    "fetch.fsckObjects": "true",
    "transfer.fsckObjects": "true",
    "fetch.uriProtocols": "",
    "fetch.recurseSubmodules": "false",
    "fetch.writeCommitGraph": "false",
    "transfer.bundleURI": "false",
    "submodule.recurse": "false",
    "status.showUntrackedFiles": "all",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "protocol.file.allow": "always",
}
#: Bytes that a command may say.
_LONGEST_ANSWER: Final = 16 * 1024 * 1024
_LONGEST_COMPLAINT: Final = 8192
_BLOCK: Final = 512
#: Seconds until it is asked again whether somebody waits.
_LOOK_AGAIN_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    status: int
    output: bytes
    complaint: str
    """The last of what it wrote to stderr."""
    cut: bool = False
    """It said more than was wanted, and was stopped; `output` is the beginning."""

    @property
    def said(self) -> str:
        return self.output.decode("utf-8", "replace")


class GitFailed(FleetError):
    """A git command failed; `complaint` is what git said, and may hold anything."""

    code = "git.failed"

    def __init__(self, message: str, complaint: str = "", *, late: bool = False) -> None:
        super().__init__(message)
        self.complaint = complaint
        self.late = late
        """It took too long."""


class GivenUp(GitFailed):
    """Nobody waits for the command any more, so it was ended."""

    code = "git.given_up"


def program() -> program_lookup.Program:
    """Git.

    Raises:
        RuntimeMissing: it is not installed.
    """
    try:
        return program_lookup.find("git", shutil.which)
    except program_lookup.ProgramNotFound:
        raise RuntimeMissing("git is not installed, and an agent's clone of a repository needs it.") from None


def pinned(*arguments: str, git_dir: Path | None = None) -> tuple[str, ...]:
    """Return the command line of a git command that no repository's configuration turns into another one."""
    settings = (word for name, value in _PINNED.items() for word in ("-c", f"{name}={value}"))
    where = () if git_dir is None else (f"--git-dir={git_dir}",)
    return (*program().command, *settings, *where, *arguments)


def inside(
    command: Sequence[str], *, readonly: Sequence[Path], writable: Sequence[Path] = (), cwd: Path
) -> tuple[str, ...]:
    """Return the command line that runs `command` where nothing is seen but the system's programs and these folders,
    under their own paths. It has no network.

    Raises:
        RuntimeMissing: bubblewrap is not installed.
    """
    wrapper = shutil.which("bwrap")
    if wrapper is None:
        raise RuntimeMissing("bubblewrap is not installed: there is no program bwrap on the PATH.")
    shown = (*command_wrapper.first_programs(), *program().readonly, *readonly)
    mounts = (
        *system(),
        *kernel(),
        *(Mount("readonly", path, path.resolve()) for path in shown),
        *(Mount("writable", path, path.resolve()) for path in writable),
    )
    isolated = bubblewrap.isolated(
        wrapper, mounts, root=os.geteuid() == 0, scratch_bytes=command_wrapper.scratch_bytes(wrapper)
    )
    # What a hostile repository names is as hostile as its agent.
    return (*isolated, "--unshare-net", "--chdir", str(cwd), "--", *command_wrapper.closing(), *command)


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    file_bytes: int | None = None,
    memory_bytes: int | None = None,
    cut_at: int | None = None,
    keep_last: int | None = None,
    environment: Mapping[str, str] = ENVIRONMENT,
    given_up: Callable[[], bool] = lambda: False,
    told: bytes = b"",
    inherited: Sequence[int] = (),
) -> Done:
    """Run a command and wait for it.

    Args:
        command: its command line.
        timeout_s: seconds that it may take.
        file_bytes: no file that it writes becomes longer.
        memory_bytes: the address space that each of its processes may have.
        cut_at: bytes of its answer that are wanted; it is stopped when it says more.
        keep_last: bytes of the end of its answer that are wanted; it may say as much as it likes.
        environment: the whole environment.
        given_up: whether nobody waits for it any more.
        told: what it can read from its standard input.
        inherited: open files of ours that it and what it starts may read.

    Raises:
        GitFailed: it took longer than `timeout_s`, or said more than anybody reads; it is killed then.
        GivenUp: nobody waits for it; it is killed then.
    """
    # POSIX counts the size of files in blocks of 512 bytes, and shells that of memory in KiB (sh, ulimit).
    bounds = (("f", file_bytes, _BLOCK), ("v", memory_bytes, 1024))
    for letter, amount, unit in bounds:
        if amount is not None:
            command = ("/bin/sh", "-c", f'ulimit -{letter} "$0" && exec "$@"', str(amount // unit), *command)
    with _input(told) as given:
        process = subprocess.Popen(
            command,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
            pass_fds=inherited,
        )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        deadline = time.monotonic() + timeout_s
        said, complaint = _heard(process.stdout, process.stderr, deadline, cut_at, keep_last, given_up)
        cut = cut_at is not None and len(said) > cut_at
        status = 0 if cut else process.wait(timeout=timeout_s)
    except GivenUp:
        raise
    except subprocess.TimeoutExpired as error:
        raise GitFailed(f"git was stopped: {error}", late=True) from None
    except GitFailed as error:
        raise GitFailed(f"git was stopped: {error}", error.complaint, late=error.late) from None
    finally:
        # Also what it started and left behind. The group is its own, and still there as long as it was not waited for.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
        process.stderr.close()
    return Done(status, said[:cut_at] if cut else said, complaint.decode("utf-8", "replace"), cut)


@contextlib.contextmanager
def _input(told: bytes) -> Iterator[IO[bytes] | int]:
    """A file without a name that holds the input, so that nobody has to write while he reads."""
    if not told:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(told)
        file.seek(0)
        yield file


def answer(command: Sequence[str], doing: str, *, timeout_s: float) -> str:
    """Return what a command says, without the blanks around it.

    Args:
        doing: what is being done, as the beginning of a complaint.

    Raises:
        GitFailed: it failed.
    """
    done = run(command, timeout_s=timeout_s)
    if done.status != 0:
        raise GitFailed(f"{doing} failed: {reason(done.complaint)}", done.complaint)
    return done.said.strip()


def reason(complaint: str) -> str:
    """Return the line of a complaint that says why. What is in it may be an agent's."""
    lines = [line for line in complaint.splitlines() if line.strip() and not line.startswith(("remote:", "warning:"))]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "bwrap:"))] or lines
    return telling[0][:300] if telling else "git gave no reason."


def _heard(
    stdout: IO[bytes],
    stderr: IO[bytes],
    deadline: float,
    cut_at: int | None,
    keep_last: int | None,
    given_up: Callable[[], bool],
) -> tuple[bytes, bytes]:
    said, complaint = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ, said)
        selector.register(stderr, selectors.EVENT_READ, complaint)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise GitFailed("it took too long.", said.decode("utf-8", "replace") if keep_last else "", late=True)
            if given_up():
                raise GivenUp("nobody waits for it any more.")
            for key, _ in selector.select(min(left, _LOOK_AGAIN_S)):
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                key.data.extend(chunk)
                del complaint[:-_LONGEST_COMPLAINT]
                if keep_last is not None:
                    del said[:-keep_last]
                if cut_at is not None and len(said) > cut_at:
                    return bytes(said), bytes(complaint)
                if len(said) > _LONGEST_ANSWER:
                    raise GitFailed("it said more than anybody reads.")
    return bytes(said), bytes(complaint)
