"""What is read of OpenAI's Responses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from budget.tokens import Tokens
from egress.usage.event_stream_meter import StreamMeter
from egress.usage.openai_responses import ResponsesParser
from tests.egress.usage.streams import document, event, metered, through

USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 900},
    "output_tokens": 250,
    "output_tokens_details": {"reasoning_tokens": 200},
    "total_tokens": 1250,
}
TOKENS = Tokens(input=100, cache_read=900, output=50, reasoning=200)


def response(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "gpt-5", "status": status, "output": [], **more}


CREATED = event({"type": "response.created", "response": response("in_progress", usage=None)})


def terminal(kind: str, **more: Any) -> bytes:
    return event({"type": f"response.{kind}", "response": response(kind, **more)})


def text(words: str) -> bytes:
    return event({"type": "response.output_text.delta", "delta": words})


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_the_bill_comes_with_each_kind_of_end(kind: str) -> None:
    last = terminal(kind, usage=USAGE)
    passed, kept, reading = metered("responses", CREATED, text("Hi"), last)
    assert (reading.tokens, reading.reported, reading.ended) == (TOKENS, True, True)
    assert (reading.model, reading.response_id) == ("gpt-5", "resp_1")
    assert (passed, kept) == (CREATED + text("Hi"), last)


def test_what_failed_says_why_and_an_incomplete_response_is_none_that_failed() -> None:
    failed = terminal("failed", usage=None, error={"code": "server_error", "message": "oops"})
    reading = metered("responses", CREATED, failed).reading
    assert (reading.error, reading.reported, reading.ended) == ("server_error", False, True)
    incomplete = terminal("incomplete", usage=USAGE, incomplete_details={"reason": "max_output_tokens"})
    assert metered("responses", incomplete).reading.error is None


@pytest.mark.parametrize(
    "error",
    [
        {"type": "error", "code": "rate_limit_exceeded", "message": "slow"},
        {"type": "error", "error": {"type": "rate_limit_exceeded", "message": "slow"}},
    ],
)
def test_an_error_event_ends_the_response(error: dict[str, Any]) -> None:
    _, kept, reading = metered("responses", CREATED, text("x" * 7), event(error))
    assert (reading.error, reading.ended, reading.reported) == ("rate_limit_exceeded", True, False)
    assert kept == event(error)
    assert reading.so_far == Tokens(output=2)


@pytest.mark.parametrize("behind", [b"data: [DONE]\n\n", b": a comment\n\n", text("free of charge"), b"data: {", b"\n"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_what_comes_behind_the_end_is_dropped(behind: bytes, end: bytes) -> None:
    last = terminal("completed", usage=USAGE).replace(b"\n", end)
    source = last + behind.replace(b"\n", end)
    at_once = metered("responses", CREATED + source)
    assert (at_once.kept, at_once.reading.tokens, at_once.reading.reported) == (last, TOKENS, True)
    for place in range(1, len(source)):
        later = metered("responses", CREATED, source[:place], source[place:])
        assert (later.passed, later.kept, later.reading) == (CREATED, last, at_once.reading)


def test_after_the_release_the_rest_of_the_last_line_end_goes_on_and_nothing_else() -> None:
    meter = StreamMeter(ResponsesParser())
    last = terminal("completed", usage=USAGE).replace(b"\n", b"\r\n")
    assert meter.feed(last[:-1]) == b""
    assert meter.release() == last[:-1]
    assert meter.feed(b"\n") == b"\n"
    assert meter.feed(b"\n\n" + text("free of charge") + b"data: [DONE]\n\n") == b""
    assert meter.release() == b""


def test_the_rest_of_an_end_too_large_to_be_read_goes_on_and_nothing_behind_it() -> None:
    last = terminal("completed", output=[{"text": "x" * 9000}], usage=USAGE)
    source = last + text("free of charge") + b"data: {"
    for place in range(2_001, len(source), 97):
        meter = StreamMeter(ResponsesParser(), whole=1000, terminal=2000)
        assert meter.feed(source[:place]) == b""
        assert meter.reading.ended
        assert meter.release() + meter.feed(source[place:]) == last


@pytest.mark.parametrize(
    ("details", "tokens"),
    [
        ({"input_tokens_details": {"cached_tokens": 1001}}, Tokens(cache_read=1001, output=50, reasoning=200)),
        ({"output_tokens_details": {"reasoning_tokens": 251}}, Tokens(input=100, cache_read=900, reasoning=251)),
    ],
)
def test_parts_that_are_more_than_their_whole_are_no_bill(details: dict[str, Any], tokens: Tokens) -> None:
    reading = metered("responses", terminal("completed", usage={**USAGE, **details})).reading
    assert (reading.tokens, reading.garbled, reading.reported) == (tokens, True, False)


def test_an_end_without_a_bill_is_an_end() -> None:
    reading = metered("responses", CREATED, text("x" * 14), terminal("completed", usage=None)).reading
    assert (reading.ended, reading.reported, reading.so_far) == (True, False, Tokens(output=4))


def test_an_end_that_cannot_be_read_is_kept_back_all_the_same() -> None:
    broken = b'event: response.completed\ndata: {"type":"response.completed","response":{\n\n'
    _, kept, reading = metered("responses", CREATED, broken)
    assert (reading.ended, reading.garbled, reading.reported) == (True, True, False)
    assert kept == broken


def test_a_large_end_is_read_and_a_larger_one_only_kept_back() -> None:
    last = terminal("completed", output=[{"text": "x" * 3000}], usage=USAGE)
    other = event({"type": "response.output_item.done", "item": {"text": "y" * 3000}})
    meter = StreamMeter(ResponsesParser(), whole=1000, terminal=10_000)
    passed, kept, reading = through(meter, [CREATED, other, last])
    assert (reading.tokens, reading.reported) == (TOKENS, True)
    assert (passed, kept) == (CREATED + other, last)

    meter = StreamMeter(ResponsesParser(), whole=1000, terminal=2000)
    passed, kept, reading = through(meter, [CREATED, other, last])
    assert (reading.ended, reading.reported, reading.garbled) == (True, False, True)
    assert (passed, kept) == (CREATED + other, last)


def test_a_document_that_failed_says_so() -> None:
    found = response("failed", usage=USAGE, error={"code": "server_error", "message": "oops"})
    reading = document("responses", found).reading
    assert (reading.tokens, reading.reported, reading.error) == (TOKENS, True, "server_error")


def test_a_refusal_that_is_called_a_stream_is_read_as_the_document_that_it_is() -> None:
    refusal = json.dumps({"error": {"type": "invalid_request_error", "message": "no"}}).encode()
    passed, kept, reading = metered("responses", refusal[:1], refusal[1:5], refusal[5:])
    assert (reading.ended, reading.error) == (True, "invalid_request_error")
    assert passed + kept == refusal


def test_a_stream_that_is_called_a_document_is_read_as_the_stream_that_it_is() -> None:
    last = terminal("completed", usage=USAGE)
    passed, kept, reading = document("responses", CREATED + last)
    assert (reading.tokens, reading.ended, passed, kept) == (TOKENS, True, CREATED, last)


def search(**more: Any) -> dict[str, Any]:
    return {"id": "ws_1", "type": "web_search_call", "status": "completed", **more}


def test_searches_are_counted_in_what_came_of_them_since_no_usage_tells_them() -> None:
    output = [
        search(action={"type": "search", "query": "a"}),
        search(action={"type": "open_page", "url": "https://example.org"}),
        search(),
        {"type": "message", "content": []},
    ]
    last = terminal("completed", usage=USAGE, output=output)
    reading = metered("responses", CREATED, last).reading
    assert (reading.tokens, reading.reported) == (TOKENS, True)
    assert reading.raw == {**USAGE, "web_search_calls": 2}
    assert document("responses", response("completed", usage=USAGE, output=output)).reading.raw == reading.raw
    assert metered("responses", CREATED, terminal("completed", usage=USAGE)).reading.raw == USAGE


@pytest.mark.parametrize("named", [True, False])
def test_searches_of_a_stream_that_is_left_are_counted_as_they_were_done(named: bool) -> None:
    searched = {"type": "response.web_search_call.completed", "item_id": "ws_1"}
    done = event(searched) if named else event(searched, name="")
    reading = metered("responses", CREATED, done, done, text("Hi"), whole=False).reading
    assert reading.raw == {"web_search_calls": 2}
    assert not reading.reported
