"""Odd deliveries and failures by chance: a seed gives always the same ones."""

from __future__ import annotations

import random

from fleet.sim.provider.normalized_request import Api
from tests.sim.odd_delivery import ENCODINGS
from tests.sim.odd_usage import KINDS

#: What is said where nothing else was ordered.
SAYING = "[[think: Well, well. \U0001f914]][[say: Grüße aus Köln, 日本語 and 🙂: as said.]]"


def orders(dice: random.Random, api: Api, *, stream: bool) -> str:
    """Directives for one answer, without its words.

    A little of everything: half of all answers are ordinary in what they tell, a fifth fail in some way.
    """
    found: list[str] = []
    if dice.random() < 0.3:
        encoding = dice.choice(ENCODINGS)
        # Where no header says it, only these two can be known by how they begin.
        unsaid = encoding in {"gzip", "zstd"} and dice.random() < 0.3
        found.append(f"[[encode: {encoding}{' unsaid' * unsaid}]]")
    if dice.random() < 0.5:
        found.append(f"[[chunks: {dice.choice(('1', '5', '100', 'whole', 'random', 'random'))}]]")
    if dice.random() < 0.5:
        found.append(f"[[usage: {dice.choice(KINDS)}]]")
    if dice.random() < 0.4:
        found.append(f"[[cache: {dice.randrange(50_000)} {dice.randrange(9_000)}]]")
    if stream:
        if dice.random() < 0.3:
            found.append(f"[[lines: {dice.choice(('crlf', 'cr'))}]]")
        found += [f"[[{name}]]" for name in ("noise", "trailing") if dice.random() < 0.3]
    if dice.random() < 0.1:
        found.append("[[linger: 0.05]]")
    if dice.random() < 0.1:
        found.append("[[delay: 0.02]]")
    if dice.random() < 0.2:
        found.append(_failure(dice, api, stream=stream))
    return "".join(found)


def _failure(dice: random.Random, api: Api, *, stream: bool) -> str:
    status = dice.choice((400, 429, 500, 503, 529))
    billed = " billed" if dice.random() < 0.3 else ""
    error = f"[[error: {status}{billed} No.]]"
    broken = f"[[{dice.choice(('disconnect', 'short', 'unfinished'))}]]"
    begun = "[[say: Half of it, and th]]"
    return dice.choice((error, error, begun + error if stream else error, broken, begun + broken))
