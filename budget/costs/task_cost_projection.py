"""What a task is projected to cost, by what was learned and by what someone said of it. Pure.

A projection opens gates and decides whose turn it is, so whoever asks for a task has a reason to say little. And who
says too much has others wait for what is never used. So a person's word has a floor and a ceiling, and both are
learned: what half of such tasks came to, and the part of what people said that such tasks used. Who says five times too
much is taken at a fifth, once five tasks showed it; who says five times too little at five times that, but at no more
than four of five such tasks came to. An agent's word only raises the projection, and not above what nine
of ten stay within.

What four of five stay within is projected only once it is known. A guess of that would hold the first words of a day
for hours under a small budget; so its median is projected, and limits hold in any case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from budget.windows.pace_admission import Cost
from budget.windows.running_task_reserve import HIGH_OF_PROJECTED

if TYPE_CHECKING:
    from budget.costs.task_cost_from_history import LearnedCost


def expected(
    learned: LearnedCost,
    estimate: float | None = None,
    *,
    by_agent: bool = False,
    usd_per_token: float | None = None,
) -> Cost:
    """Return what a task is projected to cost.

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
            part, most = (1.0, HIGH_OF_PROJECTED) if learned.of_said is None else learned.of_said
            tokens = estimate * min(1.0, part)
            if not learned.prior:
                # Who says too little is taken at more, as far as four of five such tasks go.
                tokens = max(tokens, learned.p50, min(estimate * part, learned.p80))
            high = max(HIGH_OF_PROJECTED * tokens, estimate * min(HIGH_OF_PROJECTED, most))
    price = usd_per_token if learned.usd_per_token is None else learned.usd_per_token
    return Cost(
        tokens=tokens,
        usd=None if price is None else tokens * price,
        high_tokens=high,
        high_usd=None if price is None else high * price,
    )
