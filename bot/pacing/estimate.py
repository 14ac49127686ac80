"""The `estimate` command: the likely cost of a task, its start, the basis, and the accuracy of past estimates."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.pacing import next_opening
from bot.pacing.services import PacingServices
from bot.text import markdown
from bot.text.errors import UsageError
from budget import amounts
from budget.costs.task_cost import HALF_LIFE_S, LearnedCost, Range, learn
from core.validation_errors import suggestion
from fleet import roles
from fleet.runtimes import RUNTIMES
from scheduler.dispatch.task_history import pasts

#: Approximate number of characters per token, for text and code.
_SIGNS_PER_TOKEN = 4
_DAYS = HALF_LIFE_S / 86_400


async def estimate(
    ctx: Context[PacingServices], text: str, *, role: str | None, runtime: str | None, model: str | None, kind: str
) -> Reply:
    services = ctx.services
    if role is not None and role not in (known := (await asyncio.to_thread(services.planner.roles)).names):
        raise UsageError(f"{roles.unknown(role, known)}.")
    if runtime is not None and runtime not in RUNTIMES:
        near = suggestion(runtime, sorted(RUNTIMES))
        raise UsageError(
            f"--runtime: no runtime is called {markdown.one_line(runtime, 40)!r}.{near} There are "
            f"{', '.join(sorted(RUNTIMES))}."
        )
    async with services.store.read() as tx:
        found = await pasts(tx, role)
    cost = await services.dispatcher.cost_of(role=role, runtime=runtime, model=model, kind=kind)
    learned = learn(found, role=role, runtime=runtime, model=model, kind=kind, now=services.clock())
    # However short such tasks were, the agent has to read this one.
    least = len(text) / _SIGNS_PER_TOKEN
    tokens = _at_least(learned.tokens, least)
    cost = replace(cost, tokens=max(cost.tokens, least))
    now = await next_opening.prospect(services, cost, role=role, runtime=runtime, model=model)
    usd = None if learned.usd_per_token is None else tokens.times(learned.usd_per_token)
    data = {
        "role": role,
        "runtime": runtime,
        "model": model,
        "kind": kind,
        "tokens": _json(tokens, 0),
        "usd": None if usd is None else _json(usd, 6),
        "count": learned.count,
        "alike": learned.level,
        "basis": learned.basis,
        "guessed": learned.prior,
        "now": next_opening.as_json(now),
        "past": {
            "compared": learned.judged,
            "within": learned.held,
            "median_abs_error": None if learned.median_abs_error is None else round(learned.median_abs_error),
            "median_error_share": None if learned.median_error_share is None else round(learned.median_error_share, 4),
        },
    }
    begins = next_opening.in_words(now, services.clock(), services.settings.timezone)
    basis = _basis(learned)
    if model is not None and all(each.model != model for each in found):
        basis += f" No task with the model {markdown.code(markdown.one_line(model, 60))} has ended yet."
    parts = (_range(tokens, usd, guessed=learned.prior), begins, basis, _record(learned))
    return Reply("\n\n".join(parts), data)


def _at_least(tokens: Range, least: float) -> Range:
    return type(tokens)(p50=max(tokens.p50, least), p80=max(tokens.p80, least), p90=max(tokens.p90, least))


def _json(found: Range, places: int) -> dict[str, Any]:
    made = {name: round(getattr(found, name), places) for name in ("p50", "p80", "p90")}
    return made if places else {name: int(value) for name, value in made.items()}


def _range(tokens: Range, usd: Range | None, *, guessed: bool) -> str:
    # The quantile that is reserved is defined in `budget.costs.task_cost`.
    half, most = (" (reserved)", "") if guessed else ("", " (reserved)")
    shares = ((f"half stay within{half}", "p50"), (f"four of five{most}", "p80"), ("nine of ten", "p90"))
    rows = [
        (
            share,
            f"{amounts.tokens(getattr(tokens, name))} tokens",
            amounts.money(None if usd is None else getattr(usd, name)),
        )
        for share, name in shares
    ]
    return markdown.table(("such tasks", "weighted tokens", "USD"), rows)


def _basis(learned: LearnedCost) -> str:
    sentence = f"By {markdown.one_line(learned.basis, 300)}."
    if learned.count > 1:
        sentence += f" Recent tasks count more: the weight halves every {_DAYS:.0f} days."
    if learned.usd_per_token is None:
        sentence += " No price is known of them."
    return sentence


def _record(learned: LearnedCost) -> str:
    if not learned.judged or learned.median_abs_error is None:
        return "How good such estimates are is not known: none of these tasks had one."
    off = f"half were off by no more than {amounts.tokens(learned.median_abs_error)} tokens"
    if learned.median_error_share is not None:
        off += f" ({learned.median_error_share:.0%} of what the task used)"
    compared = "1 past estimate" if learned.judged == 1 else f"{learned.judged:,} past estimates"
    return f"Of {compared}, {learned.held:,} held, and {off}."
