"""Anthropic Messages (Anthropic documentation, "Streaming messages", "Prompt caching" and "Compaction").

The kinds of input are disjoint, and must be added. Output is an inclusive total; newer models report its thinking part
separately. Counts in a stream are cumulative, and never decrease. Compactions and advisors are billed in addition to
the totals. They appear in ``iterations``, and are added here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from budget.tokens import Tokens
from egress.usage import usage_number_checks
from egress.usage.parser_base import Fate, UsageParser

_LAST = re.compile(rb'(?:^|[\r\n])event: ?message_stop[\r\n]|"type"\s*:\s*"message_stop"')
_HEAD = 4_096
_DELTAS = ("text", "thinking", "partial_json")
_TTLS = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
_BESIDE = frozenset({"compaction", "advisor_message"})
#: For events without a name, or with the default name, the type in their data decides.
_UNNAMED = frozenset({b"", b"message"})
_READ = frozenset({b"message_start", b"message_delta", b"content_block_delta", b"error"}) | _UNNAMED
_COUNTS = (
    ("input_tokens",),
    ("output_tokens",),
    ("cache_read_input_tokens",),
    ("cache_creation_input_tokens",),
    *(("cache_creation", ttl) for ttl in _TTLS),
)


class Messages(UsageParser):
    """Parser for Anthropic Messages."""

    OUTPUT = "content"
    PATHS = (*_COUNTS, ("output_tokens_details", "thinking_tokens"))

    def __init__(self) -> None:
        super().__init__()
        self._told = False
        """A message_delta has told the output so far."""

    def event(self, name: bytes, body: bytes) -> Fate:
        if name == b"message_stop":
            return self._stop()
        if name not in _READ or not body:
            return Fate.PASS
        try:
            found = usage_number_checks.loads(body)
        except ValueError:
            return self._unreadable(name, body)
        if not isinstance(found, dict):
            return self._unreadable(name, body)
        match name.decode() if name not in _UNNAMED else found.get("type"):
            case "content_block_delta":
                delta = found.get("delta")
                if isinstance(delta, dict):
                    for key in _DELTAS:
                        if key in delta:
                            self.write(delta[key])
            case "message_start":
                message = found.get("message")
                if isinstance(message, dict):
                    self.name(message)
                    self.merge(message.get("usage"))
            case "message_delta":
                self._delta(found)
            case "message_stop":
                return self._stop()
            case "error":
                return self.fail(found.get("error"))
        return Fate.PASS

    def _delta(self, found: Mapping[str, Any]) -> None:
        usage, delta = found.get("usage"), found.get("delta")
        if self.merge(usage) and usage_number_checks.told(usage, "output_tokens"):
            self._told = True
        if isinstance(delta, dict) and delta.get("stop_reason") is not None:
            self.final = self.final or usage_number_checks.told(usage, "output_tokens")

    def _stop(self) -> Fate:
        self.final = self.final or self._told
        self.ended = True
        return Fate.LAST

    def _unreadable(self, name: bytes, body: bytes) -> Fate:
        self.garbled = True
        if name == b"error":
            return self.fail(None)
        if name in {b"message_start", b"message_delta"}:
            self.lost()
        return Fate.PASS

    def may_be_last(self, head: bytes) -> bool:
        return _LAST.search(head, 0, _HEAD) is not None

    def document(self, found: dict[str, Any]) -> None:
        self.name(found)
        usage = found.get("usage")
        self.final = self.merge(usage) and usage_number_checks.told(usage, "output_tokens")
        if found.get("type") == "error":
            self.fail(found.get("error"))

    def odd(self, usage: Mapping[str, Any]) -> bool:
        if super().odd(usage):
            return True
        iterations = usage.get("iterations")
        if iterations is None:
            return False
        if not isinstance(iterations, list) or len(iterations) > usage_number_checks.MOST_MEMBERS:
            return True
        return any(not isinstance(each, dict) or usage_number_checks.odd(each, _COUNTS) for each in iterations)

    def tokens(self) -> Tokens:
        total = _tokens(self.usage)
        for each in self._beside():
            total += _tokens(each)
        return total

    def _beside(self) -> Iterator[Mapping[str, Any]]:
        iterations = self.usage.get("iterations")
        for each in iterations if isinstance(iterations, list) else ():
            if each.get("type") in _BESIDE:
                yield each


def _tokens(usage: Mapping[str, Any]) -> Tokens:
    by_ttl = sum(usage_number_checks.number(usage, "cache_creation", ttl) for ttl in _TTLS)
    output = usage_number_checks.number(usage, "output_tokens")
    # The split is informational; the total is billed.
    thinking = min(output, usage_number_checks.number(usage, "output_tokens_details", "thinking_tokens"))
    return Tokens(
        input=usage_number_checks.number(usage, "input_tokens"),
        output=output - thinking,
        cache_read=usage_number_checks.number(usage, "cache_read_input_tokens"),
        cache_write=max(usage_number_checks.number(usage, "cache_creation_input_tokens"), by_ttl),
        reasoning=thinking,
    )
