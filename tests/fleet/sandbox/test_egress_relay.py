"""A sandbox without network, and the one way out of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.sandbox.egress_grant import EgressGrant
from tests.fleet.sandbox.two_agents import LIMIT_S, Ground

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed"),
]


@pytest.fixture
def way(ground: Ground) -> EgressGrant:
    folder = ground.state / "run" / "out-coder0"
    folder.mkdir()
    return EgressGrant(socket=folder / "sock")


def socket_of(way: EgressGrant) -> Path:
    assert way.socket is not None
    return way.socket


@contextlib.asynccontextmanager
async def serving(way: EgressGrant, name: str) -> AsyncIterator[None]:
    """A plain HTTP server on the way's socket, which tells its name and the digest of what it was sent.

    It answers /early before it has read the body and hangs up, reads nothing more of /stuck, and answers what is no
    HTTP once nothing more comes.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await answer(reader, writer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            serving.discard(task)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\n")
        if head == b"RAW\n":
            writer.write((await reader.read())[::-1])
        else:
            path = head.split()[1]
            head = await reader.readuntil(b"\r\n\r\n")
            size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
            if path == b"/stuck":
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.Event().wait()
            body = b"" if path == b"/early" else await reader.readexactly(size)
            text = f"{name} {hashlib.sha256(body).hexdigest()}".encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))

    serving: set[asyncio.Task[Any]] = set()
    server = await asyncio.start_unix_server(serve, socket_of(way))
    try:
        yield
    finally:
        for task in tuple(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        server.close()
        await server.wait_closed()
        socket_of(way).unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def inside(ground: Ground, way: EgressGrant | None, program: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python program in the sandbox, whose streams are pipes."""
    argv, environment = ground.wrapped(sys.executable, "-I", "-c", program, way=way)
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def told(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    return json.loads(await process.stdout.readline())


def go(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")


ATTEMPTS = """
import json, os, socket, sys
port, abstract = PORT, ABSTRACT
said = {}
def attempt(name, act):
    try:
        said[name] = f"through: {act()!r}"
    except OSError as error:
        said[name] = error.__class__.__name__
def tcp(family, address):
    with socket.socket(family) as s:
        s.settimeout(3)
        s.connect(address)
def datagram(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", address)
attempt("loopback of the host", lambda: tcp(socket.AF_INET, ("127.0.0.1", port)))
attempt("abstract socket of the host", lambda: tcp(socket.AF_UNIX, abstract))
if OPEN:
    print(json.dumps(said), flush=True)
    sys.exit()
attempt("v4", lambda: tcp(socket.AF_INET, ("192.0.2.1", 443)))
attempt("v6", lambda: tcp(socket.AF_INET6, ("2001:db8::1", 443)))
attempt("loopback of the host, v6", lambda: tcp(socket.AF_INET6, ("::1", port)))
attempt("dns", lambda: socket.getaddrinfo("example.org", 443))
attempt("udp", lambda: datagram(("192.0.2.1", 53)))
attempt("icmp", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt("ping", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).sendto(b"\\x08", ("192.0.2.1", 0)))
attempt("frames", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
said["interfaces"] = [name for _, name in socket.if_nameindex()]
said["routes"] = sorted(line.split()[0] for line in open("/proc/net/route").read().splitlines()[1:])
print(json.dumps(said), flush=True)
"""  # noqa: E501


async def test_nothing_of_the_network_is_reached_from_inside(ground: Ground, way: EgressGrant) -> None:
    name = f"\0muster-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as host, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(name)
        abstract.listen()
        program = ATTEMPTS.replace("PORT", str(host.getsockname()[1])).replace("ABSTRACT", repr(name))
        async with inside(ground, way, program.replace("OPEN", "False")) as process:
            said = await told(process)
        # The same attempts reach this host where there is no way, and so the host's network.
        async with inside(ground, None, program.replace("OPEN", "True")) as process:
            open_ = await told(process)
    interfaces, routes = said.pop("interfaces"), said.pop("routes")
    assert not [attempt for attempt, outcome in said.items() if outcome.startswith("through")], said
    # There may be others that the kernel puts into every network; nothing leads over them.
    assert "lo" in interfaces
    assert routes == []
    assert open_ == dict.fromkeys(("loopback of the host", "abstract socket of the host"), "through: None")


async def test_of_musters_sockets_only_the_way_itself_is_there(ground: Ground, way: EgressGrant) -> None:
    run = ground.state / "run"
    (run / "out-coder1").mkdir()
    for path in (run / "egress.sock", run / "out-coder1" / "sock"):
        path.write_text("")
    script = f"exec 2>&1; cd {run}; find . | sort; rm */sock; mv out-coder0 away; echo x > out-coder0/x; ls out-coder0"
    async with serving(way, "egress"):
        out = await asyncio.to_thread(ground.run, script, way=way)
    assert out.splitlines()[:3] == [".", "./out-coder0", "./out-coder0/sock"]
    assert out.splitlines()[-1] == "sock"
    assert "egress.sock" not in out
    assert "out-coder1" not in out


ASK = """
import concurrent.futures, hashlib, http.client, json, os, sys
def ask(path, body=b""):
    connection = http.client.HTTPConnection("127.0.0.1", 47801, timeout=30)
    try:
        connection.request("POST", path, body)
        return connection.getresponse().read().decode()
    except OSError as error:
        return error.__class__.__name__
    finally:
        connection.close()
def tell(what):
    print(json.dumps(what), flush=True)
    sys.stdin.readline()
"""


async def test_what_is_sent_arrives_whole_over_many_connections_at_once(ground: Ground, way: EgressGrant) -> None:
    program = f"""{ASK}
bodies = [bytes([n]) * (n * 4001) for n in range(50)]
with concurrent.futures.ThreadPoolExecutor(50) as pool:
    answers = list(pool.map(lambda body: ask("/", body), bodies))
tell([answer == "egress " + hashlib.sha256(body).hexdigest() for answer, body in zip(answers, bodies)])
"""
    async with serving(way, "egress"), inside(ground, way, program) as process:
        assert await told(process) == [True] * 50


async def test_goes_on_when_the_egress_comes_back_and_waits_a_little_for_it(ground: Ground, way: EgressGrant) -> None:
    program = f"{ASK}\nfor _ in range(3):\n    tell(ask('/').split()[0])"
    async with inside(ground, way, program) as process:
        async with serving(way, "first"):
            assert await told(process) == "first"
        # Nobody listens when it asks again; whoever listens next answers.
        go(process)
        async with serving(way, "second"):
            assert await told(process) == "second"
            go(process)
            assert await told(process) == "second"


async def test_ends_are_passed_on_and_an_early_answer_is_not_lost(ground: Ground, way: EgressGrant) -> None:
    program = f"""{ASK}
import socket
with socket.create_connection(("::1", 47801)) as half:
    half.sendall(b"RAW\\nabc" + b"." * 300000)
    half.shutdown(socket.SHUT_WR)
    said = b""
    while block := half.recv(65536):
        said += block
tell([len(said), said[-3:].decode()])
early = socket.create_connection(("127.0.0.1", 47801))
early.sendall(b"POST /early HTTP/1.1\\r\\nContent-Length: 9000000\\r\\n\\r\\n")
try:
    for _ in range(90):
        early.sendall(b"x" * 100000)
except OSError:
    pass
tell(early.recv(12).decode())
"""
    async with serving(way, "egress"), inside(ground, way, program) as process:
        assert await told(process) == [300003, "cba"]
        go(process)
        assert await told(process) == "HTTP/1.1 200"


async def test_holds_little_of_what_nobody_takes(ground: Ground, way: EgressGrant) -> None:
    program = f"""{ASK}
import glob, socket
sent = 0
stuck = [socket.create_connection(("127.0.0.1", 47801)) for _ in range(8)]
for one in stuck:
    one.sendall(b"POST /stuck HTTP/1.1\\r\\nContent-Length: 99999999\\r\\n\\r\\n")
    one.settimeout(0.2)
    try:
        while sent < 400_000_000:
            sent += one.send(b"x" * 1000000)
    except TimeoutError:
        pass
(relay,) = [path for path in glob.glob("/proc/[0-9]*/status") if "muster-relay" in open(path).readline()]
kilobytes = next(int(line.split()[1]) for line in open(relay) if line.startswith("VmRSS"))
tell([sent < 400_000_000, kilobytes])
"""
    async with serving(way, "egress"), inside(ground, way, program) as process:
        blocked, kilobytes = await told(process)
        assert blocked
        assert kilobytes < 40_000


async def test_the_runtime_is_the_first_process_as_it_was_without_a_relay(ground: Ground, way: EgressGrant) -> None:
    script = "echo $$; grep SigIgn /proc/self/status; cat; exit 7"
    seen = []
    for each in (None, way):
        argv, environment = ground.wrapped("/bin/sh", "-c", script, way=each)
        process = await asyncio.create_subprocess_exec(
            *argv, env=environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(LIMIT_S):
            # Its output ends with it, although the relay still runs: nobody else holds its streams.
            out, _ = await process.communicate(b"through")
        seen.append((out.splitlines(), process.returncode))
    assert seen[0] == seen[1]
    (pid, ignored, said), code = seen[1]
    assert (pid, said, code) == (b"2", b"through", 7)
    # Python ignores it for itself; whoever runs the tests may ignore others.
    assert not int(ignored.split()[1], 16) & 1 << signal.SIGPIPE - 1


async def test_a_way_whose_folder_is_away_is_said_to_be(ground: Ground, way: EgressGrant) -> None:
    socket_of(way).parent.rmdir()
    with pytest.raises(FleetError, match="way out of its sandbox is not there"):
        ground.wrapped("/bin/true", way=way)
    with pytest.raises(FleetError, match="has no socket"):
        ground.wrapped("/bin/true", way=EgressGrant(url="http://127.0.0.1:1/t"))
