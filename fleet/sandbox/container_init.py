"""The first process in a container: ``python3 -I -S container_init.py COMMAND...``.

It runs COMMAND in the agent's own environment (`fleet.sandbox.container_launcher`), carries its own input to it, and
ends with it. When it ends, the kernel ends all that is left in the container (pid_namespaces(7)).

It also ends when its input does: whoever started the container is gone then, while the container's own supervisor
lives on. A runtime ends at that by itself, or has a few seconds for it. So the agent never holds this input: it could
keep it open. Nor can it look into, or stop, this process: it is the first of its namespace, and not dumpable.

Nothing of Muster is imported.
"""

import ctypes
import json
import os
import select
import signal
import sys
import time

_ENVIRONMENT = "MUSTER_ENVIRONMENT"
_PR_SET_DUMPABLE = 4
_BLOCK = 1 << 16
#: After the end of its input a runtime has so long. Seconds.
_GRACE_S = 5.0


def environment(variables: "dict[str, str]") -> "dict[str, str]":
    """Return the agent's own, out of the container's."""
    found = json.loads(variables[_ENVIRONMENT])
    return {str(name): str(value) for name, value in found.items()}


class Pump:
    """Carries what comes in at one descriptor to another, and notices when nothing more will come."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink: int | None = sink
        self._waiting = b""
        self._ended = False
        #: Whoever gave the input is gone, though some of it may wait still.
        self.gone = False
        os.set_blocking(sink, False)

    def turn(self, wake: int, seconds: "float | None") -> None:
        """Wait for something to happen, or for so long, and go on with it."""
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        if self._waiting and not self.gone:
            # With nothing asked for, the kernel still tells that the other end is closed.
            poll.register(self._source, 0)
        elif not self._waiting and not self._ended:
            poll.register(self._source, select.POLLIN)
        if self._sink is not None:
            poll.register(self._sink, select.POLLOUT if self._waiting else 0)
        happened = dict(poll.poll(None if seconds is None else max(0, int(seconds * 1000))))
        if wake in happened:
            os.read(wake, _BLOCK)
        if happened.get(self._source, 0) & (select.POLLHUP | select.POLLERR):
            self.gone = True
        if self._sink is not None and happened.get(self._sink, 0) & (select.POLLERR | select.POLLHUP):
            self._close()
        if self._waiting:
            self._write()
        elif self._source in happened:
            self._read()

    def _read(self) -> None:
        block = os.read(self._source, _BLOCK)
        if not block:
            self._ended = self.gone = True
            self._close()
        elif self._sink is not None:
            self._waiting = block
            self._write()

    def _write(self) -> None:
        if self._sink is None:
            return
        try:
            sent = os.write(self._sink, self._waiting)
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._close()
            return
        self._waiting = self._waiting[sent:]

    def _close(self) -> None:
        self._waiting = b""
        if self._sink is not None:
            os.close(self._sink)
            self._sink = None


def alone() -> None:
    """Let no process of this user look into this one, or open what it holds (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this process cannot be made undumpable")


def start(command: "list[str]", own: "dict[str, str]") -> "tuple[int, int]":
    """Start the command; its process id, and where its input is to be written."""
    theirs, ours = os.pipe()
    child = os.fork()
    if child:
        os.close(theirs)
        return child, ours
    try:
        os.dup2(theirs, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(command[0], command, own)  # noqa: S606
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def collected(child: int) -> "int | None":
    """Collect all that ended; how the child did, if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 1 if found is None else found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def main(arguments: "list[str]") -> int:
    if not arguments or _ENVIRONMENT not in os.environ:
        print(f"usage: {_ENVIRONMENT}=JSON container_init.py COMMAND...", file=sys.stderr)
        return 2
    wake, woken = os.pipe()
    for descriptor in (wake, woken):
        os.set_blocking(descriptor, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    try:
        alone()
    except OSError as error:
        print(f"The container's first process is not safe from its agent: {error}", file=sys.stderr)
        return 1
    child, sink = start(arguments, environment(dict(os.environ)))
    pump = Pump(0, sink)
    deadline = None
    while (status := collected(child)) is None:
        if pump.gone and deadline is None:
            deadline = time.monotonic() + _GRACE_S
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return 1
        pump.turn(wake, left)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
