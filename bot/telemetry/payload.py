"""The content of a telemetry report, as the bytes that are sent. Pure.

A report says which parts of Muster an installation uses, and gives a few counts in coarse steps. It contains no names
that people chose, texts, paths, addresses, ids or times. Nothing distinguishes an installation from others of its size.
All names come from fixed lists in this module; anything else is reported as `other`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

SCHEMA: Final = 1
CONNECTORS: Final = frozenset({"terminal", "matrix", "discord", "tmux"})
RUNTIMES: Final = frozenset({"claude", "codex", "opencode", "pi", "custom", "sim"})
PROVIDERS: Final = frozenset({"anthropic", "openai"})
SYSTEMS: Final = frozenset({"linux", "darwin"})
STATES: Final = ("done", "failed", "cancelled")

_COUNTS: Final = ((0, "0"), (1, "1"), (5, "2-5"), (20, "6-20"), (100, "21-100"), (1_000, "101-1k"))
_MANY: Final = ">1k"
_AMOUNTS: Final = ((0, "0"), (10**6, "<=1M"), (10**7, "<=10M"), (10**8, "<=100M"), (10**9, "<=1G"))
_MUCH: Final = ">1G"


@dataclass(frozen=True, kw_only=True, slots=True)
class TelemetryFacts:
    """The facts that a report is built from. `document` sends only coarse forms of them."""

    version: str
    python: tuple[int, int]
    system: str
    register: str
    """The kind of database."""
    connectors: Collection[str]
    """The kind of each configured connector."""
    runtimes: Collection[str]
    """The runtime of each agent."""
    providers: Collection[str]
    """The provider of each account."""
    operators: int
    tasks: Mapping[str, int]
    """Tasks that ended in the last week, by final state."""
    tokens: int
    """Tokens used in the last week."""


def count(number: int) -> str:
    """Return the step of a count."""
    return next((step for most, step in _COUNTS if number <= most), _MANY)


def amount(tokens: int) -> str:
    """Return the step of an amount of tokens: a power of ten."""
    return next((step for most, step in _AMOUNTS if tokens <= most), _MUCH)


def document(facts: TelemetryFacts) -> bytes:
    """Return the report that is shown and sent."""
    told = {
        "schema": SCHEMA,
        "muster": _release(facts.version),
        "python": f"{facts.python[0]}.{facts.python[1]}",
        "system": _listed(facts.system, SYSTEMS),
        "register": _listed(facts.register, frozenset({"sqlite", "postgresql"})),
        "connectors": sorted({_listed(kind, CONNECTORS) for kind in facts.connectors}),
        "agents": count(len(facts.runtimes)),
        "runtimes": _counts(facts.runtimes, RUNTIMES),
        "accounts": _counts(facts.providers, PROVIDERS),
        "operators": count(facts.operators),
        "tasks_in_7_days": {state: count(facts.tasks.get(state, 0)) for state in STATES},
        "tokens_in_7_days": amount(facts.tokens),
    }
    return (json.dumps(told, indent=2, ensure_ascii=True) + "\n").encode()


def _counts(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    return {name: count(number) for name, number in sorted(Counter(_listed(each, known) for each in names).items())}


def _listed(word: str, known: Collection[str]) -> str:
    return word if word in known else "other"


def _release(version: str) -> str:
    """Return the first two numbers of a version; the rest may identify a single machine."""
    numbers = version.split(".")[:2]
    return (
        ".".join(numbers) if len(numbers) == 2 and all(each.isascii() and each.isdigit() for each in numbers) else "0"
    )
