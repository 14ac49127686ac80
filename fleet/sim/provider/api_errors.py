"""The errors of the model APIs, in each one's own shape."""

from __future__ import annotations

from typing import Any

from fleet.sim.provider.normalized_request import Api

# Anthropic API documentation, "Errors".
_ANTHROPIC = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the API."),
    403: ("permission_error", "Your API key does not have permission to use this resource."),
    404: ("not_found_error", "The requested resource was not found."),
    413: ("request_too_large", "The request exceeds the maximum size."),
    429: ("rate_limit_error", "This request would exceed your rate limit."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}
# OpenAI API documentation, "Error codes": type and code.
_OPENAI = {
    400: ("invalid_request_error", None, "The request is not valid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "This request is not permitted."),
    404: ("invalid_request_error", "model_not_found", "The requested resource does not exist."),
    429: ("tokens", "rate_limit_exceeded", "Rate limit reached."),
    500: ("server_error", "server_error", "The server had an error while processing your request."),
    503: ("server_error", "server_is_overloaded", "The server is overloaded. Please try again later."),
    529: ("server_error", "server_is_overloaded", "The server is overloaded. Please try again later."),
}


def kind(api: Api, status: int) -> str:
    """Return the word by which the API's clients know this error."""
    if api == "anthropic":
        return _ANTHROPIC.get(status, _ANTHROPIC[500] if status >= 500 else _ANTHROPIC[400])[0]
    error_type, code, _ = _openai(status)
    return code or error_type


def body(api: Api, status: int, message: str, request_id: str) -> dict[str, Any]:
    """Return the JSON body of a refusal; of Anthropic and of Chat Completions also the event in mid-stream."""
    if api == "anthropic":
        error_type, usual = _ANTHROPIC.get(status, _ANTHROPIC[500] if status >= 500 else _ANTHROPIC[400])
        return {
            "type": "error",
            "error": {"type": error_type, "message": message or usual},
            "request_id": request_id,
        }
    error_type, code, usual = _openai(status)
    return {"error": {"message": message or usual, "type": error_type, "param": None, "code": code}}


def _openai(status: int) -> tuple[str, str | None, str]:
    return _OPENAI.get(status, _OPENAI[500] if status >= 500 else _OPENAI[400])
