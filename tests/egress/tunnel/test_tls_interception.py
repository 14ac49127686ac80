"""A client that ignores base URLs and asks a metered host by its name is metered all the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from budget.tokens import Tokens
from egress.ledger.model import Action
from egress.provider_endpoints import Provider
from egress.settings import AccountSettings
from egress.tunnel.host_allowlist import RouteError
from egress.tunnel.tls_interception import metered_hosts
from tests.egress.tunnel import client_hellos
from tests.egress.tunnel.network import connect, within
from tests.egress.whole_egress import Plane, anthropic, events, plane

MESSAGES = "https://api.anthropic.com/v1/messages"


@pytest.fixture
async def way(short_home: Path) -> AsyncIterator[Plane]:
    async with plane(short_home) as made:
        await made.agent()
        yield made


@asynccontextmanager
async def port_of(way: Plane, agent: str = "coder0") -> AsyncIterator[int]:
    """A port that leads to an agent's socket, as the relay in its sandbox has one."""
    path = way.paths.listener(agent)
    carrying: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def one_way(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while content := await source.read(65536):
                    to.write(content)
                    await to.drain()
                to.write_eof()

        task = asyncio.current_task()
        assert task is not None
        carrying.add(task)
        there, back = await asyncio.open_unix_connection(path)
        try:
            await asyncio.gather(one_way(reader, back), one_way(there, writer))
        finally:
            back.transport.abort()
            writer.transport.abort()

    server = await asyncio.start_server(carry, "127.0.0.1")
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)


def trusting(way: Plane) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(way.paths.trust / "ca.pem"))


async def run(*command: str, env: dict[str, str] | None = None) -> tuple[bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **(env or {})},
    )
    return await within(process.communicate())


async def actions(way: Plane) -> list[Action]:
    head = way.egress.ledger.head
    while not (found := await way.egress.ledger.actions_after(0, 100)):
        assert await way.egress.ledger.newer(head, 10) != head, "nothing in the audit"
        head = way.egress.ledger.head
    return found


