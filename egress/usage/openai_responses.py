"""OpenAI Responses (OpenAI API reference, "Responses" and "Streaming events")."""

from __future__ import annotations

import re
from typing import Any

from budget.costs.token_prices import SEARCHES
from budget.tokens import Tokens
from egress.ledger.model import OTHER_ERROR
from egress.usage import text_token_estimate, usage_number_checks
from egress.usage.openai_usage_object import disjoint
from egress.usage.parser_base import Fate, UsageParser

_LAST = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_TYPE = re.compile(rb'"type"\s*:\s*"response\.(?:completed|incomplete|failed|cancelled)"')
_NAME = re.compile(rb"(?:^|[\r\n])event: ?response\.(?:completed|incomplete|failed|cancelled)[\r\n]")
_UNNAMED = frozenset({b"", b"message"})


_SEARCHED = "response.web_search_call.completed"


class ResponsesParser(UsageParser):
    """Parser for OpenAI Responses. The usage arrives with the terminal event, which repeats the whole response."""

    OUTPUT = "output"
    DENSITY = text_token_estimate.OPENAI
    PATHS = (
        ("input_tokens",),
        ("output_tokens",),
        ("input_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cache_write_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._searches = 0

    def event(self, name: bytes, body: bytes) -> Fate:
        kind = name.decode("utf-8", "replace")
        if kind == _SEARCHED:
            self._searched(self._searches + 1)
            return Fate.PASS
        unnamed = name in _UNNAMED
        if not body or body == b"[DONE]" or not (unnamed or self._matters(kind)):
            return Fate.PASS
        try:
            found = usage_number_checks.loads(body)
        except ValueError:
            return self._unreadable(kind, body)
        if not isinstance(found, dict):
            return self._unreadable(kind, body)
        if unnamed:
            kind = str(found.get("type"))
        if kind == _SEARCHED:
            self._searched(self._searches + 1)
        elif kind.endswith(".delta"):
            self.write(found.get("delta"))
        elif kind == "response.created" or kind in _LAST:
            response = found.get("response")
            if isinstance(response, dict):
                self.document(response)
            elif kind in _LAST:
                self.lost()
            if kind in _LAST:
                if kind == "response.failed" and self.error is None:
                    self.error = OTHER_ERROR
                self.ended = True
                return Fate.LAST
        elif kind == "error":
            return self.fail(found.get("error") if isinstance(found.get("error"), dict) else found)
        return Fate.PASS

    def _matters(self, kind: str) -> bool:
        return kind.endswith(".delta") or kind in _LAST or kind in {"response.created", "error"}

    def _unreadable(self, kind: str, body: bytes) -> Fate:
        self.garbled = True
        if kind == "error":
            return self.fail(None)
        if kind in _LAST:
            self.lost()
            self.ended = True
            return Fate.LAST
        return Fate.PASS

    def may_be_last(self, head: bytes) -> bool:
        return _NAME.search(head, 0, 4_096) is not None or _TYPE.search(head, 0, 4_096) is not None

    def document(self, found: dict[str, Any]) -> None:
        self.name(found)
        usage = found.get("usage")
        if self.merge(usage):
            self.final = usage_number_checks.told(usage, "output_tokens") and usage_number_checks.told(
                usage, "input_tokens"
            )
            self._tokens, clean = disjoint(self.usage, "input", "output")
            if not clean:
                self.lost()
        output = found.get("output")
        if isinstance(output, list) and output:
            self._searched(sum(map(_is_search, output)))
        if found.get("error") is not None:
            self.error = usage_number_checks.error_type(found["error"])

    def _searched(self, times: int) -> None:
        """Record the number of web searches so far. The provider bills them but does not report them in its usage."""
        if times or self._searches:
            self._searches = times
            # Stored with the provider's usage, from which the price is calculated (budget.costs.token_prices).
            self.usage[SEARCHES] = min(times, usage_number_checks.MOST)

    def tokens(self) -> Tokens:
        return disjoint(self.usage, "input", "output")[0]


def _is_search(item: object) -> bool:
    """Return whether this is a billed search; opening a found page is free (OpenAI documentation, "Web search")."""
    if not isinstance(item, dict) or item.get("type") != "web_search_call":
        return False
    action = item.get("action")
    return not isinstance(action, dict) or action.get("type") in (None, "search")
