"""Odd deliveries and bills: what is told of an answer that went an odd way must be what the ledger holds."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import brotli
import pytest

from fleet.sim.agent.model_client import Events
from fleet.sim.provider import prompt_directives
from fleet.sim.provider.billing_ledger import BilledRequest
from fleet.sim.provider.normalized_request import Api
from fleet.sim.provider.prompt_directives import CachedInput
from fleet.sim.provider.server import Provider
from fleet.sim.provider.token_count import BilledTokens
from tests.fleet.sim.provider.test_server import LIMIT_S, PATHS, question
from tests.sim import chaos, odd_delivery, odd_usage
from tests.sim.odd_delivery import Encoding, Oddities
from tests.sim.odd_provider import running

HELLO = "[[say: Grüße, 🙂!]]"


class Client:
    """Takes answers as the bytes that they are."""

    def __init__(self, provider: Provider, session: aiohttp.ClientSession) -> None:
        self.provider, self._session = provider, session

    async def raw(self, api: str, text: str, **more: Any) -> tuple[aiohttp.ClientResponse, list[bytes]]:
        url = self.provider.url + PATHS[api]
        async with self._session.post(url, json=question(api, text, **more), headers={"x-api-key": "k"}) as response:
            return response, [piece async for piece in response.content.iter_any()]

    async def entry(self) -> BilledRequest:
        """The latest, when it has ended."""
        found = await self.provider.ledger.find(lambda e: e.state != "running", at_least=1, timeout=LIMIT_S)
        return found[-1]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running() as provider, aiohttp.ClientSession(auto_decompress=False) as session:
        yield Client(provider, session)


def decoded(raw: bytes, encoding: Encoding) -> bytes:
    match encoding:
        case "gzip":
            return zlib.decompress(raw, 31)
        case "deflate":
            return zlib.decompress(raw)
        case "br":
            content: bytes = brotli.decompress(raw)
            return content
    zstd = pytest.importorskip("backports.zstd")
    content = zstd.decompress(raw)
    return content


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_is_compressed_although_nobody_asked(client: Client, encoding: Encoding, stream: bool) -> None:
    for unsaid in ("", " unsaid"):
        text = f"{HELLO}[[encode: {encoding}{unsaid}]]"
        response, pieces = await client.raw("anthropic", text, stream=stream)
        assert response.headers.get("Content-Encoding") == (None if unsaid else encoding)
        content = decoded(b"".join(pieces), encoding)
        said = re.findall(r'"text": ?("(?:[^"\\]|\\.)*")', content.decode())
        assert "Grüße" in "".join(map(json.loads, said))
        assert (await client.entry()).digest == hashlib.sha256(content).hexdigest()


async def test_an_answer_is_cut_into_single_bytes_and_into_one_piece(client: Client) -> None:
    _, single = await client.raw("chat", f"{HELLO}[[chunks: 1]]")
    _, whole = await client.raw("chat", f"{HELLO}[[chunks: whole]]")
    assert len(whole) == 1
    assert len(single) > 50


@pytest.mark.parametrize(("ends", "mark"), [("crlf", b"\r\n\r\n"), ("cr", b"\r\r")])
async def test_lines_end_as_ordered(client: Client, ends: str, mark: bytes) -> None:
    _, pieces = await client.raw("responses", f"{HELLO}[[lines: {ends}]]")
    raw = b"".join(pieces)
    assert raw.endswith(mark)
    assert b"\n" not in raw.replace(b"\r\n", b"")


@pytest.mark.parametrize("api", PATHS)
async def test_noise_changes_nothing_that_is_said(client: Client, api: str) -> None:
    quiet = Events().feed(b"".join((await client.raw(api, "[[stream: 30 ab]]"))[1]))
    raw = b"".join((await client.raw(api, "[[stream: 30 ab]][[noise]][[trailing]]"))[1])
    assert raw.startswith(b"\xef\xbb\xbf")
    assert b": that was all" in raw
    noisy = Events().feed(raw.removeprefix(b"\xef\xbb\xbf"))
    noise = [data for data in noisy if "unheard_of" in data or '"ping"' in data]
    assert len(noise) > 1
    kept = [_shape(data) for data in noisy if data not in noise]
    assert kept == [_shape(data) for data in quiet if '"ping"' not in data]


def _shape(data: str) -> list[str]:
    return [data] if data == "[DONE]" else list(json.loads(data))


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("how", ["disconnect", "short", "unfinished"])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_ends_before_its_end(client: Client, api: str, how: str, stream: bool) -> None:
    text = f"[[say: Half of it]][[{how}]]"
    if how == "unfinished":
        _, pieces = await client.raw(api, text, stream=stream)
        assert pieces
        assert b"message_stop" not in b"".join(pieces)
    else:
        with pytest.raises(aiohttp.ClientError):
            await client.raw(api, text, stream=stream)
    entry = await client.entry()
    assert (entry.state, entry.reported) == ("unfinished" if how == "unfinished" else "disconnected", False)
    assert entry.usage.output > 0


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("billed", [True, False])
async def test_an_error_tells_a_bill_only_where_it_was_ordered(client: Client, api: str, billed: bool) -> None:
    response, pieces = await client.raw(api, f"[[error: 529{' billed' * billed} No.]]")
    answer, entry = json.loads(b"".join(pieces)), await client.entry()
    assert (response.status, "usage" in answer, entry.reported) == (529, billed, billed)
    assert (entry.usage.input > 0) is billed


async def test_a_response_that_failed_tells_its_bill_where_it_was_ordered(client: Client) -> None:
    _, pieces = await client.raw("responses", "[[say: Half]][[error: 500 billed]]")
    last = json.loads(Events().feed(b"".join(pieces))[-1])
    entry = await client.entry()
    assert last["response"]["usage"]["output_tokens"] == entry.usage.output > 0
    assert (entry.state, entry.reported) == ("failed", True)


@pytest.mark.parametrize("kind", odd_usage.KINDS)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", PATHS)
async def test_what_is_told_of_the_bill_is_what_the_ledger_holds(
    client: Client, api: Api, stream: bool, kind: odd_usage.Kind
) -> None:
    order = f"[[think: Hm.]][[say: All.]][[cache: 300 20]][[usage: {kind}]]"
    _, pieces = await client.raw(api, order, stream=stream)
    raw, entry = b"".join(pieces), await client.entry()
    events = [json.loads(data) for data in Events().feed(raw) if data != "[DONE]"] if stream else [json.loads(raw)]
    usages = [found for event in events for found in _usages(event)]
    assert entry.reported is (kind not in odd_usage.UNTOLD)
    if not entry.reported:
        assert not usages or kind in {"unfinal", "garbage"}
        return
    # Merged as the documentation says: the largest of each, Anthropic's cumulative over its events.
    names = {name for usage in usages for name in usage}
    most = {
        name: max(u[name] for u in usages if isinstance(u.get(name), int)) for name in names if name.endswith("_tokens")
    }
    whole = most.get("input_tokens", most.get("prompt_tokens"))
    if api == "anthropic":
        read, written = most.get("cache_read_input_tokens", 0), most.get("cache_creation_input_tokens", 0)
        assert (whole, read, written) == (entry.tokens.input, entry.tokens.cache_read, entry.tokens.cache_write)
    else:
        assert whole == entry.usage.whole_input == entry.tokens.input + entry.tokens.cache_read
    told = most.get("output_tokens", most.get("completion_tokens"))
    assert told == entry.usage.output == entry.tokens.output + entry.tokens.reasoning


def _usages(source: object) -> list[dict[str, Any]]:
    if not isinstance(source, dict):
        return []
    here = [source["usage"]] if isinstance(source.get("usage"), dict) else []
    return here + [found for value in source.values() for found in _usages(value) if value is not source.get("usage")]


async def test_the_digest_without_the_chunk_of_usage_is_that_of_a_stream_without_it(client: Client) -> None:
    _, pieces = await client.raw("chat", HELLO)
    entry = await client.entry()
    raw = b"".join(pieces)
    head, usage, tail = raw.rpartition(b'data: {"id"')
    assert b'"choices":[]' in (usage + tail)
    visible = head + b"data: [DONE]\n\n"
    assert entry.visible_digest == hashlib.sha256(visible).hexdigest() != entry.digest


async def test_a_large_answer_and_a_connection_that_stays_open(client: Client) -> None:
    _, pieces = await client.raw("anthropic", "[[fill: 3000000]][[linger: 0.05]]", max_tokens=10_000_000)
    assert sum(len(piece) for piece in pieces) > 3_000_000
    assert (await client.entry()).usage.output == 750_000


def test_orders_of_deliveries_are_read() -> None:
    text = "[[encode: br unsaid]][[chunks: 7]][[cache: 1 2]][[usage: nulls]][[linger: 2]]"
    odd, rest = odd_delivery.parse(text)
    assert odd == Oddities(encoding="br", unsaid=True, chunk=7, usage="nulls", linger_s=2.0)
    assert prompt_directives.parse(rest) == ((CachedInput(1, 2),), "")
    for wrong in (
        "[[encode: lzma]]",
        "[[chunks: 0]]",
        "[[chunks: x]]",
        "[[lines: x]]",
        "[[usage: odd]]",
        "[[noise: 3]]",
        "[[cache: 1]]",
    ):
        assert odd_delivery.parse(wrong) == (Oddities(), wrong)
        assert prompt_directives.parse(wrong) == ((), wrong)


async def test_chaos_is_the_same_for_the_same_seed() -> None:
    async def played() -> list[tuple[str, BilledTokens]]:
        async with running(seed="1") as provider, aiohttp.ClientSession() as session:
            client = Client(provider, session)
            for number in range(40):
                with contextlib.suppress(aiohttp.ClientError):
                    await client.raw("responses", f"q{number}", stream=number % 2 == 0)
            found = await provider.ledger.find(lambda e: e.state != "running", at_least=40, timeout=LIMIT_S)
            return [(entry.state, entry.usage) for entry in sorted(found, key=lambda e: e.number)]

    first = await played()
    assert len({state for state, _ in first}) > 1
    assert first == await played()


@pytest.mark.parametrize("stream", [True, False])
def test_chance_orders_only_what_there_is(stream: bool) -> None:
    for seed in range(300):
        _, rest = odd_delivery.parse(chaos.orders(random.Random(seed), "responses", stream=stream))
        _, rest = prompt_directives.parse(rest)
        assert rest == ""
