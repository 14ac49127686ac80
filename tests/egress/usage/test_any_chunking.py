"""However the bytes of a response are cut, its reading is the same, and so is what its client gets."""

from __future__ import annotations

import json
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from egress.provider_endpoints import Api
from egress.usage import Meter, meter_of
from egress.usage.anthropic_messages import Messages
from egress.usage.event_stream_meter import StreamMeter
from egress.usage.openai_completions import CompletionsParser
from egress.usage.openai_responses import ResponsesParser
from fleet.sim.provider import anthropic_api, completions_api, responses_api
from fleet.sim.provider.api_writer import ResponseEnvelope
from fleet.sim.provider.token_count import BilledTokens
from tests.egress.usage.streams import cut, through

WRITERS: dict[Api, Any] = {
    "anthropic": anthropic_api.AnthropicWriter,
    "responses": responses_api.ResponsesWriter,
    "chat": completions_api.CompletionsWriter,
}
APIS = st.sampled_from(get_args(Api))
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
PLACES = st.lists(st.integers(min_value=0, max_value=6_000), max_size=40) | st.just(list(range(6_000)))
COUNTS = st.integers(min_value=0, max_value=10**6)

#: Values that stand where providers put numbers, words and objects, and some that do not.
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        *("type", "usage", "message", "delta", "response", "choices", "error", "model", "id", "content", "output"),
        *("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens", "cache_creation", "iterations"),
        *("input_tokens_details", "output_tokens_details", "prompt_tokens_details", "completion_tokens_details"),
        *("cached_tokens", "reasoning_tokens", "total_tokens", "tool_calls", "function", "finish_reason"),
    ]
)
NESTED = st.recursive(
    ODD, lambda inner: st.dictionaries(KEYS, inner, max_size=4) | st.lists(inner, max_size=3), max_leaves=12
)
TYPES = st.sampled_from(
    [
        *("message_start", "message_delta", "message_stop", "content_block_delta", "error", "message", "ping", ""),
        *("response.created", "response.completed", "response.failed", "response.output_text.delta", "other"),
    ]
)


@st.composite
def wild_streams(draw: st.DrawFn) -> bytes:
    """Events that no provider sends."""
    parts = []
    for _ in range(draw(st.integers(min_value=0, max_value=8))):
        kind, found = draw(TYPES), draw(NESTED)
        if isinstance(found, dict) and draw(st.booleans()):
            found["type"] = kind
        body = draw(st.sampled_from([json.dumps(found), json.dumps(found, indent=1), "[DONE]", "{", "\ud83d", ""]))
        name = f"event: {kind}\n" if draw(st.booleans()) else ""
        data = "".join(f"data: {line}\n" for line in body.split("\n"))
        comment = draw(st.sampled_from(["", ": hello\n", "\n", "id: 3\n"]))
        parts.append(f"{comment}{name}{data}\n".encode("utf-8", "replace"))
    return b"".join(parts) + draw(st.sampled_from([b"", b"data: {", b": x", b"event: message_stop\n"]))


def meters(api: Api, hide: bool) -> list[Meter]:
    """The meter, and one that finds everything large."""
    dialect = {"anthropic": Messages(), "responses": ResponsesParser(), "chat": CompletionsParser(hide_usage=hide)}[api]
    return [meter_of(api, True, 200, hide), StreamMeter(dialect, whole=120, terminal=400)]


@settings(max_examples=60, deadline=None)
@given(APIS, ENDS, PLACES, st.booleans(), st.text(max_size=30), COUNTS, COUNTS, COUNTS)
def test_of_a_usual_stream(
    api: Api, end: bytes, places: list[int], hide: bool, words: str, fresh: int, cached: int, output: int
) -> None:
    usage = BilledTokens(input=fresh, cache_read=cached, output=output, reasoning=output // 2)
    writer = WRITERS[api](ResponseEnvelope(id="1", model="sim-1", created=1))
    frames = [*writer.begin(usage), *writer.thought(words), *writer.text(words), *writer.end("end", usage)]
    source = b"".join(frames).replace(b"\n", end)
    outcome = through(meter_of(api, True, 200, hide), cut(source, places))
    assert outcome == through(meter_of(api, True, 200, hide), [source])
    reading = outcome.reading
    assert (reading.ended, reading.reported, reading.garbled, reading.error) == (True, True, False, None)
    told = 0 if api == "anthropic" else output // 2
    assert (reading.tokens.input, reading.tokens.cache_read) == (fresh, cached)
    assert (reading.tokens.output, reading.tokens.reasoning) == (output - told, told)
    last = frames[-1].replace(b"\n", end)
    bill = frames[-2].replace(b"\n", end) if api == "chat" else b""
    assert outcome.kept == (last if hide else bill + last)
    assert outcome.passed + outcome.kept == (source.replace(bill, b"") if hide and bill else source)


@settings(max_examples=100, deadline=None)
@given(APIS, wild_streams(), ENDS, PLACES, st.booleans(), st.booleans())
def test_of_a_stream_that_no_provider_sends(
    api: Api, source: bytes, end: bytes, places: list[int], hide: bool, whole: bool
) -> None:
    source = source.replace(b"\n", end)
    chunks = list(cut(source, places))
    for at_once, chunked in zip(meters(api, hide), meters(api, hide), strict=True):
        expected = through(at_once, [source], whole=whole)
        assert through(chunked, chunks, whole=whole) == expected
        if not hide:
            given = expected.passed + expected.kept
            assert source.startswith(given)
            # What comes behind the end of a response is dropped, and nothing else.
            assert given == source or expected.reading.ended
        tokens = expected.reading.so_far
        assert all(0 <= getattr(tokens, kind) <= 10**14 for kind in ("input", "output", "cache_read", "cache_write"))


@settings(max_examples=60, deadline=None)
@given(APIS, NESTED | st.binary(max_size=60), PLACES, st.sampled_from([200, 400, 500]))
def test_of_a_document(api: Api, found: object, places: list[int], status: int) -> None:
    source = found if isinstance(found, bytes) else json.dumps(found).encode()
    at_once = through(meter_of(api, False, status, False), [source])
    chunked = through(meter_of(api, False, status, False), cut(source, places))
    assert chunked.reading == at_once.reading
    assert chunked.passed + chunked.kept == source
    assert at_once.passed + at_once.kept == source


@settings(max_examples=100, deadline=None)
@given(APIS, wild_streams(), PLACES)
def test_what_counts_never_falls_while_a_stream_goes_on(api: Api, source: bytes, places: list[int]) -> None:
    meter = meter_of(api, True, 200, False)
    before = meter.reading.so_far
    for chunk in cut(source, places):
        meter.feed(chunk)
        now = meter.reading
        if now.reported:
            break
        assert now.so_far.total >= before.total
        before = now.so_far
