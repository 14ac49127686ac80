"""Random documents, split into the events of a stream as providers split them, and assembled again."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress.provider_endpoints import Api
from egress.usage import NotAssembledError, meter_of
from egress.usage.document_assembly import AssembledDocument, is_known, knows_betas
from tests.egress.usage.streams import cut, event

WORDS = st.text(max_size=40)
COUNTS = st.integers(min_value=0, max_value=10**6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=5), JSON, max_size=3)


def pieces(dice: random.Random, text: str) -> list[str]:
    """A text in pieces of random lengths; at least one, some of them empty."""
    found = []
    while text:
        size = dice.choice((0, 1, 2, 5, 30))
        found.append(text[:size])
        text = text[size:]
    return found or [""]


# --- Anthropic -----------------------------------------------------------------------------------------------------

CITATION = st.fixed_dictionaries({"type": st.just("char_location"), "cited_text": WORDS, "document_index": COUNTS})
BLOCKS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": WORDS}),
    st.fixed_dictionaries(
        {"type": st.just("text"), "text": WORDS, "citations": st.lists(CITATION, min_size=1, max_size=3)}
    ),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": WORDS, "signature": WORDS}),
    st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": WORDS}),
    st.fixed_dictionaries({"type": st.just("tool_use"), "id": WORDS, "name": WORDS, "input": OBJECTS}),
    st.fixed_dictionaries({"type": st.just("server_tool_use"), "id": WORDS, "name": WORDS, "input": OBJECTS}),
    st.fixed_dictionaries({"type": st.just("web_search_tool_result"), "tool_use_id": WORDS, "content": JSON}),
    st.fixed_dictionaries({"type": st.just("unheard_of"), "content": JSON}),
)
MESSAGES = st.fixed_dictionaries(
    {
        "id": WORDS,
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": WORDS,
        "content": st.lists(BLOCKS, max_size=5),
        "stop_reason": st.sampled_from(["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal"]),
        "stop_sequence": st.none() | WORDS,
        "usage": st.fixed_dictionaries(
            {
                "input_tokens": COUNTS,
                "cache_creation_input_tokens": COUNTS | st.none(),
                "cache_read_input_tokens": COUNTS,
                "cache_creation": st.fixed_dictionaries({"ephemeral_5m_input_tokens": COUNTS}),
                "output_tokens": COUNTS,
                "service_tier": st.just("standard"),
            },
            optional={"server_tool_use": st.fixed_dictionaries({"web_search_requests": COUNTS})},
        ),
    },
    optional={
        "container": st.none() | OBJECTS,
        "context_management": st.fixed_dictionaries({"applied_edits": st.lists(OBJECTS, max_size=2)}),
    },
)


def split_message(dice: random.Random, found: dict[str, Any]) -> Iterator[bytes]:
    usage = found["usage"]
    begun = {key: value for key, value in found.items() if key != "context_management"}
    told = {key: value for key, value in usage.items() if key != "server_tool_use"}
    begun |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": {**told, "output_tokens": 1}}
    if "container" in begun:
        begun["container"] = None
    yield event({"type": "message_start", "message": begun})
    for index, block in enumerate(found["content"]):
        yield from _noise(dice, event({"type": "ping"}))
        empty, deltas = _split_block(dice, block)
        yield event({"type": "content_block_start", "index": index, "content_block": empty})
        for delta in deltas:
            yield event({"type": "content_block_delta", "index": index, "delta": delta})
            yield from _noise(dice, event({"type": "ping"}), b": a comment\n\n", event({"type": "unheard_of"}))
        yield event({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": found["stop_reason"], "stop_sequence": found["stop_sequence"]}
    if "container" in found:
        delta["container"] = found["container"]
    last = {"type": "message_delta", "delta": delta}
    if "context_management" in found:
        last["context_management"] = found["context_management"]
    keys = ["output_tokens", *(["server_tool_use"] if "server_tool_use" in usage else [])]
    keys += dice.sample(["input_tokens", "cache_read_input_tokens"], dice.randrange(3))
    yield event({**last, "usage": {key: usage[key] for key in keys}})
    yield event({"type": "message_stop"})


def _split_block(dice: random.Random, block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    match block["type"]:
        case "text":
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(dice, block["text"])]
            for citation in block.get("citations", ()):
                deltas.insert(dice.randrange(len(deltas) + 1), {"type": "citations_delta", "citation": citation})
            if "citations" in block:
                # Their order is that of the document.
                cited = iter(block["citations"])
                deltas = [{**each, "citation": next(cited)} if "citation" in each else each for each in deltas]
                return {"type": "text", "text": "", "citations": dice.choice(([], None))}, deltas
            return {"type": "text", "text": ""}, deltas
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(dice, block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return {"type": "thinking", "thinking": "", "signature": ""}, deltas
        case "tool_use" | "server_tool_use":
            source = json.dumps(block["input"], ensure_ascii=dice.random() < 0.5)
            if not block["input"] and dice.random() < 0.5:
                source = ""
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(dice, source)]
            return {**block, "input": {}}, deltas
    return block, []


def _noise(dice: random.Random, *among: bytes) -> Iterator[bytes]:
    if dice.random() < 0.2:
        yield dice.choice(among)


# --- Responses -----------------------------------------------------------------------------------------------------

RESPONSES = st.fixed_dictionaries(
    {
        "id": WORDS,
        "object": st.just("response"),
        "model": WORDS,
        "status": st.sampled_from(["completed", "incomplete"]),
        "output": st.lists(OBJECTS, max_size=4),
        "usage": st.fixed_dictionaries({"input_tokens": COUNTS, "output_tokens": COUNTS, "total_tokens": COUNTS}),
        "error": st.none(),
        "metadata": OBJECTS,
    }
)


def split_response(dice: random.Random, found: dict[str, Any]) -> Iterator[bytes]:
    begun = {**found, "status": "in_progress", "output": [], "usage": None}
    yield event({"type": "response.created", "sequence_number": 0, "response": begun})
    for number, item in enumerate(found["output"]):
        yield event({"type": "response.output_item.added", "output_index": number, "item": {}})
        for piece in pieces(dice, json.dumps(item)):
            yield event({"type": "response.output_text.delta", "output_index": number, "delta": piece})
        yield event({"type": "response.output_item.done", "output_index": number, "item": item})
    yield event({"type": f"response.{found['status']}", "sequence_number": 9, "response": found})


# --- Chat Completions ----------------------------------------------------------------------------------------------

LOGPROBS = st.lists(st.fixed_dictionaries({"token": WORDS, "logprob": st.floats(-9, 0)}), min_size=1, max_size=4)
CALLS = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1, max_size=9),
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": st.text(min_size=1, max_size=9), "arguments": WORDS}),
    }
)
CHOICES = st.fixed_dictionaries(
    {
        "message": st.fixed_dictionaries(
            {"role": st.just("assistant"), "content": st.none() | st.text(min_size=1), "refusal": st.none() | WORDS},
            optional={
                "tool_calls": st.lists(CALLS, min_size=1, max_size=3),
                "reasoning_content": st.text(min_size=1, max_size=20),
                "function_call": st.fixed_dictionaries({"name": st.text(min_size=1), "arguments": WORDS}),
                "annotations": st.lists(OBJECTS, min_size=1, max_size=2),
            },
        ),
        "logprobs": st.none() | st.fixed_dictionaries({"content": LOGPROBS, "refusal": st.none()}),
        "finish_reason": st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    }
)
COMPLETIONS = st.fixed_dictionaries(
    {
        "id": WORDS,
        "object": st.just("chat.completion"),
        "created": COUNTS,
        "model": WORDS,
        "choices": st.lists(CHOICES, min_size=1, max_size=4),
        "usage": st.fixed_dictionaries({"prompt_tokens": COUNTS, "completion_tokens": COUNTS}),
        "system_fingerprint": st.none() | WORDS,
    }
)


def split_completion(dice: random.Random, found: dict[str, Any]) -> Iterator[bytes]:
    """The choices come at the same time, each in its own order."""
    head = {**found, "object": "chat.completion.chunk", "usage": None}
    waiting = [_split_choice(dice, choice) for choice in found["choices"]]
    while any(waiting):
        parts = dice.choice([each for each in waiting if each])
        yield event({**head, "choices": [parts.pop(0)], "obfuscation": "x" * dice.randrange(9)}, "")
        yield from _noise(dice, b": a comment\n\n", b"\n")
    yield event({**head, "choices": [], "usage": found["usage"]}, "")
    yield b"data: [DONE]\n\n"


def _split_choice(dice: random.Random, choice: dict[str, Any]) -> list[dict[str, Any]]:
    message = choice["message"]
    first = {"role": "assistant", "content": message["content"] and "", "refusal": message["refusal"] and ""}
    if message["refusal"] == "":
        first["refusal"] = ""
    deltas: list[dict[str, Any]] = []
    for key in ("reasoning_content", "content", "refusal"):
        deltas += [{key: piece} for piece in pieces(dice, message.get(key) or "") if piece]
    deltas += [{"annotations": [each]} for each in message.get("annotations", ())]
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        deltas.append({"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]})
        for piece in pieces(dice, function["arguments"]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    if "function_call" in message:
        called = message["function_call"]
        deltas.append({"function_call": {"name": called["name"], "arguments": ""}})
        deltas += [{"function_call": {"arguments": piece}} for piece in pieces(dice, called["arguments"])]
    parts = [{"index": choice["index"], "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
    parts.insert(0, {"index": choice["index"], "delta": first, "logprobs": None, "finish_reason": None})
    if choice["logprobs"] is not None:
        for number, each in enumerate(choice["logprobs"]["content"]):
            parts[min(number, len(parts) - 1)] = _with_logprob(parts[min(number, len(parts) - 1)], each)
    return [*parts, {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}]


def _with_logprob(part: dict[str, Any], logprob: dict[str, Any]) -> dict[str, Any]:
    before = (part["logprobs"] or {}).get("content", [])
    return {**part, "logprobs": {"content": [*before, logprob], "refusal": None}}


# -------------------------------------------------------------------------------------------------------------------

DOCUMENTS: dict[Api, st.SearchStrategy[dict[str, Any]]] = {
    "anthropic": MESSAGES,
    "responses": RESPONSES,
    "chat": COMPLETIONS,
}
SPLIT = {"anthropic": split_message, "responses": split_response, "chat": split_completion}
PLACES = st.lists(st.integers(min_value=0, max_value=6_000), max_size=30) | st.just(list(range(9_000)))


def assembled(api: Api, *chunks: bytes, whole: bool = True) -> AssembledDocument | None:
    """What the client of this stream gets; nothing goes to it before that."""
    meter = meter_of(api, True, 200, False, assemble=True)
    for chunk in chunks:
        assert meter.feed(chunk) == b""
    if whole:
        meter.end()
    return meter.document()


ENDS = st.sampled_from([b"\n", b"\r\n"])


def _splits(data: st.DataObject, api: Api, seed: int, end: bytes, places: list[int]) -> None:
    found = data.draw(DOCUMENTS[api])
    for index, choice in enumerate(found.get("choices", ())):
        choice["index"] = index
    source = b"".join(SPLIT[api](random.Random(seed), found)).replace(b"\n", end)
    given_ = assembled(api, *cut(source, places))
    assert given_ is not None
    assert (given_.status, json.loads(given_.source())) == (200, found)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(get_args(Api)), st.integers(0, 2**32), ENDS, PLACES)
def test_a_document_that_was_split_is_assembled_as_it_was(
    data: st.DataObject, api: Api, seed: int, end: bytes, places: list[int]
) -> None:
    _splits(data, api, seed, end, places)


@pytest.mark.soak
@pytest.mark.timeout(900)
@settings(max_examples=2_000, deadline=None)
@given(st.data(), st.sampled_from(get_args(Api)), st.integers(0, 2**32), ENDS, PLACES)
def test_many_documents_that_were_split_are_assembled_as_they_were(
    data: st.DataObject, api: Api, seed: int, end: bytes, places: list[int]
) -> None:
    _splits(data, api, seed, end, places)


def test_what_is_no_stream_goes_on_as_it_is() -> None:
    meter = meter_of("anthropic", True, 200, False, assemble=True)
    source = b'{"type": "message", "usage": {"input_tokens": 1, "output_tokens": 2}}'
    assert meter.feed(source) == b""
    meter.end()
    assert meter.document() is None
    assert meter.release() == source


START = event({"type": "message_start", "message": {"id": "m", "content": [], "usage": {"input_tokens": 1}}})


@pytest.mark.parametrize(
    ("api", "chunks", "status"),
    [
        ("anthropic", [START, event({"type": "error", "error": {"type": "overloaded_error", "message": "no"}})], 529),
        ("anthropic", [START, event({"type": "error", "error": {"type": "unheard_of", "message": "no"}})], 500),
        ("chat", [event({"error": {"message": "no", "type": "server_error", "code": "rate_limit_exceeded"}}, "")], 429),
        ("chat", [event({"error": {"message": "no", "code": 502}}, "")], 502),
        ("responses", [event({"type": "error", "code": "rate_limit_exceeded", "message": "no", "param": None})], 429),
        ("responses", [event({"type": "error", "error": {"type": "api_error", "message": "no"}})], 500),
        (
            "responses",
            [event({"type": "response.failed", "response": {"error": {"code": "invalid_prompt", "message": "no"}}})],
            400,
        ),
    ],
)
def test_an_error_in_the_middle_becomes_the_error_that_a_document_would_have_been(
    api: Api, chunks: list[bytes], status: int
) -> None:
    found = assembled(api, *chunks)
    assert found is not None
    assert (found.status, found.found["error"]["message"]) == (status, "no")


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    start = event({"type": "content_block_start", "index": index, "content_block": content})
    return start + b"".join(event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas)


STOP = event({"type": "message_stop"})


def test_the_input_of_a_tool_that_ends_in_the_middle_is_read_as_far_as_it_goes() -> None:
    call = block(
        0, {"type": "tool_use", "input": {}}, {"type": "input_json_delta", "partial_json": '{"path": "a", "text": "b'}
    )
    found = assembled("anthropic", START, call, STOP)
    assert found is not None
    assert found.found["content"][0]["input"] == {"path": "a"}


@pytest.mark.parametrize(
    "odd",
    [
        block(0, {"type": "text", "text": ""}, {"type": "unheard_of_delta", "more": "x"}),
        event({"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "x"}}),
        block(0, {"type": "tool_use", "input": {}}, {"type": "input_json_delta", "partial_json": "no JSON"}),
        event("not JSON", "content_block_delta"),
    ],
)
def test_what_cannot_be_assembled_is_said_and_not_guessed(odd: bytes) -> None:
    with pytest.raises(NotAssembledError):
        assembled("anthropic", START, odd, STOP)


def test_what_is_longer_than_a_document_may_be_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    long = block(0, {"type": "text", "text": ""}, *[{"type": "text_delta", "text": "x" * 1_000_000}] * 40)
    with pytest.raises(NotAssembledError, match="longer"):
        assembled("anthropic", START, long, STOP)


def test_only_what_is_known_is_converted() -> None:
    assert is_known("anthropic", ["model", "messages", "max_tokens", "thinking", "tools"], [{"name": "a"}])
    assert not is_known("anthropic", ["model", "messages", "unheard_of"], None)
    assert not is_known("anthropic", ["tools"], [{"name": "a", "eager_input_streaming": True}])
    assert not is_known("chat", ["model", "messages", "audio"], None)
    assert not is_known("chat", ["model", "messages", "stream_options"], None)
    assert is_known("responses", ["model", "input", "unheard_of"], None)
    assert knows_betas([])
    assert knows_betas(["claude-code-20250219, interleaved-thinking-2025-05-14", ""])
    assert not knows_betas(["claude-code-20250219,unheard-of-2026-01-01"])
