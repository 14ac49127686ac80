"""What a request asks for, read strictly."""

from __future__ import annotations

import pytest

from egress.http import request_target
from egress.http.request_target import BadTarget, RequestTarget


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("/anthropic/v1/messages?beta=true", RequestTarget("anthropic", "/v1/messages", "?beta=true")),
        ("/anthropic", RequestTarget("anthropic", "/", "")),
        ("/anthropic/", RequestTarget("anthropic", "/", "")),
        ("/openai/v1/models/gpt-5", RequestTarget("openai", "/v1/models/gpt-5", "")),
        ("/anthropicx/v1/messages", RequestTarget(None, "/anthropicx/v1/messages", "")),
        ("/v1/messages", RequestTarget(None, "/v1/messages", "")),
        ("/", RequestTarget(None, "/", "")),
    ],
)
def test_the_first_segment_says_whose_it_is(raw: str, target: RequestTarget) -> None:
    assert request_target.read(raw) == target


def test_an_intercepted_connection_needs_no_such_segment() -> None:
    assert request_target.read("/v1/messages", provider="anthropic") == RequestTarget("anthropic", "/v1/messages", "")


@pytest.mark.parametrize(
    "raw",
    [
        "http://api.anthropic.com/v1/messages",
        "//api.anthropic.com/v1/messages",
        "*",
        "",
        "api.anthropic.com:443",
        "/anthropic//v1/messages",
        "/anthropic/../openai/v1/responses",
        "/anthropic/v1/./messages",
        "/anthropic/v1/messages/..",
        "/anthropic/v1%2fmessages",
        "/anthropic/v1/%2e%2e/admin",
        "/anthropic/v1/messages%00",
        "/anthropic/v1/messages%0d%0aX:1",
        "/anthropic/v1\\messages",
        "/anthropic/v1/messages#x",
        "/anthropic/v1/messages?x#y",
        "/anthropic/v1/messages%zz",
        "/anthropic/v1/messages%",
        "/anthropic/v1/messäges",
        "/anthropic/v1/messages x",
        "/anthropic/" + "a" * request_target.LONGEST,
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(raw: str) -> None:
    with pytest.raises(BadTarget):
        request_target.read(raw)
