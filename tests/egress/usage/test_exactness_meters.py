"""What the meters make of answers that break where one does not expect it."""

from __future__ import annotations

import json

import pytest

from budget.tokens import Tokens
from egress.usage import meter_of


def _chunk(written: int, finish: str | None = None) -> bytes:
    """A chunk of a server that counts aloud."""
    choice = {"index": 0, "delta": {"content": "word"}, "finish_reason": finish}
    usage = {"prompt_tokens": 9, "completion_tokens": written, "total_tokens": 9 + written}
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": usage}).encode() + b"\n\n"


def test_a_stream_that_counts_aloud_and_breaks_is_neither_whole_nor_billed() -> None:
    meter = meter_of("chat", streaming=True, status=200, hide_usage=True)
    assert meter.feed(_chunk(1) + _chunk(2))
    assert not meter.reading.reported
    assert meter.reading.so_far.total >= 11
    meter.end()
    assert not meter.reading.ended


@pytest.mark.parametrize("done", [b"data: [DONE]\n\n", b""])
def test_a_stream_that_counts_aloud_is_billed_by_its_last_count(done: bytes) -> None:
    meter = meter_of("chat", streaming=True, status=200, hide_usage=True)
    meter.feed(_chunk(1) + _chunk(7, "stop") + done)
    meter.end()
    assert meter.reading.ended
    assert meter.reading.reported
    assert meter.reading.tokens == Tokens(input=9, output=7)
