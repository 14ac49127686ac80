"""Documents assembled from streams: what the API would have returned without streaming. Pure.

Near a limit, the egress asks a provider for a stream although its client asked for a document, so that the response can
be cut. An assembler takes the events that a client would have received, and returns the document.

Sources: Anthropic documentation, "Streaming messages"; OpenAI API reference, "Responses", "Chat Completions" and their
streaming events. `is_known` decides which requests are converted. Unknown requests are not, so that no unexpected event
arrives here.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from core.errors import MusterError
from egress.provider_endpoints import Api
from egress.usage import usage_number_checks

LARGEST_DOCUMENT: Final = 32 * 2**20
"""The maximum length of an assembled stream, in bytes."""


class NotAssembledError(MusterError):
    """The stream cannot be assembled into a document."""


class AssembledDocument(NamedTuple):
    """The response to a client that asked for a document."""

    status: int
    found: Mapping[str, Any]

    def source(self) -> bytes:
        """Return it as JSON. Escapes preserve lone surrogates as the provider wrote them."""
        return json.dumps(self.found, separators=(",", ":")).encode("ascii")


# --- which requests ------------------------------------------------------------------------------------------------

_MEMBERS: Final[Mapping[Api, frozenset[str]]] = {
    "anthropic": frozenset(
        {
            *("model", "messages", "max_tokens", "system", "stop_sequences", "stream", "temperature", "top_k", "top_p"),
            *("tools", "tool_choice", "thinking", "metadata", "service_tier", "output_config", "context_management"),
            *("cache_control", "inference_geo"),
        }
    ),
    "chat": frozenset(
        {
            *(
                "model",
                "messages",
                "stream",
                "max_tokens",
                "max_completion_tokens",
                "n",
                "temperature",
                "top_p",
                "stop",
            ),
            *("stop", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "seed"),
            *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "response_format"),
            *("reasoning_effort", "verbosity", "metadata", "service_tier", "prediction", "prompt_cache_key"),
            *("prompt_cache_retention", "safety_identifier", "store", "user"),
        }
    ),
}
#: The values of Anthropic's beta header whose events are all known here.
_BETAS: Final = (
    *("claude-code-", "oauth-", "interleaved-thinking-", "prompt-caching-", "extended-cache-ttl-", "context-1m-"),
    *("output-128k-", "token-efficient-tools-", "structured-outputs-", "effort-", "web-search-", "advanced-tool-use-"),
    *("max-tokens-", "computer-use-", "context-management-"),
)


def is_known(api: Api, members: Iterable[str], tools: object) -> bool:
    """Return whether the document that this request asks for can be assembled.

    Args:
        api: the format of the request.
        members: the names in its outermost object.
        tools: the value of its member ``tools``.
    """
    if api == "responses":
        # The last event repeats the whole response, with any content.
        return "stream_options" not in members
    each = tools if isinstance(tools, list) else ()
    # Tool input that streams unchecked may not be JSON.
    eager = any(isinstance(tool, dict) and "eager_input_streaming" in tool for tool in each)
    return not eager and _MEMBERS[api].issuperset(members)


def knows_betas(values: Iterable[str]) -> bool:
    """Return whether all values of the header ``anthropic-beta`` are known here."""
    return all(not (name := part.strip()) or name.startswith(_BETAS) for value in values for part in value.split(","))


# --- assemblers ----------------------------------------------------------------------------------------------------


def assembler_of(api: Api) -> Assembler:
    """Return an assembler for one response."""
    if api == "anthropic":
        return _Messages()
    return _Responses() if api == "responses" else _Completions()


class Assembler(ABC):
    """Takes the events of one response, in order."""

    @abstractmethod
    def event(self, name: bytes, body: bytes) -> None:
        """Take one event.

        Raises:
            NotAssembledError: it cannot be part of a document.
        """

    @abstractmethod
    def document(self) -> AssembledDocument:
        """Return the document after all events.

        Raises:
            NotAssembledError: events are missing.
        """


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = usage_number_checks.loads(body)
    except ValueError:
        raise NotAssembledError("an event is not JSON") from None
    if not isinstance(found, dict):
        raise NotAssembledError("an event is not a JSON object")
    return found


class _Messages(Assembler):
    """Assembler for Anthropic Messages. Unknown events and blocks are accepted; an unknown delta is an error."""

    def __init__(self) -> None:
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, list[str]] = {}
        self._error: dict[str, Any] | None = None

    def event(self, name: bytes, body: bytes) -> None:
        if not body or name == b"ping":
            return
        found = _object(body)
        match found.get("type"):
            case "message_start" if isinstance(found.get("message"), dict):
                self._message = dict(found["message"])
            case "content_block_start" if isinstance(found.get("content_block"), dict):
                self._blocks[_index(found)] = dict(found["content_block"])
            case "content_block_delta" if isinstance(found.get("delta"), dict):
                index = _index(found)
                if index not in self._blocks:
                    raise NotAssembledError("a delta belongs to no content block")
                self._delta(index, self._blocks[index], found["delta"])
            case "message_delta":
                self._further(found)
            case "error":
                self._error = found

    def _delta(self, index: int, block: dict[str, Any], delta: Mapping[str, Any]) -> None:
        match delta:
            case {"type": "text_delta", "text": str(text)}:
                block["text"] = (block.get("text") or "") + text
            case {"type": "thinking_delta", "thinking": str(text)}:
                block["thinking"] = (block.get("thinking") or "") + text
            case {"type": "signature_delta", "signature": str(text)}:
                block["signature"] = text
            case {"type": "input_json_delta", "partial_json": str(text)}:
                self._inputs.setdefault(index, []).append(text)
            case {"type": "citations_delta", "citation": citation}:
                block["citations"] = [*(block.get("citations") or ()), citation]
            case _:
                raise NotAssembledError(f"a delta of the type {str(delta.get('type'))[:40]!r} is not known")

    def _further(self, found: Mapping[str, Any]) -> None:
        message = self._message
        if message is None:
            raise NotAssembledError("a message goes on that has not begun")
        delta, usage = found.get("delta"), found.get("usage")
        if isinstance(delta, dict):
            message |= delta
        if isinstance(usage, dict):
            before = message.get("usage")
            told = {key: value for key, value in usage.items() if value is not None}
            message["usage"] = {**usage, **(before if isinstance(before, dict) else {}), **told}
        message |= {key: value for key, value in found.items() if key not in ("type", "delta", "usage")}

    def document(self) -> AssembledDocument:
        if self._error is not None:
            return AssembledDocument(_status(self._error.get("error")), self._error)
        if self._message is None:
            raise NotAssembledError("there was no message")
        for index, pieces in self._inputs.items():
            if source := "".join(pieces):
                self._blocks[index]["input"] = _input(source)
        content = [block for _, block in sorted(self._blocks.items())]
        return AssembledDocument(200, {**self._message, "content": content})


def _index(found: Mapping[str, Any]) -> int:
    index = found.get("index")
    if not isinstance(index, int) or index < 0:
        raise NotAssembledError("a part of the response has no place in it")
    return index


def _input(source: str) -> object:
    """Parse the input of a tool. Truncated input, after ``max_tokens``, is parsed as far as possible, as SDKs do."""
    try:
        return json.loads(source)
    except (ValueError, RecursionError):
        pass
    try:
        return from_json(source, allow_partial=True)
    except ValueError:
        raise NotAssembledError("the input of a tool is not JSON") from None


class _Responses(Assembler):
    """Assembler for OpenAI Responses: the last event has the whole response."""

    def __init__(self) -> None:
        self._document: AssembledDocument | None = None

    def event(self, name: bytes, body: bytes) -> None:
        kind = name.decode("utf-8", "replace")
        if kind not in ("", "message", "error", *_ENDS) or not body or body == b"[DONE]":
            return
        found = _object(body)
        if kind in ("", "message"):
            kind = str(found.get("type"))
        response = found.get("response")
        if kind in _ENDS and isinstance(response, dict):
            error = response.get("error")
            if kind == "response.failed" and isinstance(error, dict):
                self._document = AssembledDocument(_status(error), {"error": _openai_error(error)})
            else:
                self._document = AssembledDocument(200, response)
        elif kind == "error":
            inner = found.get("error")
            error = inner if isinstance(inner, dict) else found
            self._document = AssembledDocument(_status(error), {"error": _openai_error(error)})

    def document(self) -> AssembledDocument:
        if self._document is None:
            raise NotAssembledError("there was no last event")
        return self._document


_ENDS: Final = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


class _Completions(Assembler):
    """Assembler for OpenAI Chat Completions."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._usage: object = None
        self._error: dict[str, Any] | None = None

    def event(self, name: bytes, body: bytes) -> None:
        if not body or body.startswith(b"[DONE]"):
            return
        found = _object(body)
        if found.get("error") is not None:
            self._error = found
            return
        for key, value in found.items():
            if key == "usage":
                self._usage = value if value is not None else self._usage
            elif key == "object":
                self._head[key] = "chat.completion"
            elif key == "choices":
                # Reserves the position that they have in the first chunk.
                self._head.setdefault(key, None)
            elif key != "obfuscation" and (value is not None or key not in self._head):
                self._head[key] = value
        choices = found.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                raise NotAssembledError("a choice is not a JSON object")
            self._choice(choice)

    def _choice(self, choice: Mapping[str, Any]) -> None:
        index = _index(choice)
        kept = self._choices.setdefault(
            index, {"index": index, "message": {"role": "assistant", "content": None}, "logprobs": None}
        )
        for key, value in choice.items():
            if key == "delta":
                if isinstance(value, dict):
                    _join_message(kept["message"], value)
            elif key == "logprobs":
                if isinstance(value, dict):
                    kept[key] = _joined_lists(kept[key] or {}, value)
            elif key != "index" and (value is not None or key not in kept):
                kept[key] = value

    def document(self) -> AssembledDocument:
        if self._error is not None:
            return AssembledDocument(_status(self._error["error"]), self._error)
        if not self._head:
            raise NotAssembledError("there was no chunk")
        choices = []
        for _, choice in sorted(self._choices.items()):
            message = choice["message"]
            calls = message.get("tool_calls")
            if isinstance(calls, dict):
                message = {**message, "tool_calls": [call for _, call in sorted(calls.items())]}
            choices.append({**choice, "message": message})
        found = {**self._head, "choices": choices}
        return AssembledDocument(200, found if self._usage is None else {**found, "usage": self._usage})


