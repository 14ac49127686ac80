"""What a task is projected to cost, by what was learned and by what somebody said of it. Pure.

A projection opens gates and decides whose turn it is, so whoever asks for a task has a reason to say little. A person's
word holds, but not below what half of such tasks came to, once enough of them are known. An agent's word only raises
it, and not above what nine of ten stay within: one that is said to need nearly all of a window would have others wait
for it.

What four of five stay within is projected only once it is known. A guess of that would hold the first words of a day
for hours under a small budget; so its median is projected, and limits hold in any case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from budget.pacing import Cost
from budget.reserve import HIGH_OF_PROJECTED

if TYPE_CHECKING:
    from budget.costs import Learned


def expected(
    learned: Learned,
    estimate: float | None = None,
    *,
    by_agent: bool = False,
    usd_per_token: float | None = None,
) -> Cost:
    """What a task is projected to cost.

    Args:
        learned: of such tasks.
        estimate: weighted tokens, as whoever asks for it says; None: nothing was said.
        by_agent: an agent asks for it.
        usd_per_token: what a weighted token costs where that was not learned of such tasks; None: not known either.
    """
    tokens, high = learned.p50 if learned.prior else learned.p80, learned.p90
    if estimate is not None and estimate >= 0:
        if by_agent:
            tokens = min(max(estimate, tokens), learned.p90)
        else:
            tokens = estimate if learned.prior else max(estimate, learned.p50)
            high = HIGH_OF_PROJECTED * tokens
    price = usd_per_token if learned.usd_per_token is None else learned.usd_per_token
    return Cost(
        tokens=tokens,
        usd=None if price is None else tokens * price,
        high_tokens=high,
        high_usd=None if price is None else high * price,
    )
