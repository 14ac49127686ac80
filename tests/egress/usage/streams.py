"""Event streams as providers send them, and what a meter makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from egress.provider_endpoints import Api
from egress.usage import Meter, UsageReading, meter_of


class Outcome(NamedTuple):
    """What became of a response."""

    passed: bytes
    """Before the ledger had it."""
    kept: bytes
    """Given to the client only after that."""
    reading: UsageReading


def event(found: dict[str, Any] | str, name: str | None = None) -> bytes:
    """One event; its name is its type, where it has one."""
    body = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    name = found.get("type") if isinstance(found, dict) and name is None else name
    return (f"event: {name}\n" if name else "").encode() + f"data: {body}\n\n".encode()


def cut(source: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """`source` in chunks that end at these places."""
    before = 0
    for place in sorted({min(place, len(source)) for place in places} | {len(source)}):
        if place > before:
            yield source[before:place]
            before = place


def through(meter: Meter, chunks: Iterable[bytes], *, whole: bool = True) -> Outcome:
    """Feed it all; `whole`: and say that the response ended in good order."""
    passed = b"".join([meter.feed(chunk) for chunk in chunks])
    if whole:
        meter.end()
    return Outcome(passed, meter.release(), meter.reading)


def metered(api: Api, *events: bytes, hide_usage: bool = False, whole: bool = True) -> Outcome:
    """A stream, event by event."""
    return through(meter_of(api, True, 200, hide_usage), events, whole=whole)


def document(api: Api, found: object, status: int = 200) -> Outcome:
    """A response that is one JSON document."""
    source = found if isinstance(found, bytes) else json.dumps(found).encode()
    half = len(source) // 2
    return through(meter_of(api, False, status, False), [source[:half], source[half:]])
