"""The projected cost of a task, from learned costs and from a requester's own estimate. Pure.

A projection decides when and in which order tasks begin, so a requester has a reason to estimate too little. An
estimate that is too high makes other tasks wait for usage that never happens. So a person's estimate has a learned
minimum and maximum: the median of such tasks, and the share of people's estimates that such tasks used. After five
tasks, an estimate that is five times too high counts a fifth. One that is five times too low counts five times as much,
but at most the 80th percentile of such tasks. An agent's estimate can only raise the projection, and at most to the
90th percentile.

The projection is the 80th percentile only once that is learned. A guess of it could hold the first messages of a day
for hours under a small budget. So a guess is projected by its median; limits hold in any case.
"""

from __future__ import annotations

from budget.costs.task_cost_from_history import LearnedCost
from budget.windows.pace_admission import Cost
from budget.windows.running_task_reserve import HIGH_OF_PROJECTED


def expected(
    learned: LearnedCost,
    estimate: float | None = None,
    *,
    by_agent: bool = False,
    usd_per_token: float | None = None,
) -> Cost:
    """Return the projected cost of a task.

    Args:
        learned: the learned cost of such tasks.
        estimate: the requester's own estimate in weighted tokens, or None.
        by_agent: whether an agent requests the task.
        usd_per_token: the price of a weighted token if such tasks have none; None if this is unknown too.
    """
    tokens, high = learned.p50 if learned.prior else learned.p80, learned.p90
    if estimate is not None and estimate >= 0:
        if by_agent:
            tokens = min(max(estimate, tokens), learned.p90)
        else:
            part, most = (1.0, HIGH_OF_PROJECTED) if learned.of_said is None else learned.of_said
            tokens = estimate * min(1.0, part)
            if not learned.prior:
                # Raise an estimate that is too low, at most to the 80th percentile of such tasks.
                tokens = max(tokens, learned.p50, min(estimate * part, learned.p80))
            high = max(HIGH_OF_PROJECTED * tokens, estimate * min(HIGH_OF_PROJECTED, most))
    price = usd_per_token if learned.usd_per_token is None else learned.usd_per_token
    return Cost(
        tokens=tokens,
        usd=None if price is None else tokens * price,
        high_tokens=high,
        high_usd=None if price is None else high * price,
    )
