"""Errors in each provider's own shape, so that a runtime tells them as it tells its provider's own.

Which status a client retries is the caller's choice: 403 is final for every known one, 429 is tried again after
``Retry-After``. In the middle of a stream there is no status: the events here are those that Anthropic's and OpenAI's
own clients raise as errors, and none that can pass for a completed response.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.apis import Api

# Anthropic documentation, "Errors".
_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# OpenAI documentation, "Error codes": type and code. The code of 403 is our own: Codex and the SDKs show the message.
_OPENAI: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "forbidden_by_muster"),
    404: ("invalid_request_error", None),
    413: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
}


def body(api: Api, status: int, message: str) -> bytes:
    """The JSON body of a refusal with this status."""
    return _json(_error(api, status, message))


def event(api: Api, message: str, *, status: int = 403, sequence: int = 0) -> bytes:
    """What ends a stream in the middle, to be written where an event has just ended.

    Args:
        api: whose shape.
        message: why, and what opens it again.
        status: whose kind of error it is told as.
        sequence: of Responses, the number of this event.
    """
    if api == "anthropic":
        return b"event: error\ndata: " + _json(_error(api, status, message)) + b"\n\n"
    if api == "chat":
        return b"data: " + _json(_error(api, status, message)) + b"\n\n"
    kind, code = _openai(status)
    failed = {
        "type": "response.failed",
        "sequence_number": sequence,
        "response": {
            "id": "resp_muster",
            "object": "response",
            "created_at": 0,
            "status": "failed",
            "error": {"code": code or kind, "message": message},
            "incomplete_details": None,
            "output": [],
            "usage": None,
        },
    }
    return b"event: response.failed\ndata: " + _json(failed) + b"\n\n"


def _error(api: Api, status: int, message: str) -> Mapping[str, Any]:
    if api == "anthropic":
        kind = _ANTHROPIC.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}}
    kind, code = _openai(status)
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _openai(status: int) -> tuple[str, str | None]:
    usual = ("server_error", "server_error") if status >= 500 else ("invalid_request_error", None)
    return _OPENAI.get(status, usual)


def _json(found: Mapping[str, Any]) -> bytes:
    # No line end can stand in it: whatever the message holds, it stays within its event.
    return json.dumps(found, separators=(",", ":")).encode("ascii")
