"""Errors of the egress, as the clients of the providers read them."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from egress.http import error_responses
from egress.provider_endpoints import Api
from egress.usage import meter_of
from tests.egress.usage.streams import through

MESSAGE = 'agent:coder0 has used its 1,000 tokens.\n\ndata: [DONE]\r\n\r\nSay "!budget coder0 2000" — or wait.'
APIS = get_args(Api)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 418, 429, 500, 502, 503, 529])
def test_each_provider_has_its_own_shape(status: int) -> None:
    shown: dict[str, Any] = json.loads(error_responses.body("anthropic", status, MESSAGE))
    assert shown["type"] == "error"
    assert shown["error"]["message"] == MESSAGE
    for api in ("responses", "chat"):
        shown = json.loads(error_responses.body(api, status, MESSAGE))
        assert set(shown["error"]) == {"message", "type", "param", "code"}
        assert shown["error"]["message"] == MESSAGE


def test_the_kinds_are_those_that_anthropic_has() -> None:
    kinds = {
        status: json.loads(error_responses.body("anthropic", status, ""))["error"]["type"] for status in (403, 429, 502)
    }
    assert kinds == {403: "permission_error", 429: "rate_limit_error", 502: "api_error"}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("status", [403, 429, 503])
def test_an_event_is_one_event_and_an_error(api: Api, status: int) -> None:
    event = error_responses.event(api, MESSAGE, status=status)
    assert event.endswith(b"\n\n")
    assert event.count(b"\n\n") == 1
    # Read as a client would: it ends the stream, and not as completed.
    reading = through(meter_of(api, True, 200, False), [event]).reading
    assert reading.ended
    assert not reading.reported
    # The egress keeps the type of an error alone; the client reads its message.
    assert reading.error is not None
    shown: dict[str, Any] = json.loads(event.partition(b"data: ")[2])
    error = shown["response"]["error"] if api == "responses" else shown["error"]
    assert error["message"] == MESSAGE


def test_what_is_final_is_final_for_each_client() -> None:
    assert {api: error_responses.status_of(api, 403) for api in APIS} == {
        "anthropic": 403,
        "responses": 400,
        "chat": 403,
    }
    # Codex comes again after a 429, as it is asked to.
    assert all(error_responses.status_of(api, status) == status for api in APIS for status in (400, 401, 429, 503))


def test_codex_does_not_begin_again_after_a_cut() -> None:
    event = error_responses.event("responses", MESSAGE)
    shown = json.loads(event.partition(b"data: ")[2])
    assert shown["type"] == "response.failed"
    assert shown["response"]["error"] == {"code": "invalid_prompt", "message": MESSAGE}
