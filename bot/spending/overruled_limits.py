"""Precedence of allowances: which ones do not govern an agent, and why. All views of limits show this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bot.egress_client.settings_push import HeldLimit, scope_of
from bot.pacing.services import PacingServices
from bot.pacing.window_inputs import Spender, draw_of
from bot.pacing.window_loader import spenders_of
from bot.text import markdown
from budget import amounts
from budget.limits.precedence import overruled
from budget.limits.scopes import Limit
from budget.scope_names import shown_scope

#: Scope of a budget from `launch --budget`.
LAUNCH = "launch"
#: Maximum number of agents that a sentence names.
_NAMED = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Overruled:
    """An allowance that is set but does not govern these agents."""

    limit: HeldLimit
    agents: tuple[str, ...]
    by: str
    """The scope that governs them, as people write it; `LAUNCH`: the `--budget` of their launch."""
    everybody: bool
    """Whether it governs no agent at all."""

    @property
    def scope(self) -> str:
        return scope_of(self.limit.kind, self.limit.scope)


async def look(services: PacingServices, held: Sequence[HeldLimit]) -> list[Overruled]:
    """Return the allowances that do not govern the agents of their scope.

    Raises:
        RegisterError: the register cannot be read.
    """
    async with services.store.read() as tx:
        return decide(held, (await spenders_of(tx, services, services.settings)).values())


def decide(held: Sequence[HeldLimit], spenders: Iterable[Spender]) -> list[Overruled]:
    """Return the same from given facts. Pure."""
    allowances = [each for each in held if each.kind == "allowance"]
    found: dict[tuple[int, str], list[str]] = {}
    governs: set[int] = set()
    for spender in spenders:
        limits = [_limit(each) for each in allowances]
        given = [*limits, *_of_launch(spender)]
        draw = draw_of(spender)
        mine = {id(limit) for limit in limits if limit.scope in draw.scopes}
        lost = {id(limit): by for limit, by in overruled(given, draw)}
        for place, limit in enumerate(limits):
            if id(limit) in lost:
                scope = lost[id(limit)].scope
                by = LAUNCH if scope.startswith("launch:") else scope_of("allowance", scope)
                found.setdefault((place, by), []).append(spender.name)
            elif id(limit) in mine:
                governs.add(place)
    return [
        Overruled(
            limit=allowances[place],
            agents=tuple(names),
            by=by,
            everybody=place not in governs,
        )
        for (place, by), names in found.items()
    ]


def _limit(held: HeldLimit) -> Limit:
    # Only scope and time decide, not the amount.
    return Limit(kind="allowance", scope=held.scope, amount=1, set_at=held.set_at)


def _of_launch(spender: Spender) -> list[Limit]:
    if spender.budget is None or not spender.launch_id:
        return []
    raised = spender.raised_at is not None
    scope = f"launch:{spender.launch_id}"
    return [Limit(kind="allowance", scope=scope, amount=1, may_raise=raised, set_at=spender.raised_at or 0.0)]


def in_words(found: Overruled) -> str:
    """Return one sentence: which limit does not apply to which agents, and which one does."""
    limit = found.limit
    amount = amounts.amount(limit.amount, limit.unit)
    per = amounts.per(limit.window) if limit.unit != "share" else ""
    what = f"{markdown.code(shown_scope(found.scope))} ({amount}{per})"
    names = ", ".join(found.agents[:_NAMED])
    more = f" and {len(found.agents) - _NAMED} more" if len(found.agents) > _NAMED else ""
    why = f"{markdown.code(found.by)} is more specific and governs"
    if found.by == LAUNCH:
        why = "an admin launched with `--budget`, which governs"
        if limit.scope.startswith("agent:"):
            why = "an admin launched it with `--budget` after that, which governs"
    return f"{what} does not hold for {names}{more}: {why}."


def of_scope(found: Iterable[Overruled], scope: str) -> list[Overruled]:
    """Return the entries of one scope, as people write it."""
    return [each for each in found if each.scope == scope]


def governed_by(found: Iterable[Overruled]) -> Mapping[tuple[str, str, str | None], str]:
    """Map each limit that governs no agent to the scope that does; the key is its scope, unit and window."""
    return {(each.scope, each.limit.unit, each.limit.window): each.by for each in found if each.everybody}
