"""Running a project's tests on merged files, in a sandbox.

The files are an agent's, and so is all that runs. It sees the system's programs, the files, and what the profile of
the agent's sandbox mounts, read-only. It has no network and no variables but a few fixed ones. It ends with its first
process, or at its limit of time, with all that it started.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.errors import RuntimeMissing
from fleet.sandbox import bubblewrap, command_wrapper, process_limits
from fleet.sandbox.allowed_paths import check_mount
from fleet.sandbox.bubblewrap import Mount
from fleet.sandbox.egress_grant import PORT
from fleet.sandbox.profiles import BUILT_IN, DEFAULT, SandboxProfile
from fleet.sandbox.system_mounts import kernel, system
from fleet.workspace import sandboxed_git
from fleet.workspace.merge_gate import MergeGate
from fleet.workspace.sandboxed_git import GitFailed, GivenUp

#: Where the files are inside.
PLACE: Final = Path("/merged")
#: Bytes of what the tests say that are kept, and of the longest file that they write.
_KEPT: Final = 64 * 1024
_LONGEST_FILE: Final = 2**31
_LONGEST_FILE_BLOCKS: Final = _LONGEST_FILE // 512
#: Of one process, and how many, where the agent's profile has no bounds.
_MEMORY: Final = 4 * 2**30
_PROCESSES: Final = 1024
#: No secrets, and nothing of the person's.
_ENVIRONMENT: Final = {
    "PATH": os.pathsep.join(("/usr/local/bin", "/usr/bin", "/bin")),
    "LC_ALL": "C.UTF-8",
    "HOME": "/tmp",  # noqa: S108
    "TMPDIR": "/tmp",  # noqa: S108
    "CI": "true",
}
#: One after the other, as somebody would see it.
_TOGETHER: Final = 'ulimit -f "$1" && exec /bin/sh -c "$0" 2>&1'


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeSandbox:
    """What tests see and may use besides."""

    profile: SandboxProfile = BUILT_IN[DEFAULT]
    """The profile of the agent: its mounts, all read-only, and its bounds of memory and processes."""
    hidden: Sequence[Path] = ()
    """Muster's own folders."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateRun:
    """Tests that ran to their end, or were stopped."""

    command: str
    seconds: float
    problem: str | None = None
    """Why they did not succeed, as the end of a sentence; None: they did."""
    said: str = ""
    """The end of what they said, which may be anything."""


def run(gate: MergeGate, files: Path, sandbox: MergeSandbox, given_up: Callable[[], bool]) -> GateRun | None:
    """Run the tests on merged files, and wait for them.

    Args:
        gate: says what is run.
        files: the folder with the files, which tests may change.
        sandbox: what they see besides.
        given_up: whether nobody waits for them any more; they are ended then.

    Returns:
        How they went; None: there are none.

    Raises:
        RuntimeMissing: there is no sandbox.
        GivenUp: nobody waits for them.
    """
    if gate.test is None:
        return None
    began = time.monotonic()
    command = _command(gate.test, files, sandbox)
    try:
        done = sandboxed_git.run(
            command, timeout_s=gate.timeout_s, keep_last=_KEPT, environment=_ENVIRONMENT, given_up=given_up
        )
    except GivenUp:
        raise
    except GitFailed as stopped:
        why = f"they took longer than {gate.timeout_s:.0f} seconds" if stopped.late else str(stopped)
        return GateRun(command=gate.test, seconds=time.monotonic() - began, problem=why, said=stopped.complaint)
    problem = None if done.status == 0 else f"they ended with the status {done.status}"
    return GateRun(command=gate.test, seconds=time.monotonic() - began, problem=problem, said=done.said)


def _command(test: str, files: Path, sandbox: MergeSandbox) -> tuple[str, ...]:
    wrapper = shutil.which("bwrap")
    if wrapper is None:
        raise RuntimeMissing("bubblewrap is not installed: there is no program bwrap on the PATH.")
    profile = sandbox.profile
    memory = profile.memory or _MEMORY
    mounts = (
        *system(),
        *kernel(),
        *(Mount("readonly", path, path.resolve()) for path in command_wrapper.first_programs()),
        *(Mount("readonly", shown.place, check_mount(shown, sandbox.hidden)) for shown in profile.mounts),
        Mount("writable", PLACE, files.resolve()),
    )
    isolated = bubblewrap.isolated(
        wrapper,
        mounts,
        root=os.geteuid() == 0,
        scratch_bytes=command_wrapper.scratch_bytes(wrapper, profile.memory),
        network=False,
    )
    bounds = process_limits.words(memory, profile.pids or _PROCESSES, release=os.uname().release)
    python = command_wrapper.interpreter(BUILT_IN[DEFAULT])
    bounded = (python, "-I", "-S", str(command_wrapper.RELAY), "-", str(PORT), *bounds, "--")
    shell = ("/bin/sh", "-c", _TOGETHER, test, str(_LONGEST_FILE_BLOCKS))
    return (*isolated, "--chdir", str(PLACE), "--", *command_wrapper.closing(), *bounded, *shell)
