"""The way out of a sandbox: ``python -I -S egress_relay.py SOCKET PORT [data=BYTES] [processes=N] -- COMMAND...``.

It listens on PORT of the loopback interface, leaves behind a process that carries what comes there to the unix socket
SOCKET and back, and becomes COMMAND: with the process id, streams and signals that it got itself. SOCKET ``-`` leaves
nothing behind. With limits, COMMAND and all that it starts are bound to them (getrlimit(2): RLIMIT_DATA, RLIMIT_NPROC).

Nothing of Muster need be seen inside but this file. What it carries it does not look at.
"""

import errno
import os
import resource
import select
import signal
import socket
import sys
import time

#: Bytes of one connection that wait in one direction; while they do, no more is read of it.
_BLOCK = 1 << 16
#: Connections at a time; further ones wait to be accepted.
_CONNECTIONS = 1024
_BACKLOG = 256
#: A connection waits so long for someone to listen on the socket, who may just be coming back.
_PATIENCE_S = 15.0
_AGAIN_S = 0.1
#: No one listens, is there, or has room at this instant.
_SOON = (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN)

CLIENT, EGRESS = 0, 1


class RelayedConnection:
    """Two sockets, and what was read of each and not yet written to the other."""

    __slots__ = ("closed", "deaf", "ended", "registered", "shut", "sides", "since", "waiting")

    def __init__(self, client: socket.socket, since: float) -> None:
        self.sides = [client]
        self.since = since
        #: By the side that it is to be written to.
        self.waiting = [b"", b""]
        #: That side has said that nothing more comes from it; and it was told so of the other.
        self.ended = [False, False]
        self.shut = [False, False]
        #: Takes nothing more, while it may still have something to say: whoever refuses a request need not read it.
        self.deaf = False
        self.registered = [0, 0]
        self.closed = False


