"""A finished span, and the ids that spans have. Pure.

Ids are derived from the ids that the register has, so that a span that is sent twice is the same span. The salt keeps
installations apart whose chat systems count their events from one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Value: TypeAlias = str | int | float | bool
Kind: TypeAlias = Literal["internal", "client", "consumer", "producer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedSpan:
    """One step on the path of a message or a command. Times are seconds since the epoch."""

    trace: bytes
    """16 bytes."""
    id: bytes
    """8 bytes."""
    parent: bytes = b""
    """The id of the span that caused it; empty if none did."""
    name: str
    kind: Kind = "internal"
    started_at: float
    ended_at: float
    attributes: Mapping[str, Value] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True, slots=True)
class SpanIds:
    """Ids of traces and spans of one installation."""

    salt: int

    def trace(self, root: str) -> bytes:
        """Return the id of the trace that begins with `root`."""
        return self._digest("trace", root, 16)

    def span(self, kind: str, key: str) -> bytes:
        """Return the id of a span by the kind and the id of its row."""
        return self._digest(kind, key, 8)

    def _digest(self, kind: str, key: str, size: int) -> bytes:
        salt = self.salt.to_bytes(8, "big")
        digest = hashlib.blake2s(f"{kind}\0{key}".encode("utf-8", "surrogatepass"), digest_size=size, key=salt).digest()
        # An id of zeros is invalid (W3C Trace Context, "trace-id" and "parent-id").
        return digest if any(digest) else b"\1" * size


def is_sampled(trace: bytes, share: float) -> bool:
    """Return whether a trace is among the share of traces that are sent; always the same for one trace."""
    return int.from_bytes(trace[8:], "big") < share * 2.0**64
