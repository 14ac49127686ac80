"""How the simulated provider counts: one rule that a test can compute again.

A stretch of prompt is its compact JSON, without cache marks; a token is four bytes of UTF-8, rounded up. A picture is
1,500 tokens whatever its size. Real tokenizers differ; sums and orders of magnitude do not.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.sim.provider.normalized_request import Segment

PICTURE_TOKENS = 1_500
#: Providers cache no prefix shorter than this (Anthropic and OpenAI prompt caching documentation).
SHORTEST_CACHED = 1_024
#: OpenAI reports cached tokens in steps of this many.
OPENAI_STEP = 128
#: A tool call costs this much beside its name and input.
CALL_OVERHEAD = 8


def count(text: str) -> int:
    """Return tokens of a text."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def segment(value: Any, *, picture: bool = False) -> Segment:
    """Return a stretch of prompt from a block of the request; its `cache_control` is the mark."""
    mark = isinstance(value, dict) and bool(value.get("cache_control"))
    if mark:
        value = {key: part for key, part in value.items() if key != "cache_control"}
    source = compact(value)
    return Segment(source=source, tokens=PICTURE_TOKENS if picture else count(source), mark=mark)


@dataclass(frozen=True, kw_only=True, slots=True)
class BilledTokens:
    """What was billed, in tokens. The three input counts add up to the whole input; `output` includes `reasoning`."""

    input: int = 0
    """Neither read from the cache nor written to it."""
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def whole_input(self) -> int:
        return self.input + self.cache_read + self.cache_write

    def as_anthropic(self) -> dict[str, Any]:
        return {
            "input_tokens": self.input,
            "cache_creation_input_tokens": self.cache_write,
            "cache_read_input_tokens": self.cache_read,
            "cache_creation": {"ephemeral_5m_input_tokens": self.cache_write, "ephemeral_1h_input_tokens": 0},
            "output_tokens": self.output,
            "service_tier": "standard",
        }

    def as_responses(self) -> dict[str, Any]:
        return {
            "input_tokens": self.whole_input,
            "input_tokens_details": {"cached_tokens": self.cache_read},
            "output_tokens": self.output,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.whole_input + self.output,
        }

    def as_chat(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.whole_input,
            "completion_tokens": self.output,
            "total_tokens": self.whole_input + self.output,
            "prompt_tokens_details": {"cached_tokens": self.cache_read, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning, "audio_tokens": 0},
        }

    def as_ledger(self) -> Mapping[str, int]:
        return {
            "input_tokens": self.input,
            "cache_read_tokens": self.cache_read,
            "cache_write_tokens": self.cache_write,
            "output_tokens": self.output,
            "reasoning_tokens": self.reasoning,
        }


class PrefixCache:
    """Which beginnings of prompts are known, for so many of the latest."""

    def __init__(self, capacity: int = 4_096) -> None:
        self._capacity = capacity
        self._known: OrderedDict[str, None] = OrderedDict()

    def bill(self, segments: Iterable[Segment], *, owner: str, marked: bool) -> BilledTokens:
        """Split the input into fresh, read and written tokens, and remember its prefixes.

        With `marked`, prefixes are written where the client put a mark (Anthropic); otherwise everywhere, unbilled and
        in steps (OpenAI). `owner` keeps accounts and models apart.
        """
        chain, total, read, written = hashlib.sha256(owner.encode()), 0, 0, 0
        ends: list[str] = []
        for part in segments:
            chain.update(part.source.encode("utf-8", "surrogatepass") + b"\0")
            total += part.tokens
            key = chain.hexdigest()
            if total < SHORTEST_CACHED:
                continue
            if key in self._known:
                read = total
            if part.mark or not marked:
                written = total
                ends.append(key)
        for key in ends:
            self._known[key] = None
            self._known.move_to_end(key)
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
        if not marked:
            read -= read % OPENAI_STEP
            return BilledTokens(input=total - read, cache_read=read)
        fresh_write = max(0, written - read)
        return BilledTokens(input=total - read - fresh_write, cache_read=read, cache_write=fresh_write)


class TokenMeter:
    """Counts an answer while it is written, and cuts it where its limit lies.

    The output is the sum over the answer's blocks: of a text or thought its tokens, of a tool call those of its name
    and input and an overhead.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._kind = ""
        self._bytes = 0
        self._text = self._thought = self._calls = 0

    @property
    def output(self) -> int:
        open_block = -(-self._bytes // 4)
        return self._text + self._thought + self._calls + open_block

    @property
    def reasoning(self) -> int:
        return self._thought + (-(-self._bytes // 4) if self._kind == "thought" else 0)

    def words(self, kind: str, piece: str) -> str:
        """As much of a piece of text or thought as fits."""
        if kind != self._kind:
            self._settle()
            self._kind = kind
        source = piece.encode("utf-8", "surrogatepass")
        if self._limit is not None:
            room = (self._limit - self._text - self._thought - self._calls) * 4 - self._bytes
            if len(source) > room:
                piece = source[: max(0, room)].decode("utf-8", "ignore")
                source = piece.encode("utf-8")
        self._bytes += len(source)
        return piece

    def call(self, tokens: int) -> bool:
        """Return whether a tool call of so many tokens fits; if so, it is counted."""
        self._settle()
        if self._limit is not None and self.output + tokens > self._limit:
            return False
        self._calls += tokens
        return True

    def _settle(self) -> None:
        done = -(-self._bytes // 4)
        if self._kind == "thought":
            self._thought += done
        else:
            self._text += done
        self._kind, self._bytes = "", 0