class Relay:
    def __init__(self, path: str, listeners: list[socket.socket]) -> None:
        self._path = path
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, tuple[RelayedConnection, int]] = {}
        self._unconnected: list[RelayedConnection] = []
        self._count = 0
        self._accepting = False

    def run(self) -> None:
        while True:
            self._accept_if_there_is_room()
            self._connect()
            for descriptor, events in self._epoll.poll(_AGAIN_S if self._unconnected else -1):
                listener = self._listeners.get(descriptor)
                if listener is not None:
                    self._accept(listener)
                elif descriptor in self._by_descriptor:
                    self._serve(*self._by_descriptor[descriptor], events)

    def _accept_if_there_is_room(self) -> None:
        wanted = self._count < _CONNECTIONS
        if wanted != self._accepting:
            self._accepting = wanted
            for descriptor in self._listeners:
                if wanted:
                    self._epoll.register(descriptor, select.EPOLLIN)
                else:
                    self._epoll.unregister(descriptor)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                time.sleep(_AGAIN_S)
            return
        client.setblocking(False)
        # Otherwise the kernel keeps small pieces back, such as the events of a stream.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._count += 1
        self._unconnected.append(RelayedConnection(client, time.monotonic()))

    def _connect(self) -> None:
        still = []
        for connection in self._unconnected:
            try:
                egress = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            except OSError:
                self._close(connection)
                continue
            try:
                egress.connect(self._path)
            except OSError as error:
                egress.close()
                if error.errno in _SOON and time.monotonic() - connection.since < _PATIENCE_S:
                    still.append(connection)
                else:
                    self._close(connection)
                continue
            connection.sides.append(egress)
            for side in (CLIENT, EGRESS):
                self._by_descriptor[connection.sides[side].fileno()] = (connection, side)
            self._listen(connection)
        self._unconnected = still

    def _serve(self, connection: RelayedConnection, side: int, events: int) -> None:
        try:
            if events & ~select.EPOLLOUT and not connection.ended[side] and not connection.waiting[1 - side]:
                self._read(connection, side)
            if connection.waiting[side]:
                self._write(connection, side)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._close(connection)
            return
        if all(connection.ended) and not any(connection.waiting):
            self._close(connection)
        else:
            self._listen(connection)

    def _read(self, connection: RelayedConnection, side: int) -> None:
        try:
            block = connection.sides[side].recv(_BLOCK)
        except ConnectionError:
            if side == CLIENT:
                raise
            block = b""
        other = 1 - side
        if block:
            connection.waiting[other] = block
            self._write(connection, other)
        else:
            connection.ended[side] = True
            self._tell_end(connection, other)

    def _write(self, connection: RelayedConnection, side: int) -> None:
        if side == EGRESS and connection.deaf:
            connection.waiting[side] = b""
            return
        try:
            sent = connection.sides[side].send(connection.waiting[side])
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionError:
            if side == CLIENT:
                raise
            connection.deaf, sent = True, len(connection.waiting[side])
        connection.waiting[side] = connection.waiting[side][sent:]
        self._tell_end(connection, side)

    def _tell_end(self, connection: RelayedConnection, side: int) -> None:
        if connection.ended[1 - side] and not connection.waiting[side] and not connection.shut[side]:
            connection.shut[side] = True
            connection.sides[side].shutdown(socket.SHUT_WR)

    def _listen(self, connection: RelayedConnection) -> None:
        """Ask the kernel for what this connection can go on with, and no more: what hung up says so for ever."""
        for side in (CLIENT, EGRESS):
            wanted = 0
            if not connection.ended[side] and not connection.waiting[1 - side]:
                wanted |= select.EPOLLIN
            if connection.waiting[side]:
                wanted |= select.EPOLLOUT
            registered = connection.registered[side]
            if wanted == registered:
                continue
            descriptor = connection.sides[side].fileno()
            if not registered:
                self._epoll.register(descriptor, wanted)
            elif wanted:
                self._epoll.modify(descriptor, wanted)
            else:
                self._epoll.unregister(descriptor)
            connection.registered[side] = wanted

    def _close(self, connection: RelayedConnection) -> None:
        if connection.closed:
            return
        connection.closed = True
        self._count -= 1
        for one in connection.sides:
            # Closing takes it out of what the kernel watches.
            self._by_descriptor.pop(one.fileno(), None)
            one.close()


def listeners(port: int) -> list[socket.socket]:
    """Return both loopback addresses, the second one where there is such a thing."""
    found = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(_BACKLOG)
        except OSError:
            if family == socket.AF_INET:
                raise
            continue
        found.append(listener)
    return found


def leave_behind(path: str, found: list[socket.socket]) -> None:
    """Carry on in a process of its own, which no one waits for and which holds none of the streams."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        nothing = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os.chdir("/")
        # Told apart from the agent's own programs: an agent may end those by the name of their interpreter.
        with open("/proc/self/comm", "w") as name:
            name.write("muster-relay")
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        Relay(path, found).run()
    finally:
        os._exit(1)


def bind(limits: dict[str, int]) -> None:
    """Bind this process, and what it becomes, to the limits."""
    for name, kind in (("data", resource.RLIMIT_DATA), ("processes", resource.RLIMIT_NPROC)):
        if name in limits:
            _, most = resource.getrlimit(kind)
            wanted = limits[name] if most == resource.RLIM_INFINITY else min(limits[name], most)
            resource.setrlimit(kind, (wanted, wanted))


def main(arguments: list[str]) -> int:
    try:
        border = arguments.index("--")
        path, port, *words = arguments[:border]
        command = arguments[border + 1 :]
        limits = {name: int(value) for name, _, value in (word.partition("=") for word in words)}
        if not command:
            raise ValueError
        found = [] if path == "-" else listeners(int(port))
    except ValueError:
        print("usage: egress_relay.py SOCKET PORT [data=BYTES] [processes=N] -- COMMAND...", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"The way out of the sandbox cannot be opened: {error.strerror}", file=sys.stderr)
        return 1
    if found:
        leave_behind(path, found)
    bind(limits)
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
