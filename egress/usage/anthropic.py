"""Anthropic Messages (Anthropic documentation, "Streaming messages" and "Prompt caching")."""

from __future__ import annotations

import re
from typing import Any

from budget.tokens import Tokens
from egress.usage import counts
from egress.usage.dialect import Dialect, Fate

_TYPE = re.compile(rb'"type"\s*:\s*"message_stop"')
_DELTAS = ("text", "thinking", "partial_json")
_TTLS = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
#: Events without a name, or with the name that an event has by default, are told by the type in their data.
_UNNAMED = frozenset({b"", b"message"})
_READ = frozenset({b"message_start", b"message_delta", b"content_block_delta", b"error"}) | _UNNAMED


class Messages(Dialect):
    """Input is additive and disjoint, output an inclusive total; what streams is cumulative, and never falls."""

    PATHS = (
        ("input_tokens",),
        ("output_tokens",),
        ("cache_read_input_tokens",),
        ("cache_creation_input_tokens",),
        *(("cache_creation", ttl) for ttl in _TTLS),
    )

    def event(self, name: bytes, body: bytes) -> Fate:
        if name == b"message_stop":
            return self._stop()
        if name not in _READ or not body:
            return Fate.PASS
        try:
            found = counts.loads(body)
        except ValueError:
            return self._unreadable(name, body)
        if not isinstance(found, dict):
            return self._unreadable(name, body)
        match name.decode() if name not in _UNNAMED else found.get("type"):
            case "content_block_delta":
                delta = found.get("delta")
                if isinstance(delta, dict):
                    self.write(delta.get(key) for key in _DELTAS)
            case "message_start":
                message = found.get("message")
                if isinstance(message, dict):
                    self.name(message)
                    self.merge(message.get("usage"))
            case "message_delta":
                self.merge(found.get("usage"))
                delta = found.get("delta")
                if isinstance(delta, dict) and delta.get("stop_reason") is not None:
                    self.final = self.final or counts.told(found.get("usage"), "output_tokens")
            case "message_stop":
                return self._stop()
            case "error":
                return self.fail(found.get("error"))
        return Fate.PASS

    def _stop(self) -> Fate:
        self.ended = True
        return Fate.LAST

    def _unreadable(self, name: bytes, body: bytes) -> Fate:
        self.garbled = True
        if name == b"error":
            return self.fail(body[:500].decode("utf-8", "replace"))
        if name in {b"message_start", b"message_delta"}:
            self.lost()
        return Fate.PASS

    def may_be_last(self, head: bytes) -> bool:
        return _TYPE.search(head, 0, 4_096) is not None

    def document(self, found: dict[str, Any]) -> None:
        self.name(found)
        if self.merge(found.get("usage")):
            self.final = counts.told(found.get("usage"), "output_tokens")
        if found.get("type") == "error" or (found.get("error") is not None and "content" not in found):
            self.fail(found.get("error"))

    def tokens(self) -> Tokens:
        usage = self.usage
        by_ttl = sum(counts.number(usage, "cache_creation", ttl) for ttl in _TTLS)
        return Tokens(
            input=counts.number(usage, "input_tokens"),
            output=counts.number(usage, "output_tokens"),
            cache_read=counts.number(usage, "cache_read_input_tokens"),
            cache_write=max(counts.number(usage, "cache_creation_input_tokens"), by_ttl),
        )
