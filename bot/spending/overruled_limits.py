"""Precedence of limits: which ones are set but do not govern an agent, and which one does. All views show this."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bot.egress_client.settings_push import HeldLimit
from bot.pacing.services import PacingServices
from bot.pacing.window_inputs import Spender, draw_of
from bot.pacing.window_loader import spenders_of
from bot.read_models.limits import LAUNCH_SCOPE, GovernedBy, OverruledLimit
from budget.limits.precedence import overruled
from budget.limits.scopes import Limit
from budget.scope_names import scope_of


async def look(services: PacingServices, held: Sequence[HeldLimit]) -> list[OverruledLimit]:
    """Return the allowances that do not govern the agents of their scope.

    Raises:
        RegisterError: the register cannot be read.
    """
    async with services.store.read() as tx:
        return decide(held, (await spenders_of(tx, services, services.settings)).values())


def decide(held: Sequence[HeldLimit], spenders: Iterable[Spender]) -> list[OverruledLimit]:
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
                by = LAUNCH_SCOPE if scope.startswith("launch:") else scope_of("allowance", scope)
                found.setdefault((place, by), []).append(spender.name)
            elif id(limit) in mine:
                governs.add(place)
    return [
        _overruled(allowances[place], GovernedBy(scope=by, agents=tuple(names), everybody=place not in governs))
        for (place, by), names in found.items()
    ]


def replaced(in_files: Iterable[HeldLimit]) -> list[OverruledLimit]:
    """Return the limits of files that a limit set by command for the same scope replaced."""
    return [
        _overruled(each, GovernedBy(scope=scope_of(each.kind, each.scope), agents=(), everybody=True))
        for each in in_files
    ]


def of_scope(found: Iterable[OverruledLimit], scope: str) -> list[OverruledLimit]:
    """Return the entries of one scope, as people write it."""
    return [each for each in found if each.scope == scope]


def _overruled(limit: HeldLimit, by: GovernedBy) -> OverruledLimit:
    return OverruledLimit(
        scope=scope_of(limit.kind, limit.scope), limit=limit.amount, unit=limit.unit, window=limit.window, by=by
    )


def _limit(held: HeldLimit) -> Limit:
    # Only scope and time decide, not the amount.
    return Limit(kind="allowance", scope=held.scope, amount=1, set_at=held.set_at)


def _of_launch(spender: Spender) -> list[Limit]:
    if spender.budget is None or not spender.launch_id:
        return []
    raised = spender.raised_at is not None
    scope = f"launch:{spender.launch_id}"
    return [Limit(kind="allowance", scope=scope, amount=1, may_raise=raised, set_at=spender.raised_at or 0.0)]
