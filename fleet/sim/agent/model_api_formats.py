"""How the built-in agent asks each model API, and understands its stream. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from core.errors import MusterError
from fleet.sim.agent.session_store import AssistantMessage, Message, ToolMessage, ToolUse, UserMessage
from fleet.sim.agent.tools import OfferedTool

MAX_TOKENS = 8_192


class ModelError(MusterError):
    """The model API did not give an answer; the message says what it said instead."""

    def __init__(self, message: str, *, status: int | None = None, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        """The API's own word, such as ``overloaded_error``."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ThoughtDelta:
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedTokens:
    """Tokens of one answer, as the API reports them."""

    input: int = 0
    """The whole input, what came from the cache included."""
    cached: int = 0
    output: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    cut_short: bool
    """The answer reached its limit of tokens."""
    spent: ReportedTokens | None


Piece: TypeAlias = TextDelta | ThoughtDelta | ToolUse | Finished


class Listener(Protocol):
    """Understands one stream: feed it every event; after `Finished` nothing more comes."""

    def feed(self, data: Mapping[str, Any]) -> Iterator[Piece]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelQuestion:
    """What is to be sent."""

    path: str
    """Below the base URL."""
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    listener: Listener


class ApiFormat(Protocol):
    base_url: str
    """Where the API is when nothing else was said."""
    model: str
    prefix: str
    """Of the environment variables that name its address and key."""

    def question(
        self, key: str, model: str, system: str, messages: Sequence[Message], offers: Sequence[OfferedTool]
    ) -> ModelQuestion: ...


def failure(source: Any, status: int | None = None) -> ModelError:
    """Return an error in any of the APIs' shapes."""
    error = source.get("error") if isinstance(source, dict) else None
    error = error if isinstance(error, dict) else {}
    kind = str(error.get("code") or error.get("type") or "")
    message = str(error.get("message") or "no reason given")
    head = "The model API answered" if status else "The model API broke off:"
    named = " ".join(part for part in (str(status or ""), f"({kind})" if kind else "") if part)
    return ModelError(f"{head} {named}: {message}" if named else f"{head} {message}", status=status, kind=kind)


def _value(source: str) -> dict[str, Any]:
    try:
        value = json.loads(source or "{}")
    except ValueError:
        raise ModelError(f"The model API sent a tool call whose input is not JSON: {source[:200]}") from None
    return value if isinstance(value, dict) else {}


# Anthropic Messages.


class Anthropic:
    base_url = "https://api.anthropic.com"
    model = "claude-sonnet-4-5"
    prefix = "ANTHROPIC"

    def question(
        self, key: str, model: str, system: str, messages: Sequence[Message], offers: Sequence[OfferedTool]
    ) -> ModelQuestion:
        asked = [_anthropic(message) for message in messages]
        # The whole conversation up to here is worth caching for the next request.
        asked[-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}
        offered = [
            {"name": offer.name, "description": offer.description, "input_schema": offer.schema} for offer in offers
        ]
        body = {
            "model": model,
            "max_tokens": MAX_TOKENS,
            "stream": True,
            "system": [{"type": "text", "text": system}],
            "tools": offered,
            "messages": asked,
        }
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
        return ModelQuestion(path="/v1/messages", headers=headers, body=body, listener=_AnthropicListener())


def _anthropic(message: Message) -> dict[str, Any]:
    content: list[dict[str, Any]]
    match message:
        case UserMessage(texts, images):
            content = [
                {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
                for kind, data in images
            ]
            content += [{"type": "text", "text": text} for text in texts]
            return {"role": "user", "content": content}
        case AssistantMessage(text, calls):
            content = [{"type": "text", "text": text}] if text else []
            content += [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.input} for c in calls]
            return {"role": "assistant", "content": content}
        case ToolMessage(outputs):
            content = [
                {"type": "tool_result", "tool_use_id": o.call, "content": o.text, "is_error": o.failed} for o in outputs
            ]
            return {"role": "user", "content": content}


class _AnthropicListener:
    def __init__(self) -> None:
        self._call: tuple[str, str] | None = None
        self._input = ""
        self._usage: dict[str, int] = {}
        self._stop = ""

    def feed(self, data: Mapping[str, Any]) -> Iterator[Piece]:
        match data.get("type"):
            case "message_start":
                self._count(data["message"].get("usage"))
            case "content_block_start" if data["content_block"].get("type") == "tool_use":
                self._call, self._input = (data["content_block"]["id"], data["content_block"]["name"]), ""
            case "content_block_delta":
                yield from self._delta(data["delta"])
            case "content_block_stop" if self._call:
                yield ToolUse(*self._call, _value(self._input))
                self._call = None
            case "message_delta":
                self._count(data.get("usage"))
                self._stop = data["delta"].get("stop_reason") or self._stop
            case "message_stop":
                yield Finished(self._stop == "max_tokens", self._spent())
            case "error":
                raise failure(data)

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[Piece]:
        match delta.get("type"):
            case "text_delta":
                yield TextDelta(delta["text"])
            case "thinking_delta":
                yield ThoughtDelta(delta["thinking"])
            case "input_json_delta":
                self._input += delta["partial_json"]

    def _count(self, usage: object) -> None:
        # Every field is cumulative, and may be absent, null or 0 later on: the largest is the true one.
        if isinstance(usage, dict):
            for name, value in usage.items():
                if isinstance(value, int):
                    self._usage[name] = max(value, self._usage.get(name, 0))

    def _spent(self) -> ReportedTokens:
        cached = self._usage.get("cache_read_input_tokens", 0)
        fresh = self._usage.get("input_tokens", 0) + self._usage.get("cache_creation_input_tokens", 0)
        return ReportedTokens(input=fresh + cached, cached=cached, output=self._usage.get("output_tokens", 0))


