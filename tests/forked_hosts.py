"""Agent hosts and built-in agents that are forked from a process that has loaded them, in tests of the orchestrator.

Starting an interpreter and importing the Agent Client Protocol costs each of the two a third of a second. A forked
process has the same command line, environment, process group and pipes, so it is found, swept and killed in the same
way. Tests of the start itself use interpreters (the fixture `real_hosts`), as do those that run the whole of Muster as
processes; there, `tests.forked_orchestrators` forks its later lives.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NoReturn

from core import crash_points
from fleet.hosting import detached
from fleet.hosting.host_command_line import LOG, environment, host_command
from fleet.runtimes import sim
from tests import forkserver

#: What starts an agent host outside of tests.
start_interpreter = detached.start_process

_AGENT = [os.fsencode(word) for word in (sys.executable, *sim.RUNTIME.arguments)]
_FIELDS = slice(47, 51)
"""Where the command line and the environment begin and end, in /proc/PID/stat (proc(5))."""


class ForkedHost:
    """What `fleet.hosting.detached` needs of a process that it started."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid: int = process.pid

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("agent host", timeout or 0)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


def start(folder: Path, log: int) -> ForkedHost:
    """Do what `fleet.hosting.detached.start_process` does."""
    del log  # It is opened by name in the process that writes it.
    process = forkserver.process(_host, str(folder), host_command(folder, "--detach"), environment())
    process.start()
    return ForkedHost(process)


def _host(folder: str, command: list[str], variables: dict[str, str]) -> NoReturn:
    os.setsid()
    os.chdir(folder)
    log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    nothing = os.open(os.devnull, os.O_RDONLY)
    take_streams(nothing, log, log)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    become(command, variables)
    run_program(lambda: _host_main(command))


def _host_main(command: list[str]) -> int:
    from fleet.host.process import main

    subprocess._fork_exec = _fork_agent  # type: ignore[attr-defined]
    return main(command[4:])


_fork_exec: Any = subprocess._fork_exec  # type: ignore[attr-defined]


def _fork_agent(command: Sequence[bytes], *rest: Any) -> int:
    """Stand in for the function of this name in `subprocess`: fork where the command is that of the built-in agent."""
    if [os.fsencode(word) for word in command] != _AGENT:
        started: int = _fork_exec(command, *rest)
        return started
    if pid := os.fork():
        return pid
    _, _, _, cwd, variables, stdin, _, _, stdout, _, stderr, _, failed, _, session, *_ = rest
    preexec = rest[20]
    try:
        # What the parent holds must not be closed here, where its numbers mean something else.
        gc.freeze()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        take_streams(stdin, stdout, stderr)
        try:
            if cwd is not None:
                os.chdir(cwd)
            if session:
                os.setsid()
            if preexec is not None:
                preexec()
        except OSError as error:
            # As `subprocess` reports it.
            os.write(failed, b"OSError:%x:noexec" % (error.errno or 0))
            os._exit(255)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        given = dict(os.fsdecode(word).split("=", 1) for word in variables)
        become([os.fsdecode(word) for word in command], given)
    except BaseException:
        traceback.print_exc()
        os._exit(255)
    run_program(_agent_main)


def _agent_main() -> int:
    from fleet.sim.agent.acp_agent import main

    return main()


def take_streams(stdin: int, stdout: int, stderr: int) -> None:
    """Make these descriptors the streams of this process."""
    for number, given in enumerate((stdin, stdout, stderr)):
        os.dup2(given, number)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, closefd=False)  # noqa: SIM115
        for number, mode in enumerate(("r", "w", "w"))
    )


def become(command: list[str], variables: dict[str, str]) -> None:
    """Have this command line and this environment, for Python, for the C library and for who reads /proc."""
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        # The name of the program, in parentheses, may hold spaces.
        begin, end, env_begin, env_end = map(int, ("0 0 " + file.read().rpartition(")")[2]).split()[_FIELDS])
    os.environ.clear()
    _write(begin, end, command)
    _write(env_begin, env_end, [f"{name}={value}" for name, value in variables.items()])
    os.environ.update(variables)
    sys.argv = command[3:]
    tempfile.tempdir = None
    crash_points.arm(variables.get(crash_points.ENVIRONMENT_VARIABLE))


def _write(begin: int, end: int, words: list[str]) -> None:
    text = b"".join(os.fsencode(word) + b"\0" for word in words)
    assert len(text) <= end - begin, f"{len(text)} bytes do not fit into {end - begin}: see tests.forkserver."
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, text, len(text))


def run_program(main: Any) -> NoReturn:
    """Run to the end, as `python -m` would."""
    status = 1
    try:
        status = main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)
