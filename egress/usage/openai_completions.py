"""OpenAI Chat Completions (OpenAI API reference, "Chat Completions"), and the variants of compatible servers."""

from __future__ import annotations

from typing import Any

from budget.tokens import Tokens
from egress.usage import usage_number_checks
from egress.usage.openai_usage_object import disjoint
from egress.usage.parser_base import Fate, UsageParser

#: Compatible servers show reasoning in `reasoning` or `reasoning_content`; none sends both.
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


class CompletionsParser(UsageParser):
    """Parser for Chat Completions.

    A stream's usage is in a separate chunk, after the last choice and before ``[DONE]``.

    Args:
        hide_usage: whether to hide that chunk, because the client did not ask for it.
    """

    OUTPUT = "choices"
    PATHS = (
        ("prompt_tokens",),
        ("completion_tokens",),
        ("prompt_tokens_details", "cached_tokens"),
        ("prompt_tokens_details", "cache_write_tokens"),
        ("completion_tokens_details", "reasoning_tokens"),
    )

    def __init__(self, *, hide_usage: bool = False) -> None:
        super().__init__()
        self._hide_usage = hide_usage
        self._finished = False
        self._told = False
        """Some usage was told, perhaps a running one."""

    def event(self, name: bytes, body: bytes) -> Fate:
        if body.startswith(b"[DONE]"):
            self.final = self.final or self._told
            self.ended = True
            return Fate.LAST
        if not body:
            return Fate.PASS
        try:
            found = usage_number_checks.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self.garbled = True
            return Fate.PASS
        if found.get("error") is not None:
            return self.fail(found["error"])
        self.name(found)
        choices = found.get("choices")
        alone = not (isinstance(choices, list) and choices)
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._choice(choice)
        # Some compatible servers report running usage in every chunk, even in the one that ends the last choice, and
        # the final usage after it. Usage next to a choice is the bill only if the stream ends without another report.
        told = self._take(found.get("usage"), last=alone)
        if not alone or not told:
            return Fate.PASS
        return Fate.HIDE if self._hide_usage else Fate.KEEP

    def _take(self, usage: object, *, last: bool) -> bool:
        if not self.merge(usage):
            return False
        if usage_number_checks.told(usage, "prompt_tokens") and usage_number_checks.told(usage, "completion_tokens"):
            self._told = True
            self.final = self.final or last
        self._tokens, clean = disjoint(self.usage, "prompt", "completion")
        if not clean:
            self.lost()
        return True

    def _choice(self, choice: dict[str, Any]) -> None:
        if choice.get("finish_reason") is not None:
            self._finished = True
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        for key in _TEXTS:
            if key in delta:
                self.write(delta[key])
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                self.write(function.get("name"))
                self.write(function.get("arguments"))

    def close(self) -> None:
        # Some compatible servers send no [DONE].
        self.final = self.final or (self._told and self._finished)
        self.ended = self.ended or self.final or self._finished

    def may_be_last(self, head: bytes) -> bool:
        return False

    def document(self, found: dict[str, Any]) -> None:
        self.name(found)
        self._take(found.get("usage"), last=True)
        if found.get("error") is not None:
            self.fail(found["error"])

    def tokens(self) -> Tokens:
        return disjoint(self.usage, "prompt", "completion")[0]