# OpenAI Responses.


class ResponsesFormat:
    base_url = "https://api.openai.com/v1"
    model = "gpt-5"
    prefix = "OPENAI"

    def question(
        self, key: str, model: str, system: str, messages: Sequence[Message], offers: Sequence[OfferedTool]
    ) -> ModelQuestion:
        offered = [
            {
                "type": "function",
                "name": offer.name,
                "description": offer.description,
                "parameters": offer.schema,
                "strict": False,
            }
            for offer in offers
        ]
        body = {
            "model": model,
            "stream": True,
            "store": False,
            "max_output_tokens": MAX_TOKENS,
            "instructions": system,
            "tools": offered,
            "input": [item for message in messages for item in _responses(message)],
        }
        headers = {"authorization": f"Bearer {key}"}
        return ModelQuestion(path="/responses", headers=headers, body=body, listener=_ResponsesListener())


def _responses(message: Message) -> Iterator[dict[str, Any]]:
    match message:
        case UserMessage(texts, images):
            content = [{"type": "input_image", "image_url": f"data:{kind};base64,{data}"} for kind, data in images]
            content += [{"type": "input_text", "text": text} for text in texts]
            yield {"type": "message", "role": "user", "content": content}
        case AssistantMessage(text, calls):
            if text:
                yield {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
            for call in calls:
                arguments = json.dumps(call.input)
                yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}
        case ToolMessage(outputs):
            for output in outputs:
                yield {"type": "function_call_output", "call_id": output.call, "output": output.text}


class _ResponsesListener:
    def feed(self, data: Mapping[str, Any]) -> Iterator[Piece]:
        match data.get("type"):
            case "response.output_text.delta":
                yield TextDelta(data["delta"])
            case "response.reasoning_summary_text.delta":
                yield ThoughtDelta(data["delta"])
            case "response.output_item.done" if data["item"].get("type") == "function_call":
                item = data["item"]
                yield ToolUse(item["call_id"], item["name"], _value(item["arguments"]))
            case "response.completed" | "response.incomplete":
                response = data["response"]
                yield Finished(response.get("status") == "incomplete", self._spent(response.get("usage")))
            case "response.failed":
                raise failure(data["response"])
            case "error":
                raise failure({"error": data})

    @staticmethod
    def _spent(usage: object) -> ReportedTokens | None:
        if not isinstance(usage, dict):
            return None
        cached = (usage.get("input_tokens_details") or {}).get("cached_tokens", 0)
        return ReportedTokens(input=usage.get("input_tokens", 0), cached=cached, output=usage.get("output_tokens", 0))


# OpenAI Chat Completions.


class CompletionsFormat:
    base_url = "https://api.openai.com/v1"
    model = "gpt-5-mini"
    prefix = "OPENAI"

    def question(
        self, key: str, model: str, system: str, messages: Sequence[Message], offers: Sequence[OfferedTool]
    ) -> ModelQuestion:
        offered = [
            {
                "type": "function",
                "function": {"name": offer.name, "description": offer.description, "parameters": offer.schema},
            }
            for offer in offers
        ]
        asked = [{"role": "system", "content": system}, *(part for message in messages for part in _chat(message))]
        body = {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_completion_tokens": MAX_TOKENS,
            "tools": offered,
            "messages": asked,
        }
        headers = {"authorization": f"Bearer {key}"}
        return ModelQuestion(path="/chat/completions", headers=headers, body=body, listener=_CompletionsListener())


def _chat(message: Message) -> Iterator[dict[str, Any]]:
    match message:
        case UserMessage(texts, images):
            content: list[dict[str, Any]] = [
                {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}} for kind, data in images
            ]
            content += [{"type": "text", "text": text} for text in texts]
            yield {"role": "user", "content": content}
        case AssistantMessage(text, calls):
            answer: dict[str, Any] = {"role": "assistant", "content": text or None}
            if calls:
                answer["tool_calls"] = [
                    {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.input)}}
                    for c in calls
                ]
            yield answer
        case ToolMessage(outputs):
            for output in outputs:
                yield {"role": "tool", "tool_call_id": output.call, "content": output.text}


class _CompletionsListener:
    def __init__(self) -> None:
        self._calls: dict[int, list[str]] = {}
        self._spent: ReportedTokens | None = None
        self._cut = False

    def feed(self, data: Mapping[str, Any]) -> Iterator[Piece]:
        if "error" in data:
            raise failure(data)
        if data.get("done"):
            for call_id, name, arguments in self._calls.values():
                yield ToolUse(call_id, name, _value(arguments))
            yield Finished(self._cut, self._spent)
            return
        usage = data.get("usage")
        if isinstance(usage, dict):
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
            self._spent = ReportedTokens(
                input=usage.get("prompt_tokens", 0), cached=cached, output=usage.get("completion_tokens", 0)
            )
        for choice in data.get("choices") or ():
            delta = choice.get("delta") or {}
            self._cut = self._cut or choice.get("finish_reason") == "length"
            if delta.get("content"):
                yield TextDelta(delta["content"])
            for part in delta.get("tool_calls") or ():
                call = self._calls.setdefault(part.get("index", 0), ["", "", ""])
                function = part.get("function") or {}
                call[0] = part.get("id") or call[0]
                call[1] = function.get("name") or call[1]
                call[2] += function.get("arguments") or ""


DIALECTS: Mapping[str, ApiFormat] = {
    "anthropic": Anthropic(),
    "responses": ResponsesFormat(),
    "chat": CompletionsFormat(),
}
