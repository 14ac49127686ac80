"""Errors in each provider's own format, so that a runtime handles them like its provider's.

The caller chooses the status: 403 is final, and 429 allows a retry after ``Retry-After``. `status_of` returns the
status that is sent. In the middle of a stream there is no status. The events here are ones that Claude Code, Codex and
the SDKs treat as an error, and never as a completed response.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from egress.provider_endpoints import Api


class ErrorResponse(Exception):
    """The response to a request that is not forwarded."""

    def __init__(self, status: int, message: str, *, retry_after_s: int | None = None, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s
        self.close = close
        """What is left of the request is not read: the connection ends with the answer."""


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
# OpenAI documentation, "Error codes": type and code. The code of 403 is our own.
#: Codex gives up at once on this code, and shows the message (tried with 0.169). After one that it does not know it
#: starts the same request again, five times.
_FINAL = "invalid_prompt"
_OPENAI: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "forbidden_by_muster"),
    404: ("invalid_request_error", None),
    413: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
}


def status_of(api: Api, status: int) -> int:
    """Return the status that a client of `api` receives.

    Codex (0.166, 0.169) repeats a request that was answered with 403 five times, for seven seconds, before it shows the
    message; it accepts 400 as final. Other OpenAI clients treat both alike.
    """
    return 400 if (api, status) == ("responses", 403) else status


def body(api: Api, status: int, message: str) -> bytes:
    """Return the JSON body of a refusal with this status."""
    return _json(_error(api, status, message))


def event(api: Api, message: str, *, status: int = 403) -> bytes:
    """Return the event that ends a stream midway. It must be written right after another event's end.

    Args:
        api: the format of the stream.
        message: why, and how to reopen it.
        status: selects the kind of error.
    """
    if api == "anthropic":
        return b"event: error\ndata: " + _json(_error(api, status, message)) + b"\n\n"
    if api == "chat":
        return b"data: " + _json(_error(api, status, message)) + b"\n\n"
    code = _FINAL if 400 <= status < 500 and status != 429 else _openai(status)[1]
    failed = {
        "type": "response.failed",
        "sequence_number": 0,
        "response": {
            "id": "resp_muster",
            "object": "response",
            "created_at": 0,
            "status": "failed",
            "error": {"code": code, "message": message},
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
    # The JSON has no line breaks, so any message stays within its event.
    return json.dumps(found, separators=(",", ":")).encode("ascii")
