"""What is read of Chat Completions, and of what compatible servers make of them."""

from __future__ import annotations

from typing import Any

import pytest

from budget.tokens import Tokens
from egress.usage import meter_of
from tests.egress.usage.streams import document, event, metered

USAGE = {
    "prompt_tokens": 1000,
    "prompt_tokens_details": {"cached_tokens": 900},
    "completion_tokens": 250,
    "completion_tokens_details": {"reasoning_tokens": 200},
    "total_tokens": 1250,
}
TOKENS = Tokens(input=100, cache_read=900, output=50, reasoning=200)
DONE = b"data: [DONE]\n\n"


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return event({"id": "chatcmpl-1", "model": "gpt-5", "choices": choices, **more}, "")


HELLO, FINISH = chunk({"content": "Hello"}), chunk({}, "stop")


@pytest.mark.parametrize("choices", [[], None])
def test_a_client_that_did_not_ask_does_not_get_the_bill(choices: object) -> None:
    bill = chunk(choices=choices, usage=USAGE)
    passed, kept, reading = metered("chat", HELLO, FINISH, bill, DONE, hide_usage=True)
    assert (reading.tokens, reading.reported, reading.ended) == (TOKENS, True, True)
    assert (passed, kept) == (HELLO + FINISH, DONE)


def test_a_client_that_asked_gets_the_bill_with_the_end() -> None:
    bill = chunk(usage=USAGE)
    passed, kept, reading = metered("chat", HELLO, FINISH, bill, DONE)
    assert reading.reported
    assert (passed, kept) == (HELLO + FINISH, bill + DONE)


def test_a_bill_that_was_not_the_last_word_is_not_kept_from_what_follows() -> None:
    bill = chunk(usage=USAGE)
    passed, kept, _ = metered("chat", HELLO, bill, HELLO, FINISH, DONE)
    assert (passed, kept) == (HELLO + bill + HELLO + FINISH, DONE)


@pytest.mark.parametrize("hide", [True, False])
def test_a_bill_on_the_last_choice_counts_and_stays(hide: bool) -> None:
    last = chunk({}, "stop", usage=USAGE)
    passed, kept, reading = metered("chat", HELLO, last, DONE, hide_usage=hide)
    assert (reading.tokens, reading.reported, passed, kept) == (TOKENS, True, HELLO + last, DONE)


def test_chunks_without_choices_and_without_a_bill_stay() -> None:
    filters = chunk(prompt_filter_results=[{"prompt_index": 0}])
    assert metered("chat", filters, HELLO, DONE, hide_usage=True).passed == filters + HELLO


@pytest.mark.parametrize("ending", [(FINISH,), (FINISH, chunk(usage=USAGE)), (FINISH, DONE.rstrip())])
def test_some_servers_end_without_a_word(ending: tuple[bytes, ...]) -> None:
    passed, kept, reading = metered("chat", HELLO, *ending)
    assert reading.ended
    assert passed + kept == HELLO + b"".join(ending)


def test_a_stream_that_breaks_before_its_last_choice_has_not_ended() -> None:
    assert not metered("chat", HELLO).reading.ended


def test_an_error_among_the_chunks_ends_the_response() -> None:
    error = event({"error": {"message": "try later", "type": "server_error", "code": None}}, "")
    passed, kept, reading = metered("chat", HELLO, error)
    assert (reading.error, reading.ended, reading.reported) == ("server_error", True, False)
    assert (passed, kept) == (HELLO, error)


def test_what_streams_is_estimated_until_the_bill_comes() -> None:
    calls = [{"index": 0, "function": {"name": "grep", "arguments": "x" * 10}}]
    parts = [chunk({"content": "x" * 7}), chunk({"reasoning_content": "x" * 7}), chunk({"tool_calls": calls})]
    reading = metered("chat", *parts, DONE).reading
    assert (reading.reported, reading.so_far) == (False, Tokens(output=8))


def test_reasoning_beside_the_output_is_known_by_the_total() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "completion_tokens_details": {"reasoning_tokens": 300},
        "total_tokens": 315,
    }
    reading = metered("chat", HELLO, chunk(usage=usage), DONE).reading
    assert (reading.tokens, reading.reported) == (Tokens(input=10, output=5, reasoning=300), True)


def test_a_running_count_is_the_bill_only_where_the_stream_was_whole() -> None:
    counting = [chunk({"content": "x"}, usage={"prompt_tokens": 10, "completion_tokens": n}) for n in (1, 2, 3)]
    reading = metered("chat", *counting).reading
    assert (reading.reported, reading.tokens.output) == (False, 3)
    assert metered("chat", *counting, DONE).reading.reported


def test_a_count_beside_the_last_choice_is_not_the_bill_while_another_may_follow() -> None:
    meter = meter_of("chat", True, 200, False)
    meter.feed(HELLO + chunk({}, "stop", usage={**USAGE, "completion_tokens": 50}))
    assert not meter.reading.reported
    meter.feed(chunk(usage=USAGE))
    assert meter.reading.reported
    assert meter.reading.so_far == TOKENS


def test_a_document_without_a_bill_is_estimated_by_what_it_says() -> None:
    found = {"id": "c", "model": "m", "choices": [{"message": {"content": "x" * 640}}]}
    reading = document("chat", found).reading
    assert (reading.ended, reading.reported, reading.so_far.output) == (True, False, 170)


def test_a_document_that_is_no_json_is_estimated_by_its_size() -> None:
    reading = document("chat", b"x" * 640).reading
    assert (reading.ended, reading.garbled, reading.reported, reading.so_far.output) == (True, True, False, 170)


def test_a_gateways_page_of_an_error_is_told_in_one_line() -> None:
    reading = document("chat", b"<html>\n<h1>502 Bad Gateway</h1>", 502).reading
    assert reading.error == "other_error"
    assert reading.so_far == Tokens()
