"""What is read of Anthropic's responses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from budget.tokens import Tokens
from egress.usage import meter_of
from tests.egress.usage.streams import cut, document, event, metered, through


def start(**usage: Any) -> bytes:
    return event(
        {"type": "message_start", "message": {"id": "msg_1", "model": "claude-opus-4-5", "usage": usage or None}}
    )


def text(words: str) -> bytes:
    delta = {"type": "text_delta", "text": words}
    return event({"type": "content_block_delta", "index": 0, "delta": delta})


def delta(stop: str | None = "end_turn", **usage: Any) -> bytes:
    return event({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": usage or None})


STOP = event({"type": "message_stop"})
FULL = {"input_tokens": 25, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 300, "output_tokens": 1}


def test_input_is_additive_and_the_last_output_counts() -> None:
    passed, kept, reading = metered("anthropic", start(**FULL), text("Hello"), delta(output_tokens=503), STOP)
    assert reading.tokens == Tokens(input=25, cache_write=7, cache_read=300, output=503)
    assert (reading.reported, reading.ended, reading.garbled, reading.error) == (True, True, False, None)
    assert (reading.model, reading.response_id) == ("claude-opus-4-5", "msg_1")
    assert kept == STOP
    assert passed == start(**FULL) + text("Hello") + delta(output_tokens=503)


@pytest.mark.parametrize("later", [None, 0, 24])
def test_nothing_that_comes_later_lowers_what_was_told(later: int | None) -> None:
    usage = dict.fromkeys(("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"), later)
    reading = metered("anthropic", start(**FULL), delta(**usage, output_tokens=5), STOP).reading
    assert reading.tokens == Tokens(input=25, cache_write=max(7, later or 0), cache_read=300, output=5)
    assert reading.reported


def test_a_count_that_grows_with_the_stream_is_not_added_up() -> None:
    steps = [delta(None, input_tokens=25, output_tokens=count) for count in (10, 20, 30)]
    assert metered("anthropic", start(**FULL), *steps, delta(output_tokens=40), STOP).reading.tokens.output == 40


def test_a_count_without_a_reason_to_stop_is_the_bill_once_the_stream_has_stopped() -> None:
    assert not metered("anthropic", start(**FULL), delta(None, output_tokens=40)).reading.reported
    assert metered("anthropic", start(**FULL), delta(None, output_tokens=40), STOP).reading.reported


def test_cache_writes_are_the_total_or_the_sum_of_their_kinds() -> None:
    kinds = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    for usage in ({"cache_creation": kinds}, {"cache_creation": kinds, "cache_creation_input_tokens": 7}):
        reading = metered("anthropic", start(input_tokens=1, **usage), delta(output_tokens=2), STOP).reading
        assert reading.tokens == Tokens(input=1, cache_write=7, output=2)


def test_thinking_is_told_apart_where_the_provider_does() -> None:
    usage: dict[str, Any] = {"output_tokens": 50, "output_tokens_details": {"thinking_tokens": 20}}
    reading = metered("anthropic", start(**FULL), delta(**usage), STOP).reading
    assert (reading.tokens.output, reading.tokens.reasoning) == (30, 20)


def test_compactions_and_advisors_are_billed_beside_the_totals() -> None:
    iterations = [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
        {"type": "advisor_message", "input_tokens": 100, "output_tokens": 10, "model": "claude-opus-4-5"},
        {"type": "message", "input_tokens": 23, "output_tokens": 9},
    ]
    reading = metered(
        "anthropic", start(input_tokens=23, output_tokens=1), delta(output_tokens=9, iterations=iterations), STOP
    ).reading
    assert reading.tokens == Tokens(input=180_123, output=3_519)
    assert reading.reported


def test_before_the_bill_comes_what_streams_is_estimated() -> None:
    reading = metered("anthropic", start(**FULL), text("x" * 640), whole=False).reading
    assert not reading.reported
    assert reading.tokens.output == 1
    assert reading.so_far == Tokens(input=25, cache_write=7, cache_read=300, output=170)


def test_thoughts_and_tool_input_count_as_written() -> None:
    thought = event({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "x" * 70}})
    tool = event({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "ü" * 35}})
    assert metered("anthropic", thought, tool, whole=False).reading.written == 61


def test_a_placeholder_alone_is_no_bill() -> None:
    reading = metered("anthropic", start(**FULL), text("Hello"), delta(), STOP).reading
    assert reading.ended
    assert not reading.reported


def test_an_error_in_mid_stream_ends_the_response() -> None:
    error = event({"type": "error", "error": {"type": "overloaded_error", "message": "Over\nloaded"}})
    passed, kept, reading = metered("anthropic", start(**FULL), text("Hello"), error)
    assert reading.error == "overloaded_error"
    assert reading.ended
    assert not reading.reported
    assert (passed, kept) == (start(**FULL) + text("Hello"), error)


def test_a_stream_that_breaks_before_its_end_has_not_ended() -> None:
    passed, kept, reading = metered("anthropic", start(**FULL), text("Hello"))
    assert not reading.ended
    assert passed + kept == start(**FULL) + text("Hello")


def test_a_stream_without_its_last_event_has_ended_if_the_bill_was_there() -> None:
    reading = metered("anthropic", start(**FULL), delta(output_tokens=9)).reading
    assert (reading.ended, reading.reported, reading.tokens.output) == (True, True, 9)


@pytest.mark.parametrize("odd", [-1, 1.0, "12", True, [3], {"a": 1}, 10**12 + 1, 10**40], ids=lambda odd: str(odd)[:12])
def test_what_is_no_count_is_ignored_and_the_reading_is_no_bill(odd: object) -> None:
    reading = metered("anthropic", start(**{**FULL, "input_tokens": odd}), delta(output_tokens=9), STOP).reading
    assert reading.tokens == Tokens(cache_write=7, cache_read=300, output=9)
    assert reading.garbled
    assert not reading.reported
    assert reading.ended


def test_a_bill_that_cannot_be_read_is_not_taken_for_none() -> None:
    broken = b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":\n\n'
    reading = metered("anthropic", start(**FULL), delta(output_tokens=9), broken, STOP).reading
    assert reading.garbled
    assert not reading.reported


def test_what_nobody_knows_passes_unread() -> None:
    unknown = event({"type": "muster.unheard_of", "usage": {"output_tokens": 10**6}})
    unnamed = b"data: not JSON at all\n\n"
    passed, _, reading = metered("anthropic", start(**FULL), unknown, delta(output_tokens=9), unnamed, STOP)
    assert reading.reported
    assert reading.tokens.output == 9
    assert unknown in passed
    assert unnamed in passed


def test_events_without_names_are_known_by_their_type() -> None:
    bare = [part.split(b"\n", 1)[1] for part in (start(**FULL), delta(output_tokens=9), STOP)]
    _, kept, reading = metered("anthropic", *bare)
    assert (reading.reported, reading.ended, kept) == (True, True, bare[-1])


def test_a_document_is_read_at_its_end() -> None:
    found = {"id": "msg_2", "type": "message", "model": "m", "content": [], "usage": {**FULL, "output_tokens": 12}}
    passed, kept, reading = document("anthropic", found)
    assert passed
    assert kept.endswith(b"}")
    assert reading.tokens == Tokens(input=25, cache_write=7, cache_read=300, output=12)
    assert (reading.reported, reading.ended, reading.model) == (True, True, "m")


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_what_comes_behind_a_document_is_dropped_or_counted(size: int) -> None:
    found = {
        "type": "message",
        "content": [{"type": "text", "text": "\u00fc{}"}],
        "usage": {**FULL, "output_tokens": 12},
    }
    source = f" {json.dumps(found, ensure_ascii=False)}".encode()
    behind = b'\n{"type": "text", "text": "' + b"free " * 400 + b'"}'
    whole = source + behind
    outcome = through(meter_of("anthropic", False, 200, False), cut(whole, range(0, len(whole), size)))
    if size == 10_000:
        assert (outcome.passed + outcome.kept, outcome.reading.reported) == (source, True)
        assert outcome.reading.tokens.output == 12
    else:
        # It went on before it was seen to be too much: so it is counted.
        assert not outcome.reading.reported
        assert outcome.reading.so_far.output > 400


def test_an_error_costs_nothing_unless_it_says_so() -> None:
    refusal: dict[str, Any] = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    reading = document("anthropic", refusal, 429).reading
    assert (reading.error, reading.reported, reading.tokens) == ("rate_limit_error", False, Tokens())
    reading = document("anthropic", {**refusal, "usage": {"input_tokens": 4, "output_tokens": 0}}, 500).reading
    assert (reading.reported, reading.tokens) == (True, Tokens(input=4))


def test_server_tools_stand_in_the_raw_usage() -> None:
    usage: dict[str, Any] = {"output_tokens": 3, "server_tool_use": {"web_search_requests": 2}}
    reading = metered("anthropic", start(**FULL), delta(**usage), STOP).reading
    assert reading.raw is not None
    assert reading.raw["server_tool_use"] == {"web_search_requests": 2}
    assert reading.raw["cache_read_input_tokens"] == 300