async def inner(way: Plane, host: str = "api.anthropic.com") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a metered host, with TLS, to write on by hand."""
    reader, writer = await asyncio.open_unix_connection(way.paths.listener("coder0"))
    writer.write(connect(f"{host}:443").encode())
    assert (await within(reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 200 ")
    await within(writer.start_tls(trusting(way), server_hostname=host))
    return reader, writer


async def test_curl_to_the_providers_own_name_is_metered_like_a_base_url(way: Plane) -> None:
    async with port_of(way) as port:
        printed, errors = await run(
            *("curl", "--silent", "--show-error", "--max-time", "20", "--proxy", f"http://127.0.0.1:{port}"),
            *("-H", "content-type: application/json", "-H", "x-api-key: sk-agent-made-this-up"),
            *("-d", json.dumps(anthropic()), MESSAGES),
            env={"CURL_CA_BUNDLE": str(way.paths.trust / "bundle.pem")},
        )
    answer = json.loads(printed or errors)
    usage = answer["usage"]
    (entry,) = await way.entries(1)
    assert (entry.agent, entry.account, entry.provider, entry.ended, entry.reported) == (
        *("coder0", "main", "anthropic", "completed", True),
    )
    assert entry.tokens == Tokens(input=usage["input_tokens"], output=usage["output_tokens"])
    # The account's credential went out, and not the agent's: a base URL's request came with the same.
    async with way.agents["coder0"].post("anthropic/v1/messages", json=anthropic()) as response:
        assert response.status == 200
    assert len({served.account for served in way.provider.ledger.entries}) == 1


async def test_a_stream_through_an_intercepted_connection_is_whole_and_kept_alive(way: Plane) -> None:
    async with port_of(way) as port, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.post(
                MESSAGES, json=anthropic(stream=True), proxy=f"http://127.0.0.1:{port}", ssl=trusting(way)
            ) as response:
                assert events(await response.read())[-1]["type"] == "message_stop"
    assert [entry.ended for entry in await way.entries(2)] == ["completed", "completed"]


async def test_node_trusts_the_certificate_and_is_metered(way: Plane) -> None:
    program = """
        const [port, body] = process.argv.slice(1);
        const http = require('http'), https = require('https');
        http.request({port, method: 'CONNECT', path: 'api.anthropic.com:443', headers: {host: 'api.anthropic.com:443'}})
          .on('connect', (_, socket) => {
            const asked = https.request(
              {host: 'api.anthropic.com', path: '/v1/messages', method: 'POST', socket, agent: false},
              (answer) => { answer.pipe(process.stdout); answer.on('end', () => process.exit(0)); });
            asked.on('error', (error) => { console.error(error); process.exit(1); });
            asked.end(body);
          }).end();
    """
    async with port_of(way) as port:
        printed, errors = await run(
            *("node", "-e", program, str(port), json.dumps(anthropic())),
            env={"NODE_EXTRA_CA_CERTS": str(way.paths.trust / "ca.pem")},
        )
    assert json.loads(printed or errors)["type"] == "message"
    assert len(await way.entries(1)) == 1


async def test_a_client_without_the_certificate_is_explained_in_the_audit(way: Plane) -> None:
    async with port_of(way) as port:
        _, errors = await run("curl", "--silent", "--show-error", "--proxy", f"http://127.0.0.1:{port}", MESSAGES)
    assert b"certificate" in errors
    assert "NODE_EXTRA_CA_CERTS" in (await actions(way))[0].cause


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET /v1/models HTTP/1.1\r\nHost: api.openai.com\r\n\r\n", 421),
        (b"GET /v1/models HTTP/1.1\r\nHost: api.anthropic.com:8443\r\n\r\n", 421),
        (b"GET /v1/models HTTP/1.1\r\nHost: api.anthropic.com\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.0\r\n\r\n", 421),
        (b"GET https://evil.example/v1/models HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n", 400),
        (connect("api.anthropic.com:443").encode(), 400),
        (connect("docs.python.org:443", host="api.anthropic.com").encode(), 400),
        (b"GET /v1/files HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n", 403),
        (b"POST /v1/messages/../files HTTP/1.1\r\nHost: api.anthropic.com\r\nContent-Length: 0\r\n\r\n", 400),
        (b"POST /openai/v1/responses HTTP/1.1\r\nHost: api.anthropic.com\r\nContent-Length: 0\r\n\r\n", 403),
    ],
)
async def test_within_it_nothing_else_is_reached(way: Plane, request_: bytes, status: int) -> None:
    reader, writer = await inner(way)
    writer.write(request_)
    line = await within(reader.readline())
    assert line.startswith(f"HTTP/1.1 {status} ".encode()) or line.startswith(f"HTTP/1.0 {status} ".encode()), line
    writer.close()
    assert not way.provider.ledger.entries
    if request_.startswith(b"CONNECT") or status == 421:
        assert (await actions(way))[0].action in {"route-refused", "refused"}


async def test_a_tunnel_out_of_an_intercepted_connection_is_told_for_what_it_is(way: Plane) -> None:
    reader, writer = await inner(way)
    writer.write(connect("docs.python.org:443", host="api.anthropic.com").encode())
    assert b"no proxy" in await within(reader.read())
    writer.close()
    assert "a tunnel" in (await actions(way))[0].cause


async def test_another_hosts_handshake_in_it_is_refused(way: Plane) -> None:
    reader, writer = await asyncio.open_unix_connection(way.paths.listener("coder0"))
    writer.write(connect("api.anthropic.com:443").encode() + client_hellos.real("api.openai.com"))
    assert (await within(reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 200 ")
    assert await within(reader.read()) == bytes.fromhex("15030100020270")
    writer.close()
    assert (await actions(way))[0].action == "route-refused"


@pytest.mark.parametrize(
    ("agent", "authority", "why"),
    [("coder1", "api.anthropic.com:443", "no account"), ("coder0", "api.anthropic.com:8443", "only on port 443")],
)
async def test_without_an_account_there_the_host_is_closed_and_so_are_its_other_ports(
    way: Plane, agent: str, authority: str, why: str
) -> None:
    accounts = {"openai": "other"} if agent == "coder1" else {"anthropic": "main"}
    await way.agent(agent, accounts=accounts, routes=["api.anthropic.com", "*.anthropic.com:8443"])
    reader, writer = await asyncio.open_unix_connection(way.paths.listener(agent))
    writer.write(connect(authority).encode())
    answer = (await within(reader.read())).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 403 ")
    assert why in answer


async def test_whoever_is_cut_off_is_refused_in_its_open_connection_too(way: Plane) -> None:
    reader, writer = await inner(way)
    await way.egress.gate.deny("coder0", action="cutoff", cause="enough", by="op", id="d1")
    body = json.dumps(anthropic()).encode()
    writer.write(
        b"POST /v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    assert (await within(reader.readline())).startswith(b"HTTP/1.1 403 ")
    writer.close()
    assert not way.provider.ledger.entries


async def test_a_stream_that_is_cut_ends_with_an_error_event_through_tls_too(way: Plane) -> None:
    async with port_of(way) as port, aiohttp.ClientSession() as session:
        asked = anthropic("[[say: first]][[hang]]", stream=True)
        proxy = f"http://127.0.0.1:{port}"
        async with session.post(MESSAGES, json=asked, proxy=proxy, ssl=trusting(way)) as response:
            begun = await within(response.content.readuntil(b"irst"))
            await way.egress.gate.deny("coder0", "cutoff", cause="too much", by="ops", id="1")
            content = begun + await within(response.content.read())
    last = events(content)[-1]
    assert last["type"] == "error"
    assert "too much" in json.dumps(last)
    assert (await way.entries(1))[0].ended == "cut"


async def test_a_route_that_cannot_be_read_is_told_to_whoever_registers(way: Plane) -> None:
    with pytest.raises(RouteError, match="in brackets"):
        await way.agent("coder2", routes=["fd00::5"])


def account(upstream: str, provider: Provider = "anthropic", **more: Any) -> AccountSettings:
    return AccountSettings(name=upstream, provider=provider, upstream=upstream, **more)


def test_hosts_of_upstreams_are_metered_and_this_machine_is_not_one() -> None:
    hosts = metered_hosts(
        [
            account("https://Models.Example.com:8443/team/anthropic/"),
            account("https://models.example.com/openai", "openai"),
            account("http://127.0.0.1:9999"),
            account("https://10.0.0.5"),
        ]
    )
    assert set(hosts) == {"api.anthropic.com", "api.openai.com", "models.example.com"}
    gateway = hosts["models.example.com"]
    assert gateway.ports == {443, 8443}
    assert gateway.find("POST", "/team/anthropic/v1/messages?beta=true") == ("anthropic", "/v1/messages?beta=true")
    assert gateway.find("POST", "/openai/v1/responses") == ("openai", "/v1/responses")
    assert gateway.find("GET", "/elsewhere") == ("anthropic", "/elsewhere")
    assert hosts["api.anthropic.com"].find("HEAD", "/") == ("anthropic", "/")


def test_one_host_with_two_interfaces_tells_them_apart_by_their_calls() -> None:
    both = metered_hosts([account("https://m.example.com"), account("https://m.example.com", "openai")])[
        "m.example.com"
    ]
    assert both.find("POST", "/v1/messages")[0] == "anthropic"
    assert both.find("POST", "/v1/chat/completions")[0] == "openai"