def _join_message(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for key, value in delta.items():
        if key == "role":
            message[key] = value or message[key]
        elif key == "tool_calls":
            for call in value if isinstance(value, list) else ():
                _join_call(message.setdefault(key, {}), call)
        elif key == "function_call" and isinstance(value, dict):
            message[key] = _joined(message.get(key) or {}, value)
        elif value is None:
            message.setdefault(key, None)
        elif isinstance(value, str):
            before = message.get(key)
            # A stream starts with an empty content where the document has null.
            nothing = key == "content" and not value and before is None
            message[key] = None if nothing else (before or "") + value
        elif isinstance(value, list):
            message[key] = [*(message.get(key) or ()), *value]
        else:
            raise NotAssembledError(f"what is said under {key[:40]!r} is not known")


def _join_call(calls: dict[int, dict[str, Any]], call: object) -> None:
    if not isinstance(call, dict):
        raise NotAssembledError("a tool call is not a JSON object")
    index = _index(call)
    kept = calls.setdefault(index, {})
    for key, value in call.items():
        if key == "index" or value is None:
            continue
        if isinstance(value, dict):
            kept[key] = _joined(kept.get(key) or {}, value)
        else:
            kept[key] = value


def _joined(older: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two objects and concatenate their strings. A name arrives whole, and some servers repeat it."""
    both = dict(older)
    for key, value in newer.items():
        before = both.get(key)
        if isinstance(value, str) and isinstance(before, str) and not (key == "name" and value == before):
            both[key] = before + value
        elif value is not None or key not in both:
            both[key] = value
    return both


def _joined_lists(older: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(older)
    for key, value in newer.items():
        before = both.get(key)
        if isinstance(value, list) and isinstance(before, list):
            both[key] = before + value
        elif value is not None or key not in both:
            both[key] = value
    return both


# --- errors --------------------------------------------------------------------------------------------------------

#: Anthropic documentation, "Errors"; OpenAI documentation, "Error codes", and the error codes of failed responses.
_STATUS: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "server_error": 500,
}
_USUAL: Final = 500


def _status(error: object) -> int:
    """Return the HTTP status that the API would have used for an error."""
    if isinstance(error, dict):
        for key in ("code", "type"):
            said = error.get(key)
            if type(said) is int and 400 <= said <= 599:
                return said
            if isinstance(said, str) and said in _STATUS:
                return _STATUS[said]
    return _USUAL


def _openai_error(error: Mapping[str, Any]) -> dict[str, Any]:
    code, kind = error.get("code"), error.get("type")
    if not isinstance(kind, str) or kind == "error":
        kind = "server_error" if _status(error) >= 500 else "invalid_request_error"
    return {"message": error.get("message"), "type": kind, "param": error.get("param"), "code": code}
