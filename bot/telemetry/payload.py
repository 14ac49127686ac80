"""What telemetry says, as the bytes that are sent. Pure.

Of an installation it says which parts of Muster are in use, and how many there are of a few things, in coarse steps. No
names that people chose, no texts, no paths, no addresses, no ids, no times; nothing that tells one installation from
another of its size. Words come from lists of Muster's own; whatever is not on them is `other`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

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
    """What is looked at. Most of it is not told: see `document`."""

    version: str
    python: tuple[int, int]
    system: str
    register: str
    """The kind of database."""
    connectors: Collection[str]
    """The kinds that are configured, each as often as it is."""
    runtimes: Collection[str]
    """Of each agent."""
    providers: Collection[str]
    """Of each account."""
    operators: int
    tasks: Mapping[str, int]
    """Of the last week, by the state in which they ended."""
    tokens: int
    """Of the last week."""


def count(number: int) -> str:
    """Return the step that a count lies in."""
    return next((step for most, step in _COUNTS if number <= most), _MANY)


def amount(tokens: int) -> str:
    """Return the step that an amount of tokens lies in: a power of ten."""
    return next((step for most, step in _AMOUNTS if tokens <= most), _MUCH)


def document(facts: TelemetryFacts) -> bytes:
    """Return what is shown, and what is sent."""
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
    """Two numbers: what is behind them may be of one machine alone."""
    numbers = version.split(".")[:2]
    return (
        ".".join(numbers) if len(numbers) == 2 and all(each.isascii() and each.isdigit() for each in numbers) else "0"
    )
